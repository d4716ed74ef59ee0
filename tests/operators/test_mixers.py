"""Recurrent blocks, sparse attention, gates and vision towers: laws of their rows, and bytes by hand and from the literature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from released_configs import RELEASED
from serving_examples import deployment

import planner
from planner.common.errors import PlannerError
from planner.hardware.cluster import load_accelerator
from planner.hardware.curves import curves_of
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.huggingface import model_from_config
from planner.model.linears import layer_linears
from planner.model.mixers import state_bytes
from planner.model.parameters import layer_parameters, parameters_total
from planner.operators.mixer import kept_elements, scan_flops, ssd_bytes
from planner.operators.row import changed
from planner.operators.setting import Setting, compressed_keys
from planner.operators.table import Table, build_table
from planner.performance.roofline import Device, device_s
from planner.serving.kv_cache import layer_state_bytes, replica_sequence_bytes, token_layer_bytes
from planner.serving.rows import Shape, pass_rows
from planner.workload.framework import load_framework
from planner.workload.job import Job

MIB = 2.0**20
NEW = [
    "qwen3.5-27b", "qwen3-next-80b-a3b", "nemotron-3-super-120b-a12b", "granite-4.0-h-small", "falcon-h1-7b", "jamba-1.5-mini",
    "mamba-130m", "mamba-codestral-7b", "minimax-m1", "lfm2-1.2b", "deepseek-v3.2", "glm-5", "llama-4-scout", "gemma-3-4b",
    "command-r7b", "modernbert-base", "deepseek-v4-flash",
]  # fmt: skip


def table(name: str | Model, seq_len: int = 4096, tp: float = 1.0, micro_batch: float = 1.0, recompute: float = 0.0) -> Table:
    one = np.ones(1)
    job = Job.build({"seq_len": seq_len, "global_batch_size": 8, "num_tokens": 10**6}, "job")
    model = load_model(name) if isinstance(name, str) else name
    axes: dict[str, Any] = {"sequence_parallel": 0 * one, "cp": one, "ep": one, "etp": one}
    setting = Setting(
        model=model,
        framework=load_framework("megatron-core"),
        job=job,
        tp=tp * one,
        micro_batch_size=micro_batch * one,
        recompute=recompute * one,
        **axes,
    )
    return build_table(setting)


def total(rows: Table, what: str, phase: str | None = None) -> float:
    chosen = [row for row in rows.rows() if phase is None or row.phase == phase]
    return sum(float(np.sum(getattr(row, what))) * row.repeats for row in chosen)


@pytest.mark.parametrize("name", NEW)
def test_rows_hold_every_parameter_once(name: str) -> None:
    assert round(total(table(name, 512), "parameters")) == parameters_total(load_model(name))


@pytest.mark.parametrize("name", NEW)
def test_linear_layers_are_the_matrices_of_the_parameters(name: str) -> None:
    model = load_model(name)
    for kind in set(model.layer_kinds):
        if kind.moe:
            continue
        matrices = sum(t.elements for t in layer_parameters(model, kind) if t.name.endswith(".weight") and "norm" not in t.name)
        assert sum(x.inputs * x.outputs for x in layer_linears(model, kind)) == matrices


@pytest.mark.parametrize("name", ["mamba-codestral-7b", "falcon-h1-7b", "qwen3.5-27b", "jamba-1.5-mini"])
def test_a_recurrent_block_grows_linearly_with_the_sequence_and_attention_does_not(name: str) -> None:
    def scans(seq_len: int) -> float:
        return sum(float(np.sum(r.flops)) * r.repeats for r in table(name, seq_len).rows() if r.name == "scan")

    assert scans(8192) == pytest.approx(2.0 * scans(4096), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(micro_batch=st.sampled_from([1.0, 2.0, 4.0]), name=st.sampled_from(["qwen3.5-27b", "mamba-130m", "lfm2-1.2b"]))
def test_saved_bytes_and_flops_are_proportional_to_the_micro_batch(micro_batch: float, name: str) -> None:
    for what in ("saved_bytes", "flops"):
        assert total(table(name, 512, micro_batch=micro_batch), what) == pytest.approx(
            micro_batch * total(table(name, 512), what), rel=1e-9
        )


@pytest.mark.parametrize("name", ["qwen3.5-27b", "nemotron-3-super-120b-a12b", "falcon-h1-7b"])
def test_full_recomputation_keeps_model_flops_and_less_memory(name: str) -> None:
    kept, redone = table(name, 512), table(name, 512, recompute=2.0)
    assert total(redone, "model_flops") == total(kept, "model_flops")
    assert total(redone, "saved_bytes") < 0.5 * total(kept, "saved_bytes")
    assert total(redone, "flops", "recompute") > 0.0


def test_tensor_parallelism_divides_the_scan() -> None:
    def scan(tp: float) -> float:
        return sum(
            float(np.sum(r.flops)) * r.repeats
            for r in table("qwen3.5-27b", 512, tp=tp).rows()
            if r.block == "mixer" and r.name == "scan"
        )

    assert scan(4.0) == pytest.approx(scan(1.0) / 4.0)


def test_the_recurrence_needs_six_or_four_products_a_state_element() -> None:
    # delta rule: k'S, the outer product and q'S (arXiv 2412.06464, equation 10); state space: B x' and C'S (arXiv 2405.21060)
    qwen, mamba = load_model("qwen3.5-27b"), load_model("mamba-codestral-7b")
    layer = next(qwen.of(kind) for kind in qwen.layer_kinds if qwen.of(kind).recurs)
    assert scan_flops(layer)[1] == 6 * 48 * 128 * 128
    assert scan_flops(mamba)[1] == 4 * 128 * 64 * 128
    assert scan_flops(layer)[0] > scan_flops(layer)[1]


def test_a_short_convolution_needs_a_product_and_a_sum_a_tap_of_each_channel() -> None:
    # LFM2: conv_L_cache 3 taps over conv_dim 2048 channels (LiquidAI/LFM2-1.2B, config.json)
    lfm = load_model("lfm2-1.2b")
    layer = next(lfm.of(kind) for kind in lfm.layer_kinds if lfm.of(kind).mixer == "short_conv")
    assert scan_flops(layer) == (2 * 3 * 2048, 2 * 3 * 2048)


def test_cache_and_state_of_qwen_27b_by_hand() -> None:
    # 16 layers of 4 heads of 256, keys and values, 2 bytes, 8,192 tokens: 512 MiB; 48 states of 48 x 128 x 128 and three
    # tokens of 10,240 channels in fp32: 149.6 MiB
    setting = deployment(load_model("qwen3.5-27b"), 4, tp=4)
    cache = 16 * 4 * 256 * 2 * 2 * 8192
    state = 48 * 4 * (48 * 128 * 128 + 3 * 10240)
    assert cache == 512 * MIB
    assert state / MIB == pytest.approx(149.6, abs=0.05)
    assert float(replica_sequence_bytes(setting, 8192.0)) == cache + state


def test_state_of_falcon_h1_7b_by_hand() -> None:
    # 24 heads of 128 x 256 and three tokens of 3,072 + 2 x 256 channels in fp32
    model = load_model("falcon-h1-7b")
    assert state_bytes(model.of(model.layer_kinds[0])) == 3_188_736
    setting = deployment(model, 4, tp=4)
    assert sum(layer_state_bytes(setting, kind, whole=True) for kind in model.layer_kinds) == 44 * 3_188_736


def test_state_of_mamba_2_8b_does_not_grow() -> None:
    model = load_model("mamba-2.8b")
    setting = deployment(model)
    assert float(replica_sequence_bytes(setting, 10.0)) == float(replica_sequence_bytes(setting, 100_000.0))
    assert float(replica_sequence_bytes(setting, 10.0)) == 64 * 4 * (5120 * 16 + 3 * 5120)


def test_an_indexer_adds_its_short_key_to_the_latent_one() -> None:
    # vLLM's blog on DeepSeek-V3.2: 128 bytes of fp8 and a 4-byte scale a token beside the latent cache
    sparse = deployment(load_model("deepseek-v3.2"), 8, tp=8, weights="fp8")
    dense = deployment(load_model("deepseek-v3"), 8, tp=8, weights="fp8")
    kinds = sparse.model.layer_kinds[0], dense.model.layer_kinds[0]
    assert token_layer_bytes(sparse, kinds[0]) - token_layer_bytes(dense, kinds[1]) == 132.0


def test_cache_of_deepseek_v4_flash_by_hand() -> None:
    # a window of 128 keys of 512 in all 43 layers; in 21 of them one key of 512 and an index key of 132 bytes for 4 tokens, in 20
    # one of 512 for 128 tokens; what compressors keep of open runs: keys and weights, of two overlapping runs in the former
    setting = deployment(load_model("deepseek-v4-flash"), 8, tp=8, weights="fp8", kv_dtype="bf16")
    tokens = 2**20
    window, sparse, heavy = 43 * 128 * 1024, 21 * tokens // 4 * (1024 + 132), 20 * tokens // 128 * 1024
    open_runs = 21 * (8 * 2 * 2 * (512 + 128) * 2) + 20 * (128 * 2 * 512 * 2)
    assert float(replica_sequence_bytes(setting, float(tokens))) == window + sparse + heavy + open_runs


@pytest.mark.parametrize(("name", "flops", "cache"), [("deepseek-v4-pro", 0.27, 0.10), ("deepseek-v4-flash", 0.10, 0.07)])
def test_deepseek_v4_at_a_million_tokens_beside_v3_2(name: str, flops: float, cache: float) -> None:
    """Model card (huggingface.co/deepseek-ai/DeepSeek-V4-Pro): 27 % of the flops of a token and 10 % of the cache of V3.2 at a
    million tokens; V4-Flash 10 % and 7 %."""
    found = []
    for which in (name, "deepseek-v3.2"):
        setting = deployment(load_model(which), 8, tp=1, ep=8, weights="fp8", kv_dtype="fp8")
        one = np.ones(1)
        rows = pass_rows(setting, Shape(phase="decode", sequences=8 * one, queries=one, past=1e6 * one))
        work = sum(float(np.sum(row.model_flops)) * row.repeats for row in rows)
        found.append((work, float(replica_sequence_bytes(setting, 1e6))))
    (work, kept), (their_work, their_kept) = found
    assert work / their_work == pytest.approx(flops, abs=0.025)
    assert kept / their_kept == pytest.approx(cache, abs=0.02)


@settings(max_examples=50, deadline=None)
@given(tokens=st.integers(1, 400), ratio=st.sampled_from([1, 4, 16]), most=st.integers(0, 40))
def test_compressed_keys_are_the_mean_over_all_tokens(tokens: int, ratio: int, most: int) -> None:
    seen = [min(t / ratio, most or np.inf) for t in np.linspace(0.0, tokens, 40_001)]
    mean, largest = compressed_keys(float(tokens), ratio, most)
    assert mean == pytest.approx(float(np.mean(seen)), rel=1e-3)
    assert largest == pytest.approx(max(seen))


def test_streams_of_hyper_connections_are_kept_and_passed_on() -> None:
    """Full recomputation keeps the layer's input: four streams; a pipeline stage passes four on."""
    model = load_model("deepseek-v4-flash")
    plain = model.model_copy(update={"hyper_streams": 0})
    for one, times in ((model, 4.0), (plain, 1.0)):
        kept = [r for r in table(one, 512, recompute=2.0).rows() if r.name == "layer input kept"]
        assert float(np.sum(kept[0].saved_bytes)) == times * 512 * 4096 * 2


