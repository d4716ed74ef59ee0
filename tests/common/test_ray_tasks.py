"""Connections to a Ray cluster, told in words, and the example of one on Kubernetes. Ray itself is played."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from places import DOCS

from planner.common.errors import PlannerError
from planner.common.ray_tasks import connected


class AuthenticationError(Exception):
    """As ray.exceptions.AuthenticationError, which is no RuntimeError."""


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def played(error: Exception, known: bool = True) -> Any:
    def init(**_: Any) -> None:
        raise error

    exceptions = SimpleNamespace(**({"AuthenticationError": AuthenticationError} if known else {}))
    return SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=exceptions)


@pytest.mark.parametrize(
    ("error", "known", "said"),
    [
        (
            AuthenticationError("Token authentication is enabled"),
            True,
            "the Ray cluster there asks for a token; set RAY",
        ),
        (
            ConnectionError("StatusCode.UNAUTHENTICATED: missing"),
            False,
            "the Ray cluster there asks for a token; set RAY",
        ),
        (ConnectionError("timed out"), True, "no Ray cluster answers at this address (timed out)"),
        (RuntimeError("version mismatch"), False, "no Ray cluster answers at this address (version mismatch)"),
    ],
)
def test_a_cluster_that_asks_for_a_token_is_not_said_to_be_absent(
    error: Exception, known: bool, said: str, listening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", played(error, known))
    with pytest.raises(PlannerError) as caught:
        connected(listening)
    assert said in str(caught.value)


def test_the_example_on_kubernetes_is_what_the_guide_says_of_it() -> None:
    """Names and ports of the guide's commands are those of the file; KubeRay names service and secret after the cluster."""
    cluster = yaml.safe_load((DOCS / "guide" / "raycluster.yaml").read_text(encoding="utf-8"))
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert tuple(map(int, spec["rayVersion"].split("."))) >= (2, 52, 0)  # the first with tokens
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert all(container["image"].endswith(spec["rayVersion"]) for container in containers)
    assert all(container["resources"]["requests"] == container["resources"]["limits"] for container in containers)
    ports = {port["name"]: port["containerPort"] for port in containers[0]["ports"]}
    assert all(group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in spec["workerGroupSpecs"])
    for page in ("guide/search.md", "zh/guide/search.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        assert f"service/{name}-head-svc {ports['client']}:{ports['client']}" in text
        assert f"kubectl get secret {name} " in text
        assert f"--address ray://localhost:{ports['client']}" in text
        assert "raycluster.yaml" in text
