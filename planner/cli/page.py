"""``planner app``: the page in a browser."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from planner.common.errors import PlannerError
from planner.common.version import install_with


def app_command(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on this machine.")] = 8501,
) -> None:
    """Serve the page on this machine until Ctrl-C; open the address that it prints."""
    if find_spec("streamlit") is None or find_spec("altair") is None:
        raise PlannerError("app: the page needs the extra `app`, which is not installed; {0}.", install_with("app"))
    raise typer.Exit(subprocess.call([sys.executable, "-m", "planner.web", "--server.port", str(port)]))
