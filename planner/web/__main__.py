"""``python -m planner.web [options of streamlit run]``: load the planner, then serve ``app.py``: nobody waits for imports."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from streamlit.web.cli import main

APP = Path(__file__).resolve().parents[2] / "app.py"


def serve() -> None:
    """Serve the page; options are those of ``streamlit run``."""
    for name in ("planner.web.main", "planner.web.pages.compare"):
        importlib.import_module(name)
    sys.argv = ["streamlit", "run", str(APP), *sys.argv[1:]]
    main()


if __name__ == "__main__":
    serve()
