"""Laws of tuning with frozen weights: what gradients, states, time and memory a job with adapters or a teacher has."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import GPT, LLAMA, MIXTRAL, gpus, job, model
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.parameters import parameters_total
from planner.performance.evaluation import evaluate, operator_table
from planner.scenarios.scenario import read_scenario
from planner.studies.what_if import weight_bytes
from planner.training.trainable import frozen_parameters, stored_bytes, trainable_parameters
from planner.workload.framework import load_framework
from planner.workload.job import Job
from planner.workload.layout import Layout, Layouts, as_columns
from planner.workload.question import Question
from planner.workload.tuning import Adapter, Quantization

SCENARIOS = ROOT / "scenarios"
# of Megatron-Core one that had a 4-bit form of its layers: the only one of these that also cuts adapters over stages and tensors
STACKS = ["peft", "fsdp", "megatron-core", "deepspeed-zero", "litgpt"]
NAMES = {"llama": LLAMA, "gpt": {**GPT, "modules": "gpt2"}, "mixtral": {**MIXTRAL, "modules": "mixtral"}}


def tuning(kind: str = "lora", **changes: Any) -> Job:
    adapter = {"rank": 8, **changes.pop("adapter", {})}
    return job(**{"kind": kind, "adapter": adapter, **changes})


def layouts(**degrees: Any) -> Layouts:
    one = Layout(**{"micro_batch_size": 1, "sequence_parallel": False, **degrees})
    return as_columns(one, one.tp * (one.dp or 1))


def answer(fields_: dict[str, Any], work: Job, stack: Any = "peft", count: int = 1, **layout: Any) -> planner.Plan:
    return planner.plan(
        model=model(fields_), cluster=gpus(count), framework=stack, job=work, layout=layout, price=2.0, explain=False
    )


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("kind", ["lora", "qlora", "distil"])
@pytest.mark.parametrize("name", sorted(NAMES))
def test_one_layout_equals_its_row_among_many_bit_for_bit(name: str, kind: str, stack: str) -> None:
    """Of each model, kind and framework the first and last possible row and eight drawn ones, others in every cell."""
    m, cluster, framework = model(NAMES[name]), gpus(8), load_framework(stack).replaced(quantized_weights=True)
    work = distilled(m) if kind == "distil" else tuning(kind, adapter={"layers": [1, 3]})
    many = planner.candidates(model=m, cluster=cluster, framework=framework, job=work)
    every = evaluate(Question(m, cluster, framework, work), many)
    possible, draw = np.flatnonzero(every.possible), np.random.default_rng([ord(letter) for letter in name + kind + stack])
    for i in {possible[0], possible[-1], *draw.choice(possible, min(8, len(possible)), replace=False)}:
        alone = evaluate(Question(m, cluster, framework, work), many.take(np.array([i])))
        assert alone.step_time_s[0] == every.step_time_s[i]
        for field in fields(alone.memory):
            assert getattr(alone.memory, field.name)[0] == getattr(every.memory, field.name)[i]


def distilled(m: Model, **teacher: Any) -> Job:
    """A job with a teacher of twice the layers and the student's vocabulary, in a file."""
    return job(kind="distil", teacher={"model": str(_teacher_file(m)), **teacher})


_FILES: dict[int, Path] = {}


def _teacher_file(m: Model) -> Path:
    import tempfile

    from planner.studies.what_if import write_model

    if m.vocab_size not in _FILES:
        path = Path(tempfile.mkdtemp()) / "teacher.toml"
        write_model(model(LLAMA, name="teacher", num_layers=8, vocab_size=m.vocab_size), path)
        _FILES[m.vocab_size] = path
    return _FILES[m.vocab_size]


def test_frozen_linear_layers_have_no_weight_gradient_and_backward_costs_as_much_as_forward() -> None:
    m, work = model(LLAMA, tied_embeddings=False), tuning(adapter={"target_modules": ["q_proj"], "layers": [0]})
    rows = operator_table(Question(m, gpus(1), load_framework("peft"), work), layouts(micro_batch_size=2, dp=1)).rows()
    base = [r for r in rows if "adapter" not in r.name and "attention" not in r.name and r.phase in ("forward", "backward")]
    assert not [r.name for r in base if r.name.endswith("projection weight gradient") or r.name == "logits weight gradient"]
    passing = next(kind for kind in planner_kinds(m, work) if kind.role == 3)
    here = operator_table(Question(m, gpus(1), load_framework("peft"), work), layouts(micro_batch_size=2, dp=1)).layers[passing]
    flops = {
        phase: sum(float(np.sum(r.flops)) for r in here if r.phase == phase and r.name.split(" input")[0] in LINEAR)
        for phase in ("forward", "backward")
    }
    assert flops["forward"] == flops["backward"] > 0


