"""``python -m planner.web [options of streamlit run]``: load the planner, then serve ``app.py``: nobody waits for imports."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from streamlit.web.cli import main
from streamlit.web.server.starlette import starlette_server

APP = Path(__file__).resolve().parents[2] / "app.py"


def send_at_once() -> None:
    """Switch off Nagle's algorithm where Streamlit binds its socket: small answers else wait 40 ms for an acknowledgement.

    asyncio does so for sockets of protocol TCP; Streamlit makes one of protocol 0. Accepted connections inherit the option.
    """
    bind: Callable[..., socket.socket] | None = getattr(starlette_server, "_bind_socket", None)
    if bind is None:  # another Streamlit, which binds otherwise
        return

    @wraps(bind)
    def bound(*arguments: Any, **options: Any) -> socket.socket:
        made = bind(*arguments, **options)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    starlette_server._bind_socket = bound


def serve() -> None:
    """Serve the page; options are those of ``streamlit run``."""
    for name in ("planner.web.main", "planner.web.pages.compare"):
        importlib.import_module(name)
    send_at_once()
    sys.argv = ["streamlit", "run", str(APP), *sys.argv[1:]]
    main()


if __name__ == "__main__":
    serve()
