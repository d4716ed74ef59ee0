"""``python -m planner.web [options of streamlit run]``: draw the page once, then serve ``app.py``: nobody waits for imports."""

from __future__ import annotations

import gc
import importlib
import logging
import socket
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from planner.common.version import install_with

try:
    from streamlit.testing.v1 import AppTest
    from streamlit.web.cli import main
except ModuleNotFoundError:
    sys.exit(f"error: the page needs the extra `app`, which is not installed; {install_with('app')}.")

APP = Path(__file__).with_name("app.py")
"""Streamlit reads .streamlit/config.toml beside it, wherever the command is given."""


def warm_up() -> None:
    """Draw the page for nobody: catalogs, curves and charts are then there before the first visitor comes."""
    logging.disable(logging.WARNING)  # Streamlit's words on running without a server
    try:
        AppTest.from_file(str(APP), default_timeout=120).run()
    finally:
        logging.disable(logging.NOTSET)
    gc.freeze()  # what is there now stays: no answer waits for its being looked through


def send_at_once() -> None:
    """Switch off Nagle's algorithm where Streamlit binds its socket: small answers else wait 40 ms for an acknowledgement.

    asyncio does so for sockets of protocol TCP; Streamlit makes one of protocol 0. Accepted connections inherit the option.
    """
    try:
        starlette_server: Any = importlib.import_module("streamlit.web.server.starlette.starlette_server")
        bind: Callable[..., socket.socket] = starlette_server._bind_socket
    except (ImportError, AttributeError):  # another Streamlit, which binds otherwise
        return

    @wraps(bind)
    def bound(*arguments: Any, **options: Any) -> socket.socket:
        made = bind(*arguments, **options)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    starlette_server._bind_socket = bound


HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    ),
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""Of every answer: nothing is loaded from elsewhere, no other site shows the page in a frame, no link tells the scenario in the
address. Vega compiles its expressions, and Streamlit writes styles into its page: hence the two unsafe words."""


class Headed:
    """An ASGI application whose answers carry HEADERS."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self.headers]}
            await send(message)

        await self.app(scope, receive, answer)


def with_headers() -> None:
    """Let Streamlit's server send HEADERS."""
    try:
        server: Any = importlib.import_module("streamlit.web.server.starlette.starlette_server")
        create: Callable[..., Any] = server.create_starlette_app
    except (ImportError, AttributeError):  # another Streamlit, which is made otherwise
        return

    @wraps(create)
    def created(*arguments: Any, **options: Any) -> Any:
        app = create(*arguments, **options)
        app.add_middleware(Headed)
        return app

    server.create_starlette_app = created


def serve() -> None:
    """Serve the page; options are those of ``streamlit run``."""
    warm_up()
    send_at_once()
    with_headers()
    sys.argv = ["streamlit", "run", str(APP), *sys.argv[1:]]
    main()


if __name__ == "__main__":
    serve()