LINEAR = {"query key value", "output projection", "in projection", "out projection"}


def planner_kinds(m: Model, work: Job) -> tuple[Any, ...]:
    from planner.workload.adapters import tuned_model

    return tuned_model(m, work).layer_kinds


def test_layers_below_the_lowest_adapter_keep_nothing_and_run_forward_only() -> None:
    m, work = model(LLAMA), tuning(adapter={"last_layers": 1})
    table = operator_table(Question(m, gpus(1), load_framework("peft"), work), layouts(micro_batch_size=2, dp=1))
    still = next(rows for kind, rows in table.layers.items() if kind.role == 4)
    assert sum(float(np.sum(r.saved_bytes)) for r in still) == 0
    assert sum(float(np.sum(r.flops)) for r in still if r.phase == "backward") == 0
    # checkpoints hand the gradient through: transformers makes the embeddings' output require one
    full = operator_table(Question(m, gpus(1), load_framework("peft"), work), layouts(micro_batch_size=2, dp=1, recompute="full"))
    through = next(rows for kind, rows in full.layers.items() if kind.role == 4)
    assert sum(float(np.sum(r.flops)) for r in through if r.phase == "backward") > 0


def test_parameters_on_the_device_are_those_frozen_in_16_bit_and_those_trained_in_fp32() -> None:
    found = answer(LLAMA, tuning(), micro_batch_size=1)
    trains = trainable_parameters(found.model, found.job)
    assert found.memory_bytes["parameters"] == 2.0 * parameters_total(found.model) + 4.0 * trains
    assert found.parameters_trainable == trains
    assert frozen_parameters(found.model, found.job) == parameters_total(found.model)


@pytest.mark.parametrize("zero", [0, 3])
def test_optimizer_states_belong_to_adapters_only(zero: int) -> None:
    """Adam on fp32 adapters: 8 bytes for each, divided by the ranks under ZeRO; none for the frozen weights."""
    found = [
        evaluate(Question(model(LLAMA), gpus(8), load_framework("peft"), tuning(adapter={"rank": r})), layouts(zero=zero, dp=8))
        for r in (4, 8)
    ]
    small, large = (float(e.memory.optimizer_bytes[0]) for e in found)
    assert large in (0.0, 2.0 * small)
    trains = trainable_parameters(model(LLAMA), tuning())
    assert large in (0.0, 8.0 * trains / (8 if zero else 1))


@settings(max_examples=20, deadline=None)
@given(rank=st.integers(1, 64), more=st.integers(1, 64))
def test_a_higher_rank_never_needs_less(rank: int, more: int) -> None:
    low, high = (answer(LLAMA, tuning(adapter={"rank": r}), micro_batch_size=4) for r in (rank, rank + more))
    assert low.peak_allocated_bytes < high.peak_allocated_bytes
    assert low.step_time_s <= high.step_time_s


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", sorted(NAMES))
def test_qlora_needs_less_than_lora_less_than_full_tuning(name: str, stack: str) -> None:
    layout = {"micro_batch_size": 1, "recompute": "full", **({"zero": 2} if stack == "fsdp" else {})}
    big = {**NAMES[name], "hidden_size": 2048, "ffn_hidden_size": 8192, "num_layers": 8}
    packs = load_framework(stack).replaced(quantized_weights=True)
    full, lora, qlora = (
        answer(big, work, packs, **layout).peak_allocated_bytes
        for work in (job(kind="finetune"), tuning("lora"), tuning("qlora"))
    )
    assert qlora < lora < full


def test_unpacking_costs_time_and_packing_saves_memory() -> None:
    lora, qlora = (answer(LLAMA, tuning(kind), micro_batch_size=4) for kind in ("lora", "qlora"))
    assert qlora.step_time_s > lora.step_time_s
    assert qlora.memory_bytes["parameters"] < lora.memory_bytes["parameters"]