def test_sparse_attention_stops_growing_with_the_sequence() -> None:
    def cores(name: str, seq_len: int) -> float:
        rows = table(name, seq_len).rows()
        return sum(float(np.sum(r.flops)) * r.repeats for r in rows if r.name == "fused attention") / seq_len

    assert cores("deepseek-v3.2", 65536) < 1.1 * cores("deepseek-v3.2", 16384)
    assert cores("deepseek-v3", 65536) > 3.9 * cores("deepseek-v3", 16384)


def test_chunked_layers_see_half_of_their_chunk() -> None:
    model = load_model("llama-4-scout")
    setting = table(model, 32768).setting
    sliding = next(kind for kind in model.layer_kinds if kind.sliding)
    assert setting.keys(sliding)[0] == (8192 + 1) / 2


def test_experts_of_narrow_vectors_cost_their_own_width() -> None:
    # Nemotron 3 Super: 22 of 512 experts on vectors of 1,024, a shared one on 4,096
    model = load_model("nemotron-3-super-120b-a12b")
    rows = table(model, 512).rows()
    routed = sum(float(np.sum(r.flops)) for r in rows if r.block == "moe" and r.name in ("in projection", "out projection"))
    assert routed == pytest.approx(2.0 * 512 * 22 * 2 * 1024 * 2688)


