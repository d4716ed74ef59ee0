"""Words that people write in tables of runs are read, whatever the source."""

from __future__ import annotations

import csv
import tomllib

import pytest
from places import DATA

from planner.common.data import CATALOG
from planner.common.errors import PlannerError
from planner.evidence.measured_runs import Run, _software, read_run
from planner.evidence.predictions import check_peak, predict

PAPER = DATA / "korthikanti2022.csv"


def read(**cells: str) -> Run:
    with PAPER.open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    return read_run("row", {**first, "source": "my own", **cells})


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("PyTorch (HF)", "huggingface"),
        ("pytorch  (hf)", "huggingface"),
        ("Torchtitan", "torchtitan"),
        ("NeMo", "megatron-bridge"),
        ("DeepSpeed", "deepspeed-zero"),
    ],
)
def test_frameworks_as_people_write_them(cell: str, name: str) -> None:
    assert read(framework=cell, tp="1", data_parallel="ddp", num_gpus="8", dp="8", pp="1").framework.name == name


@pytest.mark.parametrize(
    ("chip", "name"),
    [
        ("V100-SXM3-32GB", "megatron-2022"),
        ("A100-SXM4-80GB", "megatron-2022"),
        ("H100-SXM5-80GB", "megatron-core"),
        ("MI300X", "megatron-core"),
        ("Gaudi3", "megatron-core"),
        ("Ascend 910B", "megatron-core"),
    ],
)
def test_megatron_lm_is_the_software_of_2022_on_the_chips_of_its_time_alone(chip: str, name: str) -> None:
    """A chip of another maker has no compute capability: it is none of the V100s and A100s of that time."""
    assert _software({"framework": "Megatron-LM", "accelerator": chip})[0] == name


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("RTX 6000 Ada-48GB", "rtx-6000-ada"),
        ("A800-SXM-80GB", "a800-sxm4-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("RTX4090", "rtx-4090-24gb"),
    ],
)
def test_accelerators_as_people_write_them(cell: str, name: str) -> None:
    assert read(accelerator=cell).cluster.accelerator.name == name


def test_precision_and_kernels_of_transformer_engine() -> None:
    run = read(framework="Megatron-Core", accelerator="H100-SXM5-80GB", precision="FP8 (TE)", attention_kernel="TE")
    assert run.job.precision == "fp8"
    assert run.framework.attention_kernel == "flash"


@pytest.mark.parametrize(
    ("cell", "zero", "moved"),
    [
        ("optimizer-cpu", "zero3", {"offload_optimizer"}),
        ("optimizer+param-cpu", "zero3", {"offload_optimizer", "offload_parameters"}),
        ("cpu params (FSDP)", "zero3", {"offload_optimizer", "offload_parameters"}),
    ],
)
def test_what_lives_on_the_host(cell: str, zero: str, moved: set[str]) -> None:
    layout = read(framework="DeepSpeed", offload=cell, data_parallel=zero, tp="1", pp="1", num_gpus="8", dp="8").layouts[0]
    assert {name for name in ("offload_optimizer", "offload_parameters") if getattr(layout, name)} == moved


@pytest.mark.parametrize(
    ("cells", "stack", "fused"),
    [
        ({"framework": "megatron-core"}, "megatron-core", False),
        ({"framework": "megatron-core", "fused_cross_entropy": "1"}, "megatron-core", True),
        ({"framework": "megatron-bridge"}, "megatron-bridge", True),
        ({"framework": "megatron-bridge", "fused_cross_entropy": "0"}, "megatron-bridge", False),
        # what its recipes set holds where it shards, too
        ({"framework": "megatron-bridge", "data_parallel": "zero3"}, "megatron-fsdp", True),
        ({"framework": "megatron-core", "data_parallel": "zero3"}, "megatron-fsdp", False),
    ],
)
def test_a_table_says_whether_the_loss_is_fused(cells: dict[str, str], stack: str, fused: bool) -> None:
    run = read(**cells)
    assert (run.framework.name, run.framework.fused_cross_entropy) == (stack, fused)


def test_a_row_that_beats_the_peak_is_refused_with_the_arithmetic() -> None:
    run = read(step_time_s="0.1", tokens_per_s_per_gpu="")
    check_peak(read())
    with pytest.raises(PlannerError, match=r"6 flops x .* parameters x .* tokens on .* TFLOP/s each, a100.* has 312 in fp16"):
        check_peak(run)


def test_a_peak_below_the_states_is_refused_with_the_arithmetic() -> None:
    """16 bytes a parameter of Adam in mixed precision, over the ranks that share them (Korthikanti et al. 2022, 22B on 8)."""
    _, _, refused = predict([read(peak_allocated_gib="10"), read(peak_allocated_gib="60")], ["source"])
    assert len(refused) == 1
    assert "less than the parameters, gradients and optimizer states" in refused[0].reason