def test_adapters_of_tensor_parallel_layers_divide_as_their_layers_do() -> None:
    """A and B of a layer cut along its outputs: A whole on each rank, B divided; along its inputs the other way round."""
    m, work = model(LLAMA), tuning(adapter={"target_modules": ["q_proj", "o_proj"]})
    table = operator_table(Question(m, gpus(2), load_framework("megatron-core"), work), layouts(tp=2, dp=1))
    rows = [row for layer in table.layers.values() for row in layer if "adapter" in row.name and row.phase == "forward"]
    held = {row.name: float(np.sum(row.parameters)) for row in rows}
    h, rank = m.hidden_size, 8
    assert held["query adapter A"] == rank * h
    assert held["query adapter B"] == rank * h / 2
    assert held["attention_output adapter A"] == rank * h / 2
    assert held["attention_output adapter B"] == rank * h


def test_frozen_shards_are_gathered_as_they_are_stored() -> None:
    """FSDP-QLoRA moves 4-bit weights: its gathers take less time than LoRA's of the same model."""
    exposed = {
        kind: evaluate(
            Question(
                model(LLAMA, hidden_size=2048, ffn_hidden_size=8192),
                gpus(8),
                load_framework("peft").replaced(overlap_parameter_gather=0.0),
                tuning(kind),
            ),
            layouts(zero=3, dp=8),
        ).step.data_parallel_s[0]
        for kind in ("lora", "qlora")
    }
    assert 0 < exposed["qlora"] < exposed["lora"]


def test_paged_states_move_to_the_host_when_memory_is_short_and_let_a_job_fit() -> None:
    big = {**LLAMA, "hidden_size": 4096, "ffn_hidden_size": 11008, "num_layers": 58}
    plain, paged = (
        answer(big, job(kind="finetune", optimizer=o, precision="bf16-pure"), "pytorch", recompute="full", micro_batch_size=1)
        for o in ("adamw", "paged-adamw")
    )
    assert not plain.fits
    assert plain.host_bytes_per_gpu == 0
    assert paged.host_bytes_per_gpu > 0
    assert paged.peak_total_bytes <= paged.usable_bytes * (1 + 1e-9)
    assert paged.fits
    assert paged.step_time_s > plain.step_time_s
    small = answer(LLAMA, job(kind="finetune", optimizer="paged-adamw"), "pytorch")
    assert small.host_bytes_per_gpu == 0


# --- quantized weights ---------------------------------------------------------------------------------------------------


def test_double_quantization_saves_what_the_paper_says() -> None:
    """QLoRA (Dettmers et al. 2023), section 3: 0.5 bits a parameter become 0.127, 0.373 saved, with blocks of 64 and 256."""
    plain, double = (Quantization(format="nf4", double_quantization=d).bytes_per_weight(4096.0) for d in (False, True))
    assert 8.0 * plain == 4.5
    assert 8.0 * (plain - double) == pytest.approx(0.373, abs=5e-4)


def test_bytes_of_a_4_bit_model_are_those_that_bitsandbytes_reports() -> None:
    """Qwen2.5-7B in NF4 with double quantization: huggingface.co/Knightly9/Qwen2.5-7B-Instruct-nf4 lists 14.19 (GiB) of source
    weights, 5.18 saved, 5.07 as get_memory_footprint counts, which leaves the constants of the blocks out."""
    m = load_model("qwen2.5-7b")
    assert weight_bytes(m, "fp16") / 2**30 == pytest.approx(14.19, rel=0.005)
    assert weight_bytes(m, "nf4") / 2**30 == pytest.approx(5.18, rel=0.01)
    work = Job.build({"kind": "qlora", "seq_len": 512, "global_batch_size": 1, "adapter": {"rank": 1}}, "test")
    found = planner.plan(model=m, cluster={"node": "dgx-a100-80gb", "num_gpus": 1}, framework="peft", job=work, layout={})
    adapters = 4.0 * trainable_parameters(m, work)
    assert (found.memory_bytes["parameters"] - adapters) / 2**30 == pytest.approx(5.18, rel=0.02)


# --- distillation ----------------------------------------------------------------------------------------------------------


def test_a_teacher_adds_its_forward_pass_and_its_weights() -> None:
    m = model(LLAMA)
    alone, taught, cached = (answer(LLAMA, w, "fsdp", zero=2) for w in (job(), distilled(m), distilled(m, cached_top_k=32)))
    teacher = model(LLAMA, num_layers=8)
    rows = operator_table(Question(m, gpus(1), load_framework("fsdp"), distilled(m)), layouts(zero=2, dp=1)).rows()
    forward = sum(float(np.sum(r.flops)) * r.repeats for r in rows if r.name.startswith("teacher's") and r.phase == "forward")
    assert not [r for r in rows if r.name.startswith("teacher's") and r.phase != "forward"]
    tokens = 1024.0
    weights = parameters_total(teacher) - teacher.vocab_size * teacher.hidden_size
    assert forward > 2.0 * tokens * weights * 0.99  # and its attention
    assert taught.memory_bytes["parameters"] - alone.memory_bytes["parameters"] == 2.0 * parameters_total(teacher)
    assert alone.step_time_s < cached.step_time_s < taught.step_time_s
    assert cached.memory_bytes["parameters"] == alone.memory_bytes["parameters"]


