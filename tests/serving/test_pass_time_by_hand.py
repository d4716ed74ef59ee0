"""Seconds of a pass from constants that no engine has, each worked out by hand: what the host does, which kernels hold for a row,
how stages and groups wait for each other."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import ACCELERATOR, NODE, model, number
from serving_examples import LLAMA, MIXTRAL, deployment, with_engine

from planner.hardware.cluster import Cluster, host_copy_rate
from planner.operators.row import Row, communication
from planner.serving.pass_time import PassTime, Times, constants_of, kernel_constants
from planner.serving.rows import pass_rows
from planner.workload.resolve import as_model


@pytest.mark.parametrize(("waits", "total"), [(False, (6.5, 8.5)), (True, (10.5, 14.5))])
def test_the_host_launches_beside_the_device_or_waits_for_it(waits: bool, total: tuple[float, float]) -> None:
    passed = PassTime(
        device_s=np.array([3.0, 3.0]), communication_s=np.array([2.0, 2.0]), host_link_s=np.array([1.0, 1.0]),
        host_layers_s=np.array([4.0, 8.0]), host_step_s=np.array([0.5, 0.5]), waits=waits,
    )  # fmt: skip
    assert passed.total.tolist() == list(total)


HOST: dict[str, Any] = {
    "host_s_per_layer": 0.1, "int8_host_rate": 2.0, "int4_host_rate": 3.0, "awq_host_rate": 1.5, "narrow_host_rate": 5.0,
    "host_s_per_expert": 0.01, "host_s_per_step": 7.0, "host_s_per_sequence": 0.25, "host_s_per_stage": 0.5,
    "launch_s_per_layer": 0.2, "expert_launch_s_per_layer": 0.3, "mxfp4_launch_s_per_layer": 0.9, "captured_context": 100,
    "captured_batch": 8, "eager_host_s_per_layer": 0.4, "graph_sequences": 6,
}  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "rate"),
    [("bf16", 1.0), ("int8-weight-only", 2.0), ("int4-gptq", 3.0), ("int4-awq", 4.5), ("fp8", 5.0)],
)
def test_the_host_s_part_of_a_pass_by_hand(weights: str, rate: float) -> None:
    """Four layers of 0.1 s by the format; 4 x 8 experts of 0.01 s; launches of 0.3 s a layer of experts in a pass with prompts
    and where no graph of six sequences is as wide; 0.4 s a layer beyond a context of 100 or eight sequences."""
    for m, experts, launch in ((model(LLAMA), 0.0, 0.2), (model(MIXTRAL), 0.32, 0.3)):
        times = Times(setting=with_engine(deployment(m, weights=weights), **HOST))
        assert times.prompt_launch_s == pytest.approx(4 * launch)
        for phase, sequences, past, launched, eager in (
            ("prefill", 2, 500, True, False), ("decode", 6, 99, False, False), ("decode", 6, 100, False, True),
            ("decode", 7, 50, True, False), ("decode", 9, 50, True, True),
        ):  # fmt: skip
            layers, step = times.host_s(times.shape(phase, sequences, 1.0, past))  # type: ignore[arg-type]
            by_hand = 4 * (0.1 * rate + 0.4 * eager) + experts + 4 * launch * launched
            assert number(layers) == pytest.approx(by_hand), (phase, sequences, past)
            assert number(step) == pytest.approx(7.0 + 0.25 * sequences)


def test_stages_and_groups_of_the_host_by_hand() -> None:
    """Half a second a stage behind the first; each attention group has a host of its own unless one rank streams all answers."""
    staged = Times(setting=with_engine(deployment(model(LLAMA), 4, pp=4), **HOST))
    assert number(staged.host_s(staged.shape("prefill", 8.0, 1.0, 0.0))[1]) == pytest.approx(7.0 + 8 * 0.25 + 3 * 0.5)
    grouped = deployment(model(MIXTRAL), 4, ep=4)
    for together, here in ((False, 2.0), (True, 8.0)):
        times = Times(setting=with_engine(grouped, **HOST, answers_on_one_rank=together))
        assert number(times.host_s(times.shape("decode", 8.0, 1.0, 0.0))[1]) == pytest.approx(7.0 + 0.25 * here)


def test_what_is_launched_without_a_graph() -> None:
    """Of stated batches those that are none of them; else those wider than the widest; none where there is no graph to leave."""
    times = Times(setting=with_engine(deployment(model(LLAMA)), graph_sequences=4))
    shape = times.shape("decode", np.arange(1.0, 7.0), 1.0, 10.0)
    assert times.launched(shape).tolist() == [False] * 4 + [True] * 2
    assert not Times(setting=with_engine(times.setting, graph_sequences=0)).launched(shape).any()
    stated = Times(setting=replace(times.setting, serving=times.setting.serving.replaced(captured_batches=(2, 5))))
    assert stated.launched(shape).tolist() == [True, False, True, True, False, True]


RATES: dict[str, Any] = {
    "prefill_rate": 0.9, "decode_bandwidth_rate": 0.81, "attention_bandwidth_rate": 0.73, "prefill_attention_rate": 0.61,
    "expert_bandwidth_rate": 0.53, "expert_compute_rate": 1.7, "narrow_bandwidth_rate": 0.47, "fp8_bandwidth_rate": 0.43,
    "int4_bandwidth_rate": 0.41, "mxfp4_bandwidth_rate": 0.37, "awq_bandwidth_rate": 0.31, "int8_bandwidth_rate": 0.29,
    "expanding_compute_rate": 0.67, "mxfp4_compute_rate": 0.59, "expanding_kernel_s": 1e-3, "sm_bytes_per_s": 3e10,
    "expanding_sm_bytes_per_s": 2e10, "decode_grouped_tokens": 5.0, "prefill_grouped_tokens": 11.0, "kernel_latency_rate": 0.5,
    "fused_experts": True, "accumulates_fp16": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "stored", "bandwidth", "compute"),
    [
        ("bf16", "16", 0.81, 1.0), ("int8-weight-only", "8", 0.29, 0.67), ("int4-gptq", "4", 0.41, 0.67),
        ("int4-awq", "4", 0.41 * 0.31, 0.67), ("mxfp4", "4", 0.41 * 0.37, 0.59), ("fp8", "narrow", 0.47 * 0.43, 1.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("block", "of_experts", "works"), [("", 1.0, 1.0), (" experts", 0.53, 1.7)])
@pytest.mark.parametrize(("phase", "lost"), [("prefill", 11.0), ("decode", 5.0)])
def test_constants_of_a_multiplication_by_hand(
    weights: str,
    stored: str,
    bandwidth: float,
    compute: float,
    block: str,
    of_experts: float,
    works: float,
    phase: str,
    lost: float,
) -> None:
    """What the memory gives and what 100 multiprocessors take in, one after the other: 1 / (1 / W + 1 / (100 s))."""
    card = ACCELERATOR.replaced(num_sms=100)
    setting = with_engine(
        deployment(model(MIXTRAL), on=Cluster(node=NODE, accelerator=card, num_gpus=1), weights=weights), **RATES
    )
    setting = replace(setting, own_curves=setting.curves.model_copy(update={"warp_product_rate": 0.76, "grouped_tokens": 40.0}))
    c, expanded = setting.curves, stored in ("8", "4")
    found = kernel_constants(setting)[f"{phase} {stored}{block}"]
    memory = c.matmul_bandwidth_fraction * bandwidth * of_experts * 2e12
    each = (2e10 if expanded else 3e10) * 100
    assert found.matmul_bandwidth_fraction * 2e12 == pytest.approx(memory * each / (memory + each))
    warps = 0.76 if expanded and weights != "mxfp4" else 1.0
    rate = 0.9 * compute * warps * works
    assert found.matmul_peak_fraction == pytest.approx(c.matmul_peak_fraction * rate)
    assert found.fp8_peak_fraction == pytest.approx(c.fp8_peak_fraction * rate)
    start = 0.5 * (c.expert_layer_latency_s / 2 if block else c.matmul_latency_s)
    assert found.matmul_latency_s == pytest.approx(start + (1e-3 if expanded else 0.0))
    assert found.grouped_tokens == lost
    few = replace(setting, own_curves=c.model_copy(update={"grouped_tokens": 2.0}))
    assert kernel_constants(few)[f"{phase} {stored}{block}"].grouped_tokens == 2.0
    alone = kernel_constants(with_engine(setting, fused_experts=False))[f"{phase} {stored}{block}"]
    assert alone.matmul_latency_s == pytest.approx(0.5 * c.matmul_latency_s + (1e-3 if expanded else 0.0))


def test_constants_of_attention_and_of_the_rest_by_hand() -> None:
    setting = with_engine(deployment(model(LLAMA)), **RATES)
    c, found = setting.curves, kernel_constants(setting)
    for name, rate in (("prefill attention", 0.61), ("decode attention", 1.0)):
        assert found[name].memory_fraction == pytest.approx(c.memory_fraction * 0.73)
        assert found[name].attention_forward_fraction == pytest.approx(c.attention_forward_fraction * rate)
    for constants in (found["pointwise"], found["prefill attention"]):
        assert constants.attention_latency_s == pytest.approx(0.5 * c.attention_latency_s)
        assert constants.memory_latency_s == pytest.approx(0.5 * c.memory_latency_s)
    assert found["pointwise"].memory_fraction == c.memory_fraction


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"weights": "bf16"}, {"qkv": "16", "router": "16", "experts in": "16 experts", "logits": "16"}),
        ({"weights": "int4-awq"}, {"qkv": "4", "router": "16", "experts in": "4 experts", "logits": "16"}),
        ({"weights": "fp8"}, {"qkv": "narrow", "router": "16", "experts in": "narrow experts", "logits": "16"}),
        ({"weights": "mxfp4"}, {"qkv": "16", "router": "16", "experts in": "4 experts", "logits": "16"}),
        ({"weights": "int8-weight-only", "keep_16_bit": ("experts",)}, {"qkv": "8", "router": "8", "experts in": "16 experts"}),
    ],
)  # fmt: skip
def test_which_kernels_a_row_has(fields: dict[str, Any], names: dict[str, str]) -> None:
    setting = deployment(model(MIXTRAL), **fields)
    for phase in ("prefill", "decode"):
        shape = Times(setting=setting).shape(phase, 2.0, 4.0, 8.0)  # type: ignore[arg-type]
        found = {row.name: constants_of(setting, row) for row in pass_rows(setting, shape)}
        assert found["norms"] == "pointwise"
        assert found["attention"] == f"{phase} attention"
        for name, stored in names.items():
            assert found[name] == f"{phase} {stored}", name


def test_stages_fill_and_drain_once() -> None:
    """Eight prompts over four stages go as four parts of two: seven quarters of a part's passes, four of which are a stage's own
    work; three are one part that passes all stages."""
    times = Times(setting=with_engine(deployment(model(LLAMA), 4, pp=4), pipelined=True))
    for prompts, part, passes, busy in ((8.0, 2.0, 7 / 4, 1.0), (4.0, 1.0, 7 / 4, 1.0), (3.0, 3.0, 1.0, 1.0)):
        of_part = number(times._passes_s(np.array(part), np.array(64.0), np.array(0.0)))
        assert number(times.prefill_s(64.0, prompts)) == pytest.approx(passes * of_part)
        assert number(times.prefill_busy_s(64.0, prompts)) == pytest.approx(busy * of_part)
    apart = Times(setting=with_engine(times.setting, pipelined=False))
    whole = number(apart._passes_s(np.array(8.0), np.array(64.0), np.array(0.0)))
    assert number(apart.prefill_s(64.0, 8.0)) == number(apart.prefill_busy_s(64.0, 8.0)) == pytest.approx(whole)
    assert number(times.shape("decode", 8.0, 1.0, 9.0).sequences) == 2.0
    assert number(times.shape("decode", 3.0, 1.0, 9.0).sequences) == 1.0
    assert (
        number(apart.shape("decode", 8.0, 1.0, 9.0).sequences) == number(times.shape("prefill", 8.0, 1.0, 9.0).sequences) == 8.0
    )


def test_a_token_of_a_round_by_hand() -> None:
    """Three proposals of a draft, each accepted with 0.5: three steps of it and a pass of four tokens yield 1.875."""
    draft = deployment(model(LLAMA, num_layers=1))
    setting = deployment(model(LLAMA), speculative={"tokens": 3, "acceptance": 0.5})
    times = Times(setting=setting, draft=draft)
    own = number(Times(setting=draft).pass_time(times.shape("decode", 2.0, 1.0, 100.0)).total)
    checked = number(Times(setting=setting).pass_time(times.shape("decode", 2.0, 4.0, 100.0)).total)
    assert number(times.decode_s(2.0, 100.0)) == pytest.approx((checked + 3 * own) / 1.875)
    assert number(Times(setting=setting).decode_s(2.0, 100.0)) == pytest.approx(checked / 1.875)


def test_rows_on_links_by_hand() -> None:
    """A collective takes its rate times the measured one, and what the first of four GPUs waits for the last: two doublings; over
    experts a wait of its own. Experts on the host come at its link's rate."""
    setting = with_engine(
        deployment(model(MIXTRAL), 4, tp=4),
        collective_rate=1.0,
        collective_wait_s=0.0,
        exchange_wait_s=0.0,
        custom_all_reduce=False,
    )
    summed = communication("x", "ffn", "decode", "all_reduce", "tp", 1e6, 1.0)
    plain = number(Times(setting=setting).row_s(summed))
    slow = with_engine(setting, collective_rate=1.5, collective_wait_s=1e-3, exchange_wait_s=7.0)
    assert number(Times(setting=slow).row_s(summed)) == pytest.approx(1.5 * plain + 2e-3)
    grouped = with_engine(deployment(model(MIXTRAL), 8, ep=8), collective_rate=1.0, collective_wait_s=5.0, exchange_wait_s=0.0)
    sent = communication("x", "experts", "decode", "all_gather", "ep", 1e6, 1.0)
    waits = with_engine(grouped, exchange_wait_s=1e-3)
    assert number(Times(setting=waits).row_s(sent)) - number(Times(setting=grouped).row_s(sent)) == pytest.approx(3e-3)
    onward = communication("x", "pipeline", "decode", "p2p", "tp", 1e6, 1.0)
    assert number(Times(setting=grouped).row_s(replace(onward, group=None))) < 1.0  # nobody waits
    link = Row(name="x", block="host_link", phase="decode", bytes_moved=np.array([1e9]))
    assert number(Times(setting=setting).row_s(link)) == pytest.approx(1e9 / host_copy_rate(NODE, ACCELERATOR))


