"""The script that Streamlit runs: one page."""

from planner.web.main import main

main()