def test_cached_logits_take_six_bytes_each() -> None:
    assert planner.Teacher(model="x", cached_top_k=64).cache_bytes(1e9) == 1e9 * 64 * 6


# --- bad input -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "lora"}, "kind = 'lora' needs the table"),
        ({"kind": "lora", "adapter": {"rank": 0}}, "rank"),
        ({"kind": "lora", "adapter": {"rank": 8, "target_modules": ["nope"]}}, "'nope' is no linear layer of llama; it has"),
        ({"kind": "lora", "adapter": {"rank": 8, "target_modules": []}}, "name at least one linear layer"),
        ({"kind": "lora", "adapter": {"rank": 8, "last_layers": 9}}, "last_layers = 9: the model has only 4 layers"),
        ({"kind": "lora", "adapter": {"rank": 8, "layers": [7]}}, "names layer 7: the last one is 3"),
        ({"kind": "lora", "adapter": {"rank": 8, "modules_to_save": ["norm"]}}, "modules_to_save: 'norm' cannot be trained"),
        ({"kind": "lora", "adapter": {"rank": 8}, "quantization": {}}, "use kind = 'qlora' or 'gptq-lora'"),
        ({"kind": "gptq-lora", "adapter": {"rank": 8}, "quantization": {"format": "nf4"}}, "use gptq-int4"),
        ({"kind": "qlora", "adapter": {"rank": 8}, "quantization": {"format": "int8", "block_size": 64}}, "block_size = 64"),
        ({"kind": "qlora", "adapter": {"rank": 8}, "precision": "fp8"}, "quantized weights multiply in 16 bit"),
        ({"kind": "lora", "adapter": {"rank": 8}, "optimizer": "muon"}, "optimizer = 'muon'"),
        ({"adapter": {"rank": 8}}, "adapters belong to lora"),
        ({"kind": "distil"}, "needs the table"),
        ({"kind": "distil", "teacher": {"model": "gpt2"}}, "a vocabulary of 50,257 words and llama one of 1,024"),
        ({"kind": "distil", "teacher": {"model": "no-such-model"}}, "no-such-model"),
    ],
)
def test_bad_tuning_is_an_error_that_names_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlannerError) as error:
        planner.plan(
            model=model(LLAMA), cluster=gpus(1), framework="peft", job={"seq_len": 1024, "global_batch_size": 16, **changes}
        )
    assert message in str(error.value)


# --- the seeds' claims -----------------------------------------------------------------------------------------------------


def test_lora_of_the_course_trains_millions_and_its_last_four_layers_an_eighth() -> None:
    """r (in + out) for each of two square matrices of 4096 in each layer: 16 x 8192 x 2 x 32, and x 4."""
    scenario = read_scenario(SCENARIOS / "qwen-7b-lora.toml")
    lora, qlora, last = (case.plan() for case in scenario.cases)
    assert lora.parameters_trainable == qlora.parameters_trainable == 16 * 8192 * 2 * 32
    assert last.parameters_trainable == 16 * 8192 * 2 * 4
    assert stored_bytes(lora.model, lora.job, lora.framework) == 4 * 16 * 8192 * 2 * 32
    assert last.step_time_s < lora.step_time_s
    assert qlora.memory_bytes["parameters"] < lora.memory_bytes["parameters"]


def test_distilling_of_the_course_costs_the_teacher_s_forward_pass() -> None:
    runs, cached = (case.plan() for case in read_scenario(SCENARIOS / "qwen-7b-distil.toml").cases)
    assert runs.step_time_s > 2.0 * cached.step_time_s
    assert "cached logits take" in " ".join(cached.notes)