def test_images_are_seen_once_each() -> None:
    """Two images of a request, or less than one on average: the seconds of one times its chance."""
    m = as_model("qwen2.5-vl-7b")
    several, few, host = (
        Times(setting=with_engine(deployment(m, images=n, image_patches=1024, prompt=4096), host_s_per_layer=s))
        for n, s in ((2.0, 0.0), (0.25, 0.0), (0.25, 10.0))
    )
    assert number(several.images_s(3.0)) > number(several.images_s(1.0)) > 0.0
    assert number(few.images_s(1.0)) == pytest.approx(0.25 * number(few.images_s(4.0)))
    layers = sum(seen.model.num_layers for seen in host.setting.encoders)
    assert number(host.images_s(1.0)) == pytest.approx(0.25 * 10.0 * layers)
    assert number(several.images_s(0.0)) == 0.0
    assert math.isclose(number(Times(setting=deployment(m)).images_s(5.0)), 0.0)


def test_a_prompt_in_equal_parts_by_hand() -> None:
    """70 tokens in passes of at most 32 are three of 23 1/3, the middle one behind as many, and five that were cached."""
    times = Times(setting=deployment(model(LLAMA), chunked_prefill_tokens=32))
    assert number(times.chunks(np.array(1.0), np.array(70.0))) == 3.0
    middle = times.pass_time(times.shape("prefill", 1.0, 70 / 3, 5 + 70 / 3)).total
    assert number(times.prefill_s(70.0, 1.0, 5.0)) == pytest.approx(3.0 * number(middle), rel=1e-12)
