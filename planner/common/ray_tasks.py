"""The same search on a Ray cluster: one task per cluster, framework, price and tp; workers that die are tried again."""

from __future__ import annotations

import logging
import socket
from typing import Any

from planner.common.errors import PlannerError
from planner.common.version import install_with

RETRIES = 5
"""Times a unit is started again after its worker died."""


def result_of(ray: Any, reference: Any) -> Any:
    try:
        found = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PlannerError):
            raise PlannerError(str(error.cause)) from None
        raise
    except ray.exceptions.WorkerCrashedError:
        raise PlannerError("engine = 'ray': a worker died {0} times on the same part; is memory short?", RETRIES + 1) from None
    return found


def _reach(address: str | None) -> None:
    """PlannerError at once for an address where nothing listens: Ray itself waits for minutes."""
    if address in (None, "auto", "local"):
        return
    host, colon, port = str(address).removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise PlannerError("address = {0!r}: must be auto, host:port or ray://host:port.", address)
    try:
        socket.create_connection((host, int(port)), timeout=10.0).close()
    except (OSError, OverflowError) as error:
        raise PlannerError("address = {0!r}: no Ray cluster answers at this address ({1}).", address, error) from None


def wants_token(ray: Any, error: Exception) -> bool:
    """Whether a connection failed for want of the right token: Ray's own error since 2.52, or gRPC's words from its client."""
    known = getattr(ray.exceptions, "AuthenticationError", ())
    return isinstance(error, known) or any(word in str(error).lower() for word in ("unauthenticated", "authentication token"))


def connected(address: str | None) -> Any:
    try:
        import ray
    except ImportError:
        raise PlannerError("engine = 'ray': Ray is not installed; {0}, or use engine = 'local'.", install_with("ray")) from None
    if not ray.is_initialized():
        _reach(address)
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            if wants_token(ray, error):
                raise PlannerError(
                    "address = {0!r}: the Ray cluster there asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to it.",
                    address,
                ) from None
            if not isinstance(error, ConnectionError | ValueError | RuntimeError):
                raise
            raise PlannerError("address = {0!r}: no Ray cluster answers at this address ({1}).", address, error) from None
    return ray
