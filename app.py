"""The web page: ``make app``, or ``python -m planner.web``."""

from planner.web.main import main

main()