def test_a_frozen_tower_takes_weights_and_no_optimizer() -> None:
    model = load_model("gemma-3-4b")
    frozen = model.replaced(towers=[{**model.towers[0].model_dump(exclude={"provenance"}), "frozen": True}])
    kept, trained = table(frozen, 512), table(model, 512)
    assert total(trained, "parameters") - total(kept, "parameters") == model.towers[0].parameters == 419_816_304
    assert total(kept, "skipped_bytes") == 2.0 * model.towers[0].parameters  # it lies there, and text alone does not read it


@pytest.mark.parametrize("name", ["qwen3.5-35b-a3b", "nemotron-3-nano-30b-a3b", "falcon-h1-7b", "gemma-3-12b", "kimi-k2"])
def test_new_blocks_can_be_planned_tuned_and_served(name: str) -> None:
    nodes, job = {"node": "dgx-h100", "num_nodes": 4}, {"seq_len": 4096, "global_batch_size": 32, "num_tokens": 10**9}
    layout = {"zero": 3}
    full = planner.plan(model=name, cluster=nodes, framework="fsdp", job=job, layout=layout)
    lora = planner.plan(
        model=name, cluster=nodes, framework="fsdp", job={**job, "kind": "lora", "adapter": {"rank": 8}}, layout=layout
    )
    assert full.step_time_s > 0.0
    assert full.peak_allocated_bytes > lora.peak_allocated_bytes > 0.0
    served = planner.serve(
        model=name,
        cluster={"accelerator": "h200-sxm-141gb", "num_gpus": 8},
        serving={"engine": "vllm", "weights": "fp8", "tp": 4, "prompt": 512, "output": 64, "batch": 4},
    )
    assert served.kv_bytes_per_sequence > 0.0


