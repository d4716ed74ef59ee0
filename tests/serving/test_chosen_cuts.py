"""The cut is chosen by what is asked, wherever it is asked: a shorter text, a newer card or more GPUs never answer less."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.common.errors import PlannerError
from planner.serving.cuts import CUT, cuts
from planner.serving.deploy import serve
from planner.serving.deployment import Deployment
from planner.serving.load import CROWDED
from planner.studies.sizing import sizes

MODELS = ("llama-3.2-1b", "llama-3.1-8b", "gpt-oss-20b", "qwen3-30b-a3b", "qwen3-32b", "mixtral-8x7b")
OLDER_AND_NEWER = (
    ("a100-sxm4-80gb", "h100-sxm5-80gb"), ("h100-sxm5-80gb", "h200-sxm-141gb"), ("a100-sxm4-40gb", "a100-sxm4-80gb"),
    ("rtx-3090-24gb", "rtx-4090-24gb"), ("v100-sxm2-32gb", "a100-sxm4-80gb"), ("h100-pcie-80gb", "h100-sxm5-80gb"),
)  # fmt: skip
ASKED = {"engine": "vllm", "weights": "fp16", "prompt": 512, "output": 128}
LATENCY = 1.25
"""What a cut that is called the quickest may lose to another, once both are simulated: it is told by a time without waits."""


def asked(model: str, card: str, gpus: int, **fields: Any) -> Deployment:
    return serve(model=model, cluster={"accelerator": card, "num_gpus": gpus}, serving={**ASKED, **fields})


def done(d: Deployment) -> float:
    """Requests per second at what was asked; 0 where it does not fit."""
    if not d.fits:
        return 0.0
    return float((d.load.requests_per_s if d.load is not None else d.requests_per_s) or 0.0)


def every_cut(d: Deployment, *, sure: bool = True, **fields: Any) -> list[Deployment]:
    """The same question in every cut that fits, ``sure``: that surely fits."""
    found = []
    for cut in cuts(d.model, d.cluster, d.engine):
        try:
            found.append(asked(d.model.name, d.cluster.accelerator.name, d.cluster.num_gpus, **fields, **cut))
        except PlannerError:
            continue
    return [one for one in found if (one.certainty == "fits" if sure else one.fits)]


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, tuple[str, str], int, dict[str, Any]]:
    """(model, older and newer card, GPUs, what is asked)."""
    load = draw(st.sampled_from(["batch", "clients"]))
    fields = {load: draw(st.sampled_from([1, 4, 16, 64])), "prompt": draw(st.sampled_from([256, 1024])), "output": 128}
    return draw(st.sampled_from(MODELS)), draw(st.sampled_from(OLDER_AND_NEWER)), draw(st.sampled_from([1, 2, 4])), fields


@settings(max_examples=8, deadline=None)
@given(question=questions())
def test_a_shorter_text_a_newer_card_and_more_gpus_never_answer_less(
    question: tuple[str, tuple[str, str], int, dict[str, Any]],
) -> None:
    model, (older, newer), gpus, fields = question
    slack = 1.0 + 1e-9 if "batch" in fields else 1.05  # clients are simulated
    here = asked(model, older, gpus, **fields)
    for other in (
        asked(model, older, gpus, **{**fields, "prompt": fields["prompt"] // 2}),
        asked(model, older, gpus, **{**fields, "output": fields["output"] // 2}),
        asked(model, newer, gpus, **fields),
        asked(model, older, 2 * gpus, **fields),
    ):
        assert done(other) * slack >= done(here), other.cluster.name


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_a_batch_is_served_by_the_cut_with_the_most_output_at_it(batch: int) -> None:
    chosen = asked("qwen3-30b-a3b", "a100-sxm4-80gb", 2, batch=batch)
    assert done(chosen) == pytest.approx(max(done(one) for one in every_cut(chosen, batch=batch)), rel=1e-12)


@pytest.mark.parametrize(("clients", "dp"), [(1, 1), (2, 2), (64, None)])
def test_clients_who_leave_replicas_idle_count_once(clients: int, dp: int | None) -> None:
    """One client is served by all GPUs together, not by one of eight replicas that each have a client."""
    chosen = asked("llama-3.1-8b", "h100-sxm5-80gb", 4, clients=clients)
    assert dp is None or chosen.serving.dp <= dp
    assert done(chosen) >= 0.95 * max(done(one) for one in every_cut(chosen, clients=clients))
    alone = asked("llama-3.1-8b", "h100-sxm5-80gb", 1, clients=clients, tp=1)
    four = asked("llama-3.1-8b", "h100-sxm5-80gb", 4, clients=4 * clients, tp=1, dp=4)
    idle = asked("llama-3.1-8b", "h100-sxm5-80gb", 4, clients=clients, tp=1, dp=4)
    assert done(four) == pytest.approx(4.0 * done(alone))
    assert done(idle) >= done(alone) * (1.0 - 1e-9)
    if clients == 1:
        assert done(idle) == pytest.approx(done(alone))
        assert idle.load is not None
        assert alone.load is not None
        assert idle.load.busy == pytest.approx((alone.load.busy or 0.0) / 4.0)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.85, 3.0])
def test_a_rate_is_carried_by_the_quickest_cut_that_carries_it(share: float) -> None:
    most = max(one.capacity_requests_per_s or 0.0 for one in every_cut(asked("llama-3.1-8b", "h100-sxm5-80gb", 4)))
    fields = {"requests_per_s": share * most, "num_requests": 400}
    chosen = asked("llama-3.1-8b", "h100-sxm5-80gb", 4, **fields)
    assert chosen.load is not None
    if share > 1.0:
        assert chosen.load.capacity_requests_per_s == pytest.approx(most)
        return
    assert chosen.load.stable
    others = [d.load for d in every_cut(chosen, **fields) if d.load is not None and d.load.utilisation <= CROWDED]
    assert (chosen.load.e2e_s or {})["p50"] <= LATENCY * min((load.e2e_s or {})["p50"] for load in others)


def test_size_and_serve_choose_the_same_cut_for_a_batch() -> None:
    for model, card in (("qwen3-30b-a3b", "a100-sxm4-80gb"), ("llama-3.1-8b", "l40s")):
        fields = {"prompt": 512, "output": 128, "engine": "vllm", "batch": 4}
        (row,) = sizes(model, "serve", accelerator=card, gpus=2, **fields).rows
        d = serve(model=model, cluster={"accelerator": card, "num_gpus": 2}, serving=fields)
        assert row.tokens_per_s == pytest.approx(d.output_tokens_per_s)
        assert row.cut == (", ".join(f"{name} {getattr(d.serving, name)}" for name in CUT if getattr(d.serving, name) > 1))


def test_capacity_is_there_with_and_without_a_load() -> None:
    alone = asked("llama-3.1-8b", "h100-sxm5-80gb", 1, tp=1)
    rated = asked("llama-3.1-8b", "h100-sxm5-80gb", 1, tp=1, requests_per_s=1.0, num_requests=200)
    many = asked("llama-3.1-8b", "h100-sxm5-80gb", 1, tp=1, clients=8)
    assert alone.capacity_requests_per_s == rated.capacity_requests_per_s == many.capacity_requests_per_s
    for d in (alone, rated, many):
        assert d.at_capacity is not None
        assert d.at_capacity.power_w is not None
        assert d.to_dict()["capacity_requests_per_s"] == d.capacity_requests_per_s
        assert "capacity_requests_per_s" in d.capacity_intervals
    nothing = asked("llama-3-70b", "rtx-3090-24gb", 1)
    assert nothing.capacity_requests_per_s is None
    assert nothing.at_capacity is None


@pytest.mark.parametrize(
    ("card", "fields"),
    [
        ("a100-sxm4-80gb", {"weights": "fp8"}), ("v100-sxm2-32gb", {"weights": "bf16"}), ("h100-sxm5-80gb", {"weights": "nvfp4"}),
        ("h100-sxm5-80gb", {"engine": "huggingface", "clients": 4}),
        ("h100-sxm5-80gb", {"engine": "vllm-v0", "kv_dtype": "int8"}),
    ],
)  # fmt: skip
def test_what_no_cut_mends_is_told_of_several_gpus_as_of_one(card: str, fields: dict[str, Any]) -> None:
    """The reason is the GPU's or the engine's: it is not hidden behind the number of GPUs."""
    said = []
    for gpus in (1, 4):
        with pytest.raises(PlannerError) as refused:
            asked("llama-3.1-8b", card, gpus, **fields)
        said.append(str(refused.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(("prompt", "clients"), [(16_000, 64), (8000, 64), (4000, 64), (512, 8)])
def test_clients_are_served_by_the_cut_that_answers_most_of_them(prompt: int, clients: int) -> None:
    """Also where groups of attention would have room for more requests, but read their prompts one after the other."""
    fields = {"prompt": prompt, "output": 500, "clients": clients, "weights": "fp8-block"}
    chosen = asked("deepseek-v3", "h200-sxm-141gb", 8, **fields)
    others = every_cut(chosen, sure=False, **fields)
    assert len({(d.serving.tp, d.serving.ep) for d in others}) > 2
    assert done(chosen) >= max(map(done, others)) * (1.0 - 1e-9)
