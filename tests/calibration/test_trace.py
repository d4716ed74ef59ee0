"""Traces of a profiler: read, grouped by kind of work, compared with a plan; made on this CPU and made up by hand."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run

from kernels.families.training import make_trainer
from kernels.models import Step, decoder
from planner.calibration.trace import KINDS, UNKNOWN, KindRow, TraceComparison, compare_trace, kind_of, read_trace
from planner.common.errors import PlannerError
from planner.performance.roofline import unfused_rate
from planner.scenarios.scenario import read_scenario

SCENARIO = """
[model]
name = "tiny"
num_layers = 2
hidden_size = 64
num_heads = 4
num_kv_heads = 4
head_dim = 16
ffn_hidden_size = 128
vocab_size = 256
[cluster]
node = "local-cpu"
[framework]
name = "kernels"
[job]
seq_len = 32
global_batch_size = 2
num_steps = 10
precision = "fp32"
[layout]
micro_batch_size = 2
"""


def kernel(name: str, begin: float, seconds: float, **more: Any) -> dict[str, Any]:
    place = {"device": more.pop("device", 0), "stream": more.pop("stream", 7)}
    return {"ph": "X", "cat": "kernel", "name": name, "ts": begin * 1e6, "dur": seconds * 1e6, "args": place, **more}


def written(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"traceEvents": events}))
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_tst_256x128_64x4_1x2_h_bz_coopA_NTN", "matrix multiply"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128_32x3_tn_align8>", "matrix multiply"),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x256x64", "matrix multiply"),
        ("void deep_gemm::fp8_gemm_kernel<7168u, 4096u>", "matrix multiply"),
        ("at::cuda::detail::prepare_grouped_gemm_data", "grouped multiply"),
        ("void flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<128>>", "attention backward"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob", "attention forward"),
        ("fmha_cutlassF_f16_aligned_64x128_rf_sm80", "attention forward"),
        ("fmha_cutlassB_f16_aligned_64x64_k128_sm80", "attention backward"),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "communication"),
        ("void deep_ep::intranode::dispatch<8, 768>", "communication"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>", "optimizer"),
        ("void at::native::vectorized_elementwise_kernel<4, SiluFunctor>", "memory-bound"),
        ("triton_red_fused__to_copy_mean_mul_pow_rsqrt_3", "memory-bound"),
        ("Memcpy DtoH (Device -> Pinned)", "host copies"),
        ("Memcpy DtoD (Device -> Device)", "memory-bound"),
        ("aten::addmm", "matrix multiply"),
        ("aten::native_layer_norm_backward", "memory-bound"),
        # names of the device as profiles of public repositories print them
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_26_64x64x128_1x4x1_cga1x1x1", "attention backward"),
        ("void cudnn::fusion::compute_dot_do_o_specialized<true, 128>", "attention backward"),
        ("cudnn::fusion::convert_dq_to_16bits<1>", "attention backward"),
        (
            "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2>>>>",
            "attention forward",
        ),
        (
            "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnBwdSm90<flash::CollectiveMainloopBwdSm90<2>>>>",
            "attention backward",
        ),
        ("void flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4>>", "attention forward"),
        ("void flashinfer::BatchDecodeWithPagedKVCacheKernel<>", "attention forward"),
        ("void flashinfer::norm::FusedAddRMSNormKernel<8u, __nv_bfloat16>", "memory-bound"),
        ("kernel_cutlass_kernel_flashinfernormkernelsrmsnormRMSNormKernel_object_at__tensorptrbf16gm", "memory-bound"),
        ("void flashinfer::sampling::TopPSamplingFromProbKernel", "memory-bound"),
        ("void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<>", "communication"),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>", "memory-bound"),
        ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>", "memory-bound"),
        ("void marlin::Marlin<__nv_bfloat16>", "matrix multiply"),
        ("sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize64x64x128_warpgroupsize1x1x1", "matrix multiply"),
        ("nvjet_tst_64x24_64x16_4x1_v_bz_splitK_TNT", "matrix multiply"),
        ("void deep_gemm::fp8_gemm_kernel<4096u, 7168u, 128u, 128u, 128u, 1u, 6u, (deep_gemm::GemmType)0>", "matrix multiply"),
        ("void deep_gemm::fp8_gemm_kernel<4096u, 7168u, 128u, 128u, 128u, 8u, 6u, (deep_gemm::GemmType)1>", "grouped multiply"),
        ("void userbuffers_fp16_sum_inplace_gpu_rw_ag<2>(int, int, int)", "communication"),
        ("triton_poi_fused__scaled_dot_product_efficient_attention_1", "memory-bound"),
        ("triton_poi_fused_add_addmm_gelu_mul_0", "memory-bound"),
        (
            "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::direct_copy_kernel_cuda"
            "(at::TensorIteratorBase&)::{lambda()#3}::operator()() const::{lambda()#12}>>",
            "memory-bound",
        ),
        (
            "void at::native::<unnamed>::multi_tensor_apply_kernel<at::native::<unnamed>::TensorListMetadata<(int)2>, "
            "at::native::<unnamed>::UnaryOpFunctor<c10::BFloat16, (int)2, (int)1, (int)1>, at::native::Copy<c10::BFloat16>>",
            "memory-bound",
        ),
        ("void apex::LAMBStage1Functor multi_tensor_apply_kernel", "optimizer"),
        ("my_company_secret_kernel", UNKNOWN),
    ],
)
def test_kernels_of_many_libraries_are_known_by_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind
    assert kind in (*KINDS, UNKNOWN)


def test_overlap_and_idle_time_are_lengths_of_unions(tmp_path: Path) -> None:
    """0 to 4 compute; 3 to 6 communication, of which 4 to 5 alone, since copies run from 5 to 7; 7 to 8 idle; 8 to 9 compute."""
    events = [
        kernel("nvjet_a", 0.0, 4.0), kernel("ncclDevKernel_AllReduce", 3.0, 3.0, stream=9),
        kernel("vectorized_elementwise_kernel", 5.0, 2.0), kernel("my_secret", 8.0, 1.0),
        kernel("nvjet_of_another_device", 0.0, 1.0, device=1),
        {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#3", "ts": 0.0, "dur": 9e6},
        {"ph": "M", "name": "process_name"},
    ]  # fmt: skip
    scenario = tmp_path / "s.toml"
    scenario.write_text(SCENARIO)
    trace = read_trace(written(tmp_path / "t.json", events))
    found = compare_trace(trace, read_scenario(scenario).cases[0].plan())
    assert found.step_s == pytest.approx(9.0)
    assert found.busy_s == pytest.approx(8.0)
    assert found.idle_s == pytest.approx(1.0)
    assert found.communication_s == pytest.approx(3.0)
    assert found.exposed_s == pytest.approx(1.0)
    by_kind = {row.kind: row.measured_s for row in found.rows}
    assert by_kind["matrix multiply"] == pytest.approx(4.0)
    assert by_kind["memory-bound"] == pytest.approx(2.0)
    assert found.unknown == (("my_secret", pytest.approx(1.0)),)
    changed = found.overrides(1.0)
    assert changed["overlap_gradient_reduction"] == pytest.approx(2.0 / 3.0)
    bound = next(row for row in found.rows if row.kind == "memory-bound")
    assert changed["elementwise_rate"] == pytest.approx(min(max(bound.predicted_s / 2.0, 0.01), 1.0))
    unseen = next(row for row in found.rows if row.kind == "optimizer")
    assert (unseen.measured_s, unseen.kernels, unseen.error) == (0.0, 0.0, None), "predicted, and not in the trace"
    assert unseen.predicted_s > 0.0


def test_the_rate_of_memory_bound_work_follows_what_was_measured() -> None:
    """Twice the seconds, half the rate; never above streaming; not told where either side has none."""
    for measured, predicted, rate in (
        (2.0, 1.0, 0.4),
        (2e-6, 1e-6, 0.4),
        (0.1, 1.0, 1.0),
        (1e6, 1.0, 0.01),
        (0.0, 1.0, None),
        (1.0, 0.0, None),
    ):
        row = KindRow(kind="memory-bound", measured_s=measured, predicted_s=predicted, kernels=1.0)
        times = dict.fromkeys(("step_s", "predicted_step_s", "busy_s", "idle_s"), 1.0)
        rest = dict.fromkeys(("communication_s", "exposed_s", "predicted_exposed_s"), 0.0)
        found = TraceComparison(rows=(row,), unknown=(), steps=1, **times, **rest)
        assert found.overrides(0.8) == ({} if rate is None else {"elementwise_rate": pytest.approx(rate)}), measured
        other = replace(found, beside=0.3).overrides(0.8)
        if rate is None:
            assert not other
        else:  # the rate that makes the seconds as measured on that GPU: they go with one over the rate there
            there = unfused_rate(other["elementwise_rate"], 0.3) / unfused_rate(0.8, 0.3)
            most, least = 1.0 / unfused_rate(0.8, 0.3), 0.01 / unfused_rate(0.8, 0.3)
            assert there == pytest.approx(min(max(predicted / measured, least), most)), measured


def test_steps_are_counted_by_their_marks_and_may_be_told(tmp_path: Path) -> None:
    marks = [{"ph": "X", "cat": "user_annotation", "name": f"ProfilerStep#{i}", "ts": i, "dur": 1} for i in (3, 4, 5, 6)]
    path = written(tmp_path / "t.json", [kernel("nvjet", 0.0, 8.0), *marks])
    assert read_trace(path).steps == 4
    assert read_trace(path, 8).steps == 8
    packed = tmp_path / "t.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_trace(packed) == read_trace(path)


def test_own_time_of_nested_operators_adds_up(tmp_path: Path) -> None:
    def operator(name: str, begin: float, length: float) -> dict[str, Any]:
        return {"ph": "X", "cat": "cpu_op", "name": name, "ts": begin, "dur": length, "tid": 1}

    events = [operator("aten::linear", 0, 100), operator("aten::addmm", 10, 80), operator("aten::copy_", 20, 10)]
    trace = read_trace(written(tmp_path / "t.json", [*events, operator("aten::add", 120, 5)]))
    assert trace.on_cpu
    own = {e.name: e.own_s * 1e6 for e in trace.events}
    assert own == pytest.approx({"aten::linear": 20, "aten::addmm": 70, "aten::copy_": 10, "aten::add": 5})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "cut off"),
        ("{}", "traceEvents"),
        ('{"traceEvents": []}', "no kernel"),
        ("[1, 2]", "no kernel"),
        ("kernels: 5", "not JSON"),
        ('{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "nvjet", "ts": 1, "du', "cut off"),
        ('[{"ph": "X", "cat": "kernel", "name": "nvjet", "ts": "now", "dur": 1}]', r"traceEvents\.0\.ts = 'now'"),
        ('[{"ph": "X", "cat": "kernel", "name": "nvjet", "ts": 1, "dur": -1}]', r"traceEvents\.0\.dur = -1"),
        ('[{"ph": "X", "cat": "kernel", "name": "nvjet", "ts": 1, "dur": NaN}]', "microseconds"),
        (f'[{{"ph": "X", "cat": "kernel", "name": "nvjet", "ts": {10**400}, "dur": 1}}]', "microseconds"),
        ('[{"ph": "X", "cat": "kernel", "name": "nvjet", "ts": 1, "dur": 0}]', "no time"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(PlannerError, match=word):
        read_trace(path)


def test_a_cut_or_damaged_archive_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(written(tmp_path / "t.json", [kernel(f"nvjet_{i}", i, 1.0) for i in range(500)]).read_bytes())
    packed = tmp_path / "without-an-ending"
    packed.write_bytes(whole)
    assert len(read_trace(packed).events) == 500
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlannerError, match="cut off"):
        read_trace(packed)
    packed.write_bytes(whole[:40] + bytes(100) + whole[140:])
    with pytest.raises(PlannerError):
        read_trace(packed)


def test_of_ranks_merged_into_one_file_the_busiest_device_is_read(tmp_path: Path) -> None:
    """Each rank's device is its own number 0; its process tells them apart. Arguments may be missing, times may be text."""
    ranks = [kernel("nvjet_a", 0.0, 2.0, pid=11), kernel("nvjet_b", 0.0, 3.0, pid=12), kernel("add", 4.0, 0.5, pid=12)]
    events = [*ranks, {"ph": "X", "cat": "kernel", "name": "nvjet_c", "ts": "0", "dur": "5.5", "args": None}]
    found = read_trace(written(tmp_path / "t.json", events))
    assert [e.name for e in found.events] == ["nvjet_b", "add"]
    assert found.span_s == pytest.approx(4.5)