def test_quantization_config_sets_the_format_of_serve() -> None:
    from planner.model.huggingface import model_from_config

    config = {**RELEASED["llama-3.3-70b"][1], "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    model = model_from_config(config, "quantized", "config.json")
    nodes = {"accelerator": "h200-sxm-141gb", "num_gpus": 1}
    asked = {"engine": "vllm", "prompt": 512, "output": 64, "batch": 4}
    assert planner.serve(model=model, cluster=nodes, serving=asked).serving.weights == "fp8"
    assert planner.serve(model=model, cluster=nodes, serving={**asked, "weights": "int4-awq"}).serving.weights == "int4-awq"


def test_reading_needs_no_torch_and_names_what_it_sets_aside() -> None:
    from planner.model.huggingface import model_from_config

    model = model_from_config({**RELEASED["qwen2-0.5b"][1], "unsloth_fixed": True, "my_note": 3}, "x", "config.json")
    assert "set aside: my_note" in model.source
    assert parameters_total(model) == parameters_total(load_model("qwen2-0.5b"))


RWKV: dict[str, tuple[dict[str, Any], int]] = {
    # words, their norm, the last norm and the head; a layer: output, receptance, key and value; of the feed-forward key, value
    # and receptance; decay and first; five mixtures; two norms
    "rwkv": (
        {"hidden_size": 2048, "num_hidden_layers": 24, "vocab_size": 50277},
        2 * 50277 * 2048 + 4 * 2048 + 24 * (4 * 2048**2 + 2 * 2048 * 8192 + 2048**2 + 2 * 2048 + 5 * 2048 + 4 * 2048),
    ),
    # a gate and its mixture, a norm of the output by heads
    "rwkv5": (
        {"hidden_size": 2560, "num_hidden_layers": 32, "vocab_size": 65536, "tie_word_embeddings": False},
        2 * 65536 * 2560 + 4 * 2560 + 32 * (5 * 2560**2 + 2 * 2560 * 8960 + 2560**2 + 2 * 2560 + 6 * 2560 + 2 * 2560 + 4 * 2560),
    ),
}


@pytest.mark.parametrize("kind", RWKV)
def test_time_mixing_counts_as_by_hand_and_its_rows_hold_every_parameter(kind: str) -> None:
    config, parameters = RWKV[kind]
    model = model_from_config({"model_type": kind, **config}, kind, "config.json")
    assert parameters_total(model) == parameters
    assert round(total(table(model, 512), "parameters")) == parameters
    matrices = sum(t.elements for t in layer_parameters(model, model.layer_kinds[0]) if t.name.endswith(".weight"))
    linears = layer_linears(model, model.layer_kinds[0])
    assert sum(x.inputs * x.outputs for x in linears) == matrices - 2 * model.hidden_size  # norms
    assert {x.path for x in linears} >= {"attention.receptance", "attention.output", "feed_forward.receptance"}


def test_time_mixing_keeps_a_state_whatever_the_length() -> None:
    """RWKV-4: three numbers of 4 bytes a channel; RWKV-5: 40 matrices of 64 x 64; both the last two inputs in 16 bit."""
    fourth, fifth = (model_from_config({"model_type": kind, **RWKV[kind][0]}, kind, "config.json") for kind in RWKV)
    assert state_bytes(fourth) == 4 * 3 * 2048 + 2 * 2 * 2048
    assert state_bytes(fifth) == 4 * 40 * 64 * 64 + 2 * 2 * 2560
    assert scan_flops(fifth) == (7 * 40 * 64 * 64, 4 * 40 * 64 * 64)
    assert replica_sequence_bytes(deployment(fourth, engine="huggingface"), 4096) == pytest.approx(
        replica_sequence_bytes(deployment(fourth, engine="huggingface"), 512)
    )


def test_time_mixing_is_served_by_what_runs_it_and_planned() -> None:
    model = model_from_config({"model_type": "rwkv", **RWKV["rwkv"][0]}, "rwkv-4-1b5", "config.json")
    served = planner.serve(model=model, cluster="1xh100", serving={"engine": "huggingface", "prompt": 512, "output": 64})
    assert served.kv_bytes_per_sequence == 24 * state_bytes(model)
    with pytest.raises(PlannerError, match=r"RWKV.*huggingface"):
        planner.serve(model=model, cluster="1xh100", serving={"engine": "vllm", "prompt": 512, "output": 64})
    plan = planner.plan(model=model, cluster="1xh100", job={"seq_len": 1024, "global_batch_size": 8})
    assert plan.fits
    job = {"seq_len": 1024, "global_batch_size": 16}
    assert "time_mixing" in planner.plan(model=model, cluster="16xh100", job=job, layout={"zero": 3}).framework.features
    for framework, layout in (("megatron-core", {}), ("megatron-core", {"tp": 2}), ("fsdp", {"zero": 3, "cp": 2})):
        with pytest.raises(PlannerError, match=r"time_mixing|RWKV"):
            planner.plan(model=model, cluster="2xh100", job=job, framework=framework, layout=layout)


@pytest.mark.parametrize("tp", [2.0, 8.0])
def test_a_single_group_of_keys_is_whole_on_every_rank(tp: float) -> None:
    """Bamba's C B' of one group stays, Nemotron's of eight is cut; values and states are cut in both."""
    for name, groups in (("bamba-9b", 1), ("nemotron-3-super-120b-a12b", 8)):
        m = load_model(name)
        m = next(v for v in (m.of(kind) for kind in m.layer_kinds) if v.mixer == "mamba2")
        assert m.recurrent_key_heads == groups
        whole, cut = ssd_bytes(m, 4096.0, 1.0, 2.0), ssd_bytes(m, 4096.0, tp, 2.0)
        inner = 4096.0 * 128.0
        kept = inner * (1.0 - 1.0 / tp) if groups == 1 else 0.0
        assert cut == pytest.approx((whole[0] / tp + 8.0 * kept, whole[1] / tp + 24.0 * kept))


def test_a_scan_takes_its_bytes_at_its_rate_and_no_less_than_its_products() -> None:
    layers = table("bamba-9b").layers
    scan = next(row for rows in layers.values() for row in rows if row.name == "scan")
    card = load_accelerator("h100-sxm5-80gb")

    def seconds(**changes: object) -> float:
        at = Device(accelerator=card, curves=curves_of(card), dtype="bf16", unquantized="bf16", flash=2)
        return float(np.ravel(device_s(changed(scan, **changes), at))[0])

    assert seconds(own_rate=0.1) > 1.5 * seconds(own_rate=0.2) > 0.0
    least = float(np.ravel(scan.flops)[0]) / card.peak("bf16")
    assert seconds(own_rate=1e9) >= least
    assert seconds(own_rate=1e9, in_chunks=False) < least


@pytest.mark.parametrize(
    ("name", "narrow", "wide"),
    [
        # fla.ops.gated_delta_rule.chunk: q, k, v of 32 heads of 128; beta and 64 of the chunk's matrix; two decays a head
        ("qwen3-next-80b-a3b", 3 * 32 * 128 + 32 * (1 + 64), 2 * 32),
        # fla.ops.kda.chunk: two such matrices, and a decay for each of the 4,096 key elements
        ("kimi-linear-48b-a3b", 3 * 32 * 128 + 32 * (1 + 2 * 64), 32 * 128),
        ("minimax-m1", 2 * 3 * 64 * 128, 0),  # q, k, v of 64 heads before and behind their activation
        ("bamba-9b", 2 * 8192 + 2 * 128 + 128, 0),  # mamba_split_conv1d_scan_combined: x and z, B and C of one group, dt a head
        ("mamba-130m", 2 * 1536 + 48 + 2 * 16, 0),  # mamba_inner_fn: x and z, the time step's 48, B and C of 16
        ("lfm2-1.2b", 3 * 2048, 0),  # two gates and the product
    ],
)
def test_what_a_scan_keeps_of_a_token_by_hand(name: str, narrow: int, wide: int) -> None:
    whole = load_model(name)
    (m,) = {v for v in (whole.of(kind) for kind in whole.layer_kinds) if v.recurs}
    assert kept_elements(m) == (narrow, wide)


def test_what_time_mixing_keeps_of_a_token_by_hand() -> None:
    model = model_from_config({"model_type": "rwkv", **RWKV["rwkv"][0]}, "rwkv-4-1b5", "config.json")
    assert kept_elements(model.of(model.layer_kinds[0])) == (2 * 2048, 0.0)