@pytest.mark.parametrize(("cell", "cudnn"), [("", False), ("2.9.1", False), ("2.13.0+cu130", True)])
def test_a_table_says_which_pytorch_it_ran(cell: str, cudnn: bool) -> None:
    run = read(framework="torchtitan", tp="1", pp="1", data_parallel="fsdp2-zero3", num_gpus="8", dp="8", torch=cell)
    assert run.framework.cudnn_attention == cudnn


def _what(cells: dict[str, str]) -> object:
    """The question of a row, or what is said where it is none."""
    try:
        run = read(**cells)
    except PlannerError as error:
        return str(error)
    return run.model, run.cluster, run.framework, run.job, run.layouts


SOURCES = tomllib.loads((CATALOG / "run_labels.toml").read_text(encoding="utf-8"))["source"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_fills_cells_that_anybody_may_write(source: str) -> None:
    """What a publication says once for all its rows is a column: a user's file that states it is read alike."""
    cells = SOURCES[source]
    empty = dict.fromkeys(cells, "")
    assert _what({**empty, "source": source}) == _what(cells)
    assert not cells or _what({**empty, "source": source}) != _what({**cells, "num_gpus": "16"})


@pytest.mark.parametrize(
    ("release", "notes", "vpp", "micro_batch"),
    [("0.0", "1F1B; local batch 32", 1, 4), ("0.0", "x; Interleaved 1F1B; y", 2, 4), ("0.1", "1F1B", 1, 1), ("", "", 1, 1)],
)
def test_a_pipelines_micro_batches_that_nobody_states(release: str, notes: str, vpp: int, micro_batch: int) -> None:
    """torchtitan cut a rank's 32 sequences into one micro-batch a rank of the pipeline, 8 also where each has two
    stages (n_microbatches = pipeline_parallel_degree), later into single sequences."""
    cells = {"framework": "torchtitan", "release": release, "notes": notes, "data_parallel": "fsdp2-zero3", "vpp": ""}
    sizes = {"num_gpus": "64", "tp": "1", "pp": "8", "dp": "8", "global_batch_size": "256", "micro_batch_size": ""}
    (layout, *_) = read(**cells, **sizes, step_time_s="").layouts
    assert (layout.vpp, layout.micro_batch_size) == (vpp, micro_batch)


@pytest.mark.parametrize(
    ("words", "exchanges", "stack", "cublas"),
    [
        ("", True, "apex", 12),
        ("system dir 8xV100; memory length 192", False, "apex", 10),
        ("system dir LambdaCloud_8xV100_16GB_v1; memory length 192", False, "apex-2022", 12),
    ],
)
def test_ranks_that_exchange_nothing_are_one_gpu_each_and_containers_have_the_kernels_of_their_time(
    words: str, exchanges: bool, stack: str, cublas: int
) -> None:
    """The benchmark's settings have no --multi_gpu ddp: eight ranks take as long as one, each with its own model."""
    cells = {"source": "lambda-txl", "framework": "", "accelerator": "v100-sxm2-32gb", "precision": "fp16", "recompute": "none"}
    sizes = {"num_gpus": "8", "dp": "8", "tp": "1", "pp": "1", "vpp": "1", "micro_batch_size": "2", "global_batch_size": "16"}
    run = read(**cells, **sizes, notes=words, sequence_parallel="0", tokens_per_s_per_gpu="")
    assert (run.cluster.num_gpus, run.job.global_batch_size) == ((8, 16) if exchanges else (1, 2))
    assert (run.framework.name, run.framework.cublas, run.framework.fused_optimizer) == (stack, cublas, "loop")


def test_an_optimizer_in_a_column_is_the_runs() -> None:
    assert read(fused_optimizer="foreach").framework.fused_optimizer == "foreach"
    with pytest.raises(PlannerError, match="fused_optimizer = 'some'"):
        read(fused_optimizer="some")


def test_a_tables_0_does_not_take_from_a_named_model_what_it_is_known_to_have() -> None:
    """A 0 in a column of yes and no is what many tables hold where nobody asked; what is put in its place is said."""
    run = read(model="gpt-oss-120b", biases="0", gated_ffn="1")
    assert run.model.ffn_bias
    assert run.model.activation == "clamped_quick_gelu"
    assert "biases = 1" in run.assumed
    other = read(biases="0")
    assert not other.model.ffn_bias
    assert not any(what.startswith("biases") for what in other.assumed)


def test_what_is_known_of_a_model_does_not_hang_on_capitals() -> None:
    runs = [read(model=name, gated_ffn="1") for name in ("gpt-oss-120b", "GPT-OSS 120B", "Gpt-Oss 120B")]
    assert {(run.model.activation, run.model.attention_sinks) for run in runs} == {("clamped_quick_gelu", True)}