def test_whose_overlap_a_trace_shows_is_said_only_where_one_way_communicates(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.json", [kernel("nvjet_a", 0.0, 4.0), kernel("ncclDevKernel_AllReduce", 3.0, 2.0)]))
    expected = {
        "dp = 8": "overlap_gradient_reduction", "tp = 8": "overlap_tensor_parallel", "cp = 8": "overlap_context", "tp = 4": None,
        "tp = 4\ncp = 2": None,
    }  # fmt: skip
    for cut, constant in expected.items():
        scenario = tmp_path / "s.toml"
        scenario.write_text(
            '[model]\nname = "llama-3-8b"\n[cluster]\nnode = "dgx-h100"\nnum_gpus = 8\n[framework]\nname = "megatron-core"\n'
            f'[job]\nseq_len = 4096\nglobal_batch_size = 64\nnum_steps = 10\nprecision = "bf16"\n[layout]\n{cut}\n'
        )
        found = compare_trace(trace, read_scenario(scenario).cases[0].plan()).overrides(1.0)
        overlaps = {name: value for name, value in found.items() if name.startswith("overlap")}
        assert overlaps == ({constant: pytest.approx(0.5)} if constant else {}), cut


def test_a_real_step_is_compared_by_the_command_line(tmp_path: Path, run: Run) -> None:
    """A step of the harness's own model on this CPU: its products are seen, counted, and set beside the plan's."""
    step = Step(label="x", model=decoder(2, 64, 4, 4, 128, 256), seq_len=32, micro_batch_size=2)
    trainer = make_trainer(step, "fp32", torch.device("cpu"))
    trainer.run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as seen:
        trainer.run()
    trace, scenario = tmp_path / "trace.json", tmp_path / "s.toml"
    seen.export_chrome_trace(str(trace))
    scenario.write_text(SCENARIO)
    code, out, err = run("validate", trace, "--scenario", scenario, "--json")
    assert code == 0, err
    answer = json.loads(out)
    rows = {row["kind"]: row for row in answer["rows"]}
    assert rows["matrix multiply"]["kernels"] >= 2 * 7 + 1, "seven products in each of two layers, and the output layer"
    assert {"memory-bound", "optimizer", "attention forward", "attention backward"} <= rows.keys()
    assert len(answer["unknown"]) <= 3, "of a hundred names, some may be new in another release of torch"
    code, out, err = run("validate", trace, "--scenario", scenario)
    assert code == 0, err
    assert "matrix multiply" in out
    code, _, err = run("validate", trace, "--steps", "2")
    assert code == 2
    assert "--scenario" in err


def test_a_pipeline_is_refused(tmp_path: Path) -> None:
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        '[model]\nname = "llama-2-7b"\n[cluster]\nnode = "dgx-h100"\n[framework]\nname = "megatron-core"\n'
        '[job]\nseq_len = 4096\nglobal_batch_size = 64\nnum_steps = 10\nprecision = "bf16"\n[layout]\npp = 2\ntp = 4\n'
    )
    trace = read_trace(written(tmp_path / "t.json", [kernel("nvjet", 0.0, 8.0)]))
    with pytest.raises(PlannerError, match=r"layout\.pp = 2"):
        compare_trace(trace, read_scenario(scenario).cases[0].plan())


