"""Closed forms of queues with one server, to hold the simulation against."""

from __future__ import annotations

from planner.common.errors import PlannerError


def mean_wait_s(rate_per_s: float, service_s: float, squared_variation: float) -> float:
    """Mean wait before service, seconds: Pollaczek-Khinchine, rho s (1 + c^2) / (2 (1 - rho)) with rho = rate x service.

    ``squared_variation`` c^2 of the service time: 1 gives M/M/1, 0 gives M/D/1. Raises PlannerError at rho >= 1.
    """
    load = rate_per_s * service_s
    if load >= 1.0:
        raise PlannerError(
            "requests_per_s = {0:g} with {1:g} s of service: the queue has no steady state.", rate_per_s, service_s
        )
    return load * service_s * (1.0 + squared_variation) / (2.0 * (1.0 - load))


def mm1_wait_s(rate_per_s: float, service_s: float) -> float:
    """Mean wait of exponential service: rho s / (1 - rho)."""
    return mean_wait_s(rate_per_s, service_s, 1.0)


def md1_wait_s(rate_per_s: float, service_s: float) -> float:
    """Mean wait of constant service: rho s / (2 (1 - rho))."""
    return mean_wait_s(rate_per_s, service_s, 0.0)