@pytest.mark.parametrize("pp", [1, 2])
def test_search_gives_a_tuning_job_what_plan_gives_it(pp: int) -> None:
    work = {"kind": "qlora", "seq_len": 1024, "global_batch_size": 16, "num_steps": 10, "adapter": {"rank": 8, "layers": [2]}}
    packs = {"name": "megatron-core", "quantized_weights": True}
    asked = {"model": model(LLAMA), "cluster": gpus(8), "framework": packs, "job": work, "price": 2.0}
    found = planner.search(**asked, top=10_000)
    row = found[(found["pp"] == pp) & (found["tp"] == 1)].iloc[0]
    given = {name: row[name] for name in Layout.model_fields if name in found.columns and name != "provenance"}
    layout = {k: v if isinstance(v, str) else v.item() for k, v in given.items() if not (k == "shard_group_size" and not v)}
    alone = planner.plan(**asked, layout=layout)
    assert alone.step_time_s == row["step_time_s"]
    assert alone.peak_total_bytes == row["peak_total_bytes"]


def test_a_sweep_reaches_fields_of_the_adapter() -> None:
    found = planner.sweep(SCENARIOS / "qwen-7b-lora.toml", vary={"job.adapter.rank": [8, 32]})
    lora = found[found["case"] == "LoRA, q and v"]
    assert list(lora["error"]) == ["", ""]
    assert lora["peak_total_bytes"].iloc[0] < lora["peak_total_bytes"].iloc[1]


def test_launch_files_are_not_written_for_what_they_cannot_say() -> None:
    found = answer(LLAMA, tuning(), "megatron-core")
    with pytest.raises(PlannerError, match=r"export of job\.kind = 'lora'"):
        planner.export_plan(found, "megatron")


def test_a_checkpoint_holds_what_trains() -> None:
    """fp32 adapters with two fp32 moments: 12 bytes each."""
    found = answer(LLAMA, tuning(num_steps=10))
    assert planner.expected_run(found, None).checkpoint_bytes == 12 * trainable_parameters(found.model, found.job)


def test_adapter_lists_are_read_from_text() -> None:
    assert Adapter(rank=1, target_modules="q_proj, v_proj").target_modules == ("q_proj", "v_proj")  # type: ignore[arg-type]


def adapters_in_backward(num_gpus: int, micro_batch_size: int) -> float:
    """Allocated GiB of foundation-model-stack/fms-acceleration's benchmark: Llama 3 8B in GPTQ, Liger, packed 4,096 tokens."""
    found = planner.plan(
        model="llama-3-8b",
        cluster={"node": "dgx-a100-80gb", "num_gpus": num_gpus},
        framework={"name": "peft-liger"},
        job={
            "kind": "gptq-lora",
            "precision": "fp16",
            "seq_len": 4096,
            "global_batch_size": micro_batch_size * num_gpus,
            "adapter": {"rank": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
        },
        layout={"micro_batch_size": micro_batch_size, "recompute": "full", "zero": 3 if num_gpus > 1 else 0},
    )
    return found.peak_allocated_bytes / 2**30


def test_under_fsdp_backward_frees_no_checkpointed_input_of_adapters() -> None:
    """scripts/benchmarks/refs/a100_80gb_liger.csv: 28.3 and 51.7 GiB at 8 and 16 sequences a GPU on two, inputs held twice."""
    two, one = ([adapters_in_backward(n, size) for size in (8, 16)] for n in (2, 1))
    assert two == pytest.approx([28.331, 51.711], rel=0.08)
    each_gib = 2 * 8 * 4096 * 4096 * 32 / 2**30  # bytes, sequences, tokens, hidden, layers
    assert (two[1] - two[0]) - (one[1] - one[0]) == pytest.approx(each_gib, rel=0.05)


def test_short_adapter_steps_wait_for_the_host() -> None:
    """Qwen's README, LoRA of the 1.8B on one A100-80GB: 1.0, 1.0, 1.1 and 7.0 s at 256, 512, 1,024 and 8,192 tokens."""
    sizes = {"name": "qwen-1.8b", "num_layers": 24, "hidden_size": 2048, "num_heads": 16, "ffn_hidden_size": 5504}
    for tokens, seconds in ((256, 1.0), (512, 1.0), (1024, 1.1), (8192, 7.0)):
        found = planner.plan(
            model={**sizes, "vocab_size": 151_936, "qkv_bias": True},
            cluster={"accelerator": "a100-sxm4-80gb", "num_gpus": 1},
            framework="qwen",
            job={
                "kind": "lora",
                "seq_len": tokens,
                "global_batch_size": 8,
                "adapter": {"rank": 64, "target_modules": "all-linear"},
            },
            layout={"micro_batch_size": 1, "recompute": "full"},
        )
        assert found.step_time_s == pytest.approx(seconds, rel=0.15)