def test_work_within_an_optimizers_step_is_the_optimizers(tmp_path: Path) -> None:
    """A loop over weights launches plain kernels; torch marks where Optimizer.step ran, on the device's time line too."""
    mark = {"ph": "X", "cat": "gpu_user_annotation", "name": "Optimizer.step#AdamW.step", "ts": 2e6, "dur": 1e6, "args": {}}
    events = [
        kernel("vectorized_elementwise_kernel", 1.0, 0.5, pid=0),
        kernel("vectorized_elementwise_kernel", 2.1, 0.3, pid=0),
        kernel("ncclDevKernel_AllGather_RING_LL", 2.5, 0.2, pid=0),
        kernel("vectorized_elementwise_kernel", 3.1, 0.4, pid=0),
        {**mark, "pid": 0},
        {**mark, "pid": 1, "ts": 0.0, "dur": 9e6},  # of another device
    ]
    trace = read_trace(written(tmp_path / "trace.json", events))
    assert [event.kind for event in trace.events] == ["memory-bound", "optimizer", "communication", "memory-bound"]


def test_an_optimizers_step_holds_what_follows_another_within_it(tmp_path: Path) -> None:
    """A step that calls another optimizer's ends where itself ends; nor does it matter how a file writes its processes."""
    mark = {"ph": "X", "cat": "gpu_user_annotation", "name": "Optimizer.step#Outer.step", "args": {}, "pid": [0]}
    times = (1.0, 2.1, 2.6, 3.5, 4.1)
    events = [
        *(kernel("vectorized_elementwise_kernel", at, 0.05, pid=[0]) for at in times),
        {**mark, "ts": 2e6, "dur": 2e6},
        {**mark, "name": "Optimizer.step#Inner.step", "ts": 2.5e6, "dur": 0.5e6},
    ]
    trace = read_trace(written(tmp_path / "trace.json", events))
    assert [event.kind for event in trace.events] == ["memory-bound", *["optimizer"] * 3, "memory-bound"]


@pytest.mark.parametrize("place", [{"pid": [1, 2]}, {"tid": [1]}, {"pid": {"rank": 0}}])
def test_a_place_that_is_no_number_is_a_place(place: dict[str, object], tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0.0, "dur": 9e6, "pid": 0, "tid": 0, **place},
        {"ph": "X", "cat": "user_annotation", "name": "Optimizer.step#A", "ts": 0.0, "dur": 9e6, "pid": 0, "tid": 0, **place},
    ]
    assert [event.kind for event in read_trace(written(tmp_path / "t.json", events)).events] == ["optimizer"]
