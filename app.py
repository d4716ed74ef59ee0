"""The web page: ``make app``, or ``streamlit run app.py``."""

from planner.web.main import main

main()
