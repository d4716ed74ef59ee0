"""How tokens come to their experts' GPUs: by DeepEP where the engine has it and the fabric allows it, else by the library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from serving_examples import deployment

from planner.common.errors import PlannerError
from planner.export.servers import export_deployment
from planner.hardware.cluster import Cluster, cluster
from planner.hardware.custom_nodes import custom_node
from planner.launchfiles import read_launch
from planner.model.catalog import load_model
from planner.operators.row import Row
from planner.performance.collectives import collective_s
from planner.serving.deploy import serve
from planner.serving.disaggregated import prefill_times
from planner.serving.engine import engine_family, engine_names, load_engine
from planner.serving.feasibility import require_possible
from planner.serving.memory import workspace_bytes
from planner.serving.pass_time import Times
from planner.serving.rows import Phase, Shape, pass_rows
from planner.serving.setting import Setting

FABRICS = {
    "RDMA": cluster("dgx-h100", num_nodes=4),
    "EFA": cluster("p5-48xlarge", num_nodes=4),
    "TCP": cluster("a3-highgpu-8g", num_nodes=4),
    "AMD": cluster("standard-nd96isr-mi300x-v5", num_nodes=4),
    "L40S": cluster("bm-gpu-l40s-4", num_nodes=8),
    "T4": cluster(custom_node("t4", 8), num_nodes=4),
    "A100": cluster("dgx-a100-80gb", num_nodes=4),
}


def served(on: Cluster, **fields: str) -> Setting:
    return deployment(load_model("qwen3-30b-a3b"), on=on, engine="sglang-0.5", weights="fp16", ep=32, tp=1, **fields)


def seconds(setting: Setting, row: Row) -> float:
    """Without the wait for the last GPU."""
    engine = setting.engine.model_copy(update={"collective_wait_s": 0.0, "exchange_wait_s": 0.0})
    return float(Times(setting=replace(setting, engine=engine)).row_s(row)[0])


def exchanges(setting: Setting, phase: Phase = "decode") -> dict[str, Row]:
    one = np.ones(1)
    shape = Shape(
        phase=phase, sequences=128.0 * 32.0 * one, queries=one * (64.0 if phase == "prefill" else 1.0), past=one * 512.0
    )
    return {row.operator: row for row in pass_rows(setting, shape) if row.collective is not None and row.group == "ep"}


@pytest.mark.parametrize("fabric", [name for name in FABRICS if name != "RDMA"])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_fabric_without_deepep_takes_the_librarys_time(fabric: str, phase: Phase) -> None:
    """NCCL's and RCCL's: every rank gathers the tokens of all, and scatters the sums of its experts (docs.vllm.ai, expert
    parallel deployment: allgather_reducescatter is the default)."""
    setting = served(FABRICS[fabric])
    there, back = exchanges(setting, phase).values()
    assert (there.collective, back.collective) == ("all_gather", "reduce_scatter")
    tokens = 128.0 * 32.0 * (64.0 if phase == "prefill" else 1.0)
    assert (setting.engine.gathers_prompts, setting.engine.scatters_prompts) == ("all_reduce", "by_rank")
    for row in (there, back):
        message = row.communication_bytes
        assert float(message[0]) == 2.0 * tokens * setting.model.hidden_size
        if phase == "decode":
            theirs = collective_s(setting.cluster, row.collective, message, 32.0, 1.0)  # type: ignore[arg-type]
        elif row is there:
            theirs = collective_s(setting.cluster, "all_reduce", message, 32.0, 1.0, captured=True)
        else:
            each = collective_s(setting.cluster, "reduce_scatter", message / 31.0, 32.0, 1.0)
            theirs = 32.0 * each / setting.engine.by_rank_rate
        assert seconds(setting, row) == pytest.approx(float(theirs[0]))


def gathered(engine: str, **fields: object) -> Setting:
    setting = deployment(load_model("qwen3-235b-a22b"), on=cluster("dgx-h200"), engine=engine, weights="fp8", tp=1, ep=8)
    return replace(
        setting, serving=setting.serving.replaced(dispatcher="gather"), engine=setting.engine.model_copy(update=fields)
    )


@pytest.mark.parametrize("engine", ["tensorrt-llm", "vllm", "sglang"])
def test_prompts_of_unlike_attention_groups_are_gathered_more_slowly(engine: str) -> None:
    """One broadcast and one reduce for each rank, or an all-reduce of all tokens; graphs of decoding hold equal parts."""
    times = Times(setting=gathered(engine))
    other = Times(setting=gathered(engine, gathers_prompts="equal", scatters_prompts="equal"))
    assert float(times.prefill_s(2048, 8)) > float(other.prefill_s(2048, 8))
    assert float(times.decode_s(64, 2048)) == float(other.decode_s(64, 2048))


@pytest.mark.parametrize("way", ["equal", "by_rank", "all_reduce"])
def test_a_prompt_of_one_group_is_gathered_with_nothing_else_where_parts_may_be_unlike(way: str) -> None:
    """A prompt on one of eight groups: its own tokens by a broadcast for each rank, or in a buffer of all tokens (sglang,
    DpPaddingMode.SUM_LEN); as many as of eight prompts where all are padded to the longest, as graphs of decoding are."""
    setting = gathered("vllm", gathers_prompts=way, scatters_prompts=way)
    width = 2.0 * setting.model.hidden_size

    def sent(phase: Phase, sequences: float, queries: float) -> list[float]:
        shape = Shape(phase=phase, sequences=np.array([sequences]), queries=np.array([queries]), past=np.array([512.0]))
        rows = [row for row in pass_rows(setting, shape) if row.collective is not None and row.group == "ep"]
        return [float(row.communication_bytes[0]) for row in rows]

    assert sent("prefill", 8.0, 1000.0) == [8000.0 * width] * 2
    assert sent("prefill", 1.0, 1000.0) == [(8000.0 if way == "equal" else 1000.0) * width] * 2
    assert sent("prefill", 12.0, 1000.0) == [(16000.0 if way == "equal" else 12000.0) * width] * 2
    assert sent("decode", 1.0, 1.0) == sent("decode", 8.0, 1.0) == [8.0 * width] * 2


@pytest.mark.parametrize("tokens", [1.0, 1e7])
def test_parts_that_are_sent_one_by_one_take_each_rank_s_latency_and_a_part_more_bytes(tokens: float) -> None:
    """Of eight: eight latencies where a message is short, 8/7 of the seconds where it is long, by the rate that is stated."""
    one = np.ones(1)
    shape = Shape(phase="prefill", sequences=8.0 * one, queries=tokens * one, past=0.0 * one)

    def both(setting: Setting) -> list[float]:
        rows = [row for row in pass_rows(setting, shape) if row.collective is not None and row.group == "ep"]
        return [seconds(setting, row) for row in rows]

    equal = both(gathered("vllm", gathers_prompts="equal", scatters_prompts="equal"))
    for rate in (1.0, 0.5):
        found = both(gathered("vllm", by_rank_rate=rate))
        expected = [each * (8.0 if tokens == 1.0 else 8.0 / 7.0) / rate for each in equal]
        assert found == pytest.approx(expected, rel=0.15 if tokens == 1.0 else 0.01)


def test_deepep_is_faster_over_rdma_and_sends_a_prompt_once_to_a_node() -> None:
    setting = served(FABRICS["RDMA"], dispatcher="deepep")
    there = exchanges(setting)["dispatch tokens"]
    theirs = collective_s(setting.cluster, "all_to_all", there.communication_bytes, 32.0, 1.0)
    assert seconds(setting, there) < 0.9 * float(theirs[0])
    assert all(row.copies == setting.model.top_k for row in exchanges(setting, "prefill").values())


def test_inside_a_node_of_hopper_the_network_does_not_matter() -> None:
    for node in ("dgx-h100", "p5-48xlarge"):
        on = cluster(node, num_gpus=8)
        setting = deployment(load_model("qwen3-30b-a3b"), on=on, engine="sglang", ep=8, dispatcher="deepep")
        assert setting.dispatcher == "deepep"


@pytest.mark.parametrize("engine", [name for name in engine_names() if "ep" in load_engine(name).features])
def test_what_is_sent_narrow_and_once(engine: str) -> None:
    """DeepEP sends fp8 to experts in fp8, TensorRT-LLM gathers so; both sums come back in 16 bit."""
    setting = served(FABRICS["RDMA"])
    has = load_engine(engine).dispatcher == "deepep"
    told = {"weights": "fp8-block", **({"dispatcher": "deepep"} if has else {})}
    setting = replace(setting, engine=load_engine(engine), serving=setting.serving.replaced(**told))
    there, back = (float(row.communication_bytes[0]) for row in exchanges(setting).values())
    assert there == pytest.approx(back * (0.5 if has or engine == "tensorrt-llm-1" else 1.0))
    assert all((row.copies is not None) == has for row in exchanges(setting, "prefill").values())
    assert has or engine not in ("sglang-0.5", "vllm-v1")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize(("tp", "ep"), [(8, 8), (8, 4), (8, 1)])
def test_gpus_that_have_all_tokens_send_none(engine: str, tp: int, ep: int) -> None:
    """Each adds up what its experts say: one all-reduce (vllm, fused_moe/layer.py: all2all kernels only where dp_size > 1)."""
    setting = deployment(load_model("qwen3-235b-a22b"), on=cluster("dgx-h200"), engine=engine, weights="fp8", tp=tp, ep=ep)
    assert not exchanges(setting)
    assert setting.dispatcher == "none"
    with pytest.raises(PlannerError, match="all GPUs have all tokens"):
        require_possible(replace(setting, serving=setting.serving.replaced(dispatcher="gather")))


def test_what_is_said_of_the_exchange_holds_or_is_refused() -> None:
    """Gathered is what each server does unless told otherwise, and so it is answered; the answer says what DeepEP would take."""
    wide = {"engine": "sglang", "weights": "fp8", "prompt": 512, "output": 128, "tp": 1, "ep": 8}
    usual = serve(model="qwen3-235b-a22b", cluster=cluster("dgx-h200"), serving=wide)
    (note,) = (str(note) for note in usual.notes if "--moe-a2a-backend deepep" in str(note))
    figures = {}
    for way, takes in (("gather", "gather"), ("deepep", "deepep")):
        found = serve(model="qwen3-235b-a22b", cluster=cluster("dgx-h200"), serving={**wide, "dispatcher": way})
        assert found.times.setting.dispatcher == takes
        assert not any("--moe-a2a-backend" in str(note) for note in found.notes)
        figures[way] = (found.ttft_s or 0.0, found.tpot_s or 0.0)
    assert (usual.ttft_s, usual.tpot_s) == figures["gather"]
    first, token = figures["deepep"]
    assert f"{1e3 * first:.3g} ms to the first token and {1e3 * token:.3g} ms per token" in note
    for node, way, says in (
        ("dgx-h200", "one-sided", "sglang-0.5 has no such exchange; use gather, deepep"),
        ("standard-nd96isr-mi300x-v5", "deepep", "needs Hopper or Blackwell with NVLink in a server .*; use gather"),
    ):
        with pytest.raises(PlannerError, match=rf"serving\.dispatcher = '{way}': {says}"):
            serve(model="qwen3-235b-a22b", cluster=cluster(node), serving={**wide, "dispatcher": way})


@pytest.mark.parametrize("engine", [name for name in engine_names() if load_engine(name).dispatcher_option])
def test_the_option_that_the_answer_names_is_read_back_as_that_dispatcher(engine: str, tmp_path: Path) -> None:
    """What a server does unless told otherwise, and what it is told, are the same by either door."""
    found = load_engine(engine)
    wide = {"engine": engine, "weights": "fp8", "prompt": 512, "output": 128, "tp": 1, "ep": 8}
    for way in dict.fromkeys((None, "gather", found.dispatcher)):
        given = {} if way is None else {"dispatcher": way}
        before = serve(model="qwen3-235b-a22b", cluster=cluster("dgx-h200"), serving={**wide, **given})
        text = export_deployment(before, engine_family(engine))["launch.sh"]
        assert (found.dispatcher_option in text) == (way == found.dispatcher != "gather")
        (tmp_path / "launch.sh").write_text(text)
        launch = read_launch([tmp_path / "launch.sh"])
        assert not launch.not_understood
        assert launch.tables["serving"]["dispatcher"] == (way or "gather")
        after = serve(**launch.tables)
        assert (after.ttft_s, after.tpot_s, after.total_bytes) == (before.ttft_s, before.tpot_s, before.total_bytes)


def test_one_sided_kernels_are_for_more_ranks_than_a_token_has_experts() -> None:
    """TensorRT-LLM, fused_moe, select_alltoall_method_type: none where moe_ep_size <= top_k."""
    for name, ep, way in (
        ("qwen3-235b-a22b", 8, "gather"),
        ("llama-4-maverick", 8, "one-sided"),
        ("qwen3-235b-a22b", 16, "gather"),
    ):
        on = cluster("dgx-b200", num_nodes=max(ep // 8, 1))
        setting = deployment(load_model(name), on=on, engine="tensorrt-llm", weights="nvfp4", ep=ep, tp=1)
        assert setting.dispatcher == way


def test_only_streamed_answers_are_handed_out_each_step() -> None:
    """TensorRT-LLM, llmRequest.cpp, createResult: without streaming a request answers when it is finished."""
    setting = deployment(
        load_model("qwen3-235b-a22b"), on=cluster("dgx-b200"), engine="tensorrt-llm", weights="nvfp4", ep=8, tp=1
    )
    offline = replace(setting, serving=setting.serving.replaced(streamed=False))
    gained = float(Times(setting=setting).decode_s(2048.0, 1024.0)) - float(Times(setting=offline).decode_s(2048.0, 1024.0))
    assert gained == pytest.approx(setting.engine.host_s_per_sequence * 2048.0 * 7.0 / 8.0)
    with pytest.raises(PlannerError, match=r"serving\.streamed = false"):
        require_possible(replace(offline, engine=load_engine("vllm-v1")))


def test_room_for_all_pairs_where_a_gpu_sees_all_tokens() -> None:
    """Eight groups of 8,192 tokens with 8 experts each: two buffers of 65,536 x 8 rows, 4,096 numbers wide."""
    setting = deployment(load_model("qwen3-235b-a22b"), on=cluster("dgx-h200"), engine="vllm", weights="fp8", ep=8, tp=1)
    setting = replace(setting, serving=setting.serving.replaced(dispatcher="gather"))
    hidden = setting.engine.workspace_hidden * 8192.0 * 4096.0 * 2.0
    found = float(workspace_bytes(setting, 8192.0, 64.0)) - hidden
    assert found == pytest.approx(65_536.0 * 8.0 * 2.0 * 4096.0 * 2.0 * setting.engine.workspace_ffn / 3.0)


def test_prompts_with_gpus_of_their_own_may_have_the_only_exchange() -> None:
    """Decoding GPUs that have all tokens send none; those of the prefill pool attend each to its own and send theirs."""
    fields = {"engine": "sglang", "weights": "fp8", "prompt": 512, "output": 128, "tp": 8, "ep": 8}
    pool = {"replicas": 1, "tp": 1, "ep": 8}
    on, seconds = cluster("dgx-h200", num_nodes=2), {}
    for way in ("gather", "deepep"):
        told = {**fields, "prefill_pool": pool, "dispatcher": way}
        found = serve(model="qwen3-235b-a22b", cluster=on, serving=told)
        assert found.times.setting.dispatcher == "none"
        seconds[way] = float(prefill_times(found.times).prefill_s(4096.0, 64.0))
    assert seconds["deepep"] < seconds["gather"]
    same = {**fields, "prefill_pool": {**pool, "tp": 8}, "dispatcher": "gather"}
    with pytest.raises(PlannerError, match="all GPUs have all tokens"):
        serve(model="qwen3-235b-a22b", cluster=on, serving=same)


def test_engines_older_than_deepep_do_not_have_it() -> None:
    """The library is of February 2025 (deepseek-ai/DeepEP)."""
    for name in ("vllm-2023", "vllm-2024", "vllm-v0", "vllm 0.8.5", "sglang 0.4.1", "tensorrt-llm-2023"):
        assert load_engine(name).dispatcher == "gather"


def test_one_sided_kernels_send_a_token_once_to_a_rank_and_only_over_nvlink() -> None:
    """TensorRT-LLM, tech blog 18: at most once from a rank to another, NVFP4 and FP8 before they are sent, back in 16 bit."""
    for node, weights, narrow in (("dgx-h100", "fp8", 0.5), ("dgx-b200", "nvfp4", 0.25)):
        on = cluster(node, num_gpus=8)
        setting = deployment(load_model("gpt-oss-120b"), on=on, engine="tensorrt-llm", weights=weights, ep=8, tp=1)
        assert setting.model.top_k == 4
        for phase in ("decode", "prefill"):
            there, back = exchanges(setting, phase).values()  # type: ignore[arg-type]
            assert there.copies == back.copies == setting.model.top_k
            assert float(there.communication_bytes[0]) == pytest.approx(narrow * float(back.communication_bytes[0]))
    apart = replace(served(FABRICS["RDMA"]), engine=load_engine("tensorrt-llm-1"))
    assert apart.dispatcher == "gather"
