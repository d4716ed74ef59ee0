"""Which layouts each rule refuses: beside one that it refuses the nearest that it allows; and what is refused of a job itself."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from each import for_each
from examples import GPT, LLAMA, MIXTRAL, framework, gpus, job, model

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.huggingface import model_from_config
from planner.performance.feasibility import (
    check_images,
    check_job,
    encoder_notes,
    impossible,
    length_notes,
    rules,
    screen,
    short_notes,
    step_notes,
    tower_notes,
)
from planner.workload.fp8_recipe import SCALINGS
from planner.workload.framework import framework_names, lineage
from planner.workload.layout import FIELDS, Layout, Layouts, as_columns
from planner.workload.question import Question


def asked(of: Any = LLAMA, stack: Any = "megatron-core", count: int = 8, **work: Any) -> Question:
    """A question of small models and round numbers of GPUs."""
    known = load_model(of) if isinstance(of, str) else of if isinstance(of, Model) else model(of)
    return Question(known, gpus(count), framework(stack) if isinstance(stack, str) else stack, job(**work))


def refused(question: Question, reason: str, *layouts: dict[str, Any]) -> list[bool]:
    """Which of the layouts the rule of that reason refuses."""
    columns = as_columns([Layout(**one) for one in layouts], question.cluster.num_gpus)
    (found,) = [rule for rule in rules(question, columns) if str(rule.reason) == reason]
    return np.broadcast_to(found.broken, columns.shape).tolist()


RWKV = model_from_config({"model_type": "rwkv", "hidden_size": 256, "num_hidden_layers": 4, "vocab_size": 512}, "rwkv", "x")
OVERLAPPING = framework("megatron-core", overlaps_experts=True)


@pytest.mark.parametrize(
    ("question", "reason", "bad", "good"),
    [
        (
            asked(),
            "degrees do not multiply to the number of GPUs",
            [{"tp": 3}, {"tp": 2, "dp": 3}],
            [{"tp": 2}, {"tp": 2, "dp": 4}],
        ),
        (asked(count=16), "tp does not divide the attention heads", [{"tp": 16}], [{"tp": 8}]),
        (
            asked({**LLAMA, "num_heads": 24, "num_kv_heads": 6, "head_dim": 64}, count=24),
            "tp and the key-value heads do not divide",
            [{"tp": 4}, {"tp": 8}],
            [{"tp": 3}, {"tp": 6}, {"tp": 12}],
        ),
        # 128 heads of values and 8 groups of keys
        (asked("nemotron-3-super-120b-a12b", count=16), "tp does not divide the heads of the state", [{"tp": 16}], [{"tp": 8}]),
        (asked({**LLAMA, "ffn_hidden_size": 1538}), "tp does not divide the feed-forward", [{"tp": 4}], [{"tp": 2}]),
        (
            asked(stack="peft", kind="qlora", adapter={"rank": 8}),
            "quantized weights are not cut by tp",
            [{"tp": 2}],
            [{"tp": 1, "zero": 3}],
        ),
        (asked(), "expert parallelism without experts", [{"ep": 2}, {"etp": 2}], [{}]),
        (asked(MIXTRAL, count=6), "ep does not divide the experts", [{"ep": 3}], [{"ep": 2}]),
        (asked(MIXTRAL, count=40), "etp does not divide an expert", [{"etp": 5}], [{"etp": 2}]),
        (
            asked(MIXTRAL),
            "ep x etp does not divide a stage's ranks",
            [{"ep": 8, "etp": 2}, {"pp": 2, "ep": 8}],
            [{"ep": 4, "etp": 2}, {"cp": 2, "ep": 8}],
        ),
        (
            asked(MIXTRAL),
            "MoE with tp needs sequence parallelism",
            [{"tp": 2}],
            [{"tp": 2, "sequence_parallel": True}, {"tp": 1}],
        ),
        (asked(seq_len=1022), "cp does not divide the sequence", [{"cp": 2}], [{"cp": 1}]),
        (asked(seq_len=1020), "cp does not divide the sequence", [{"cp": 4}], [{"cp": 2}]),
        (asked(seq_len=1021), "cp does not divide the sequence", [{"cp": 2}], [{"cp": 1}]),
        (
            asked(seq_len=1020),
            "sequence parallelism does not divide the sequence",
            [{"tp": 8, "sequence_parallel": True}, {"tp": 4, "cp": 2, "sequence_parallel": True}],
            [{"tp": 8}, {"tp": 4, "sequence_parallel": True}],
        ),
        (asked("albert-base-v2", seq_len=512), "stages of layers that share weights", [{"pp": 2}], [{"pp": 1}]),
        (asked(RWKV, "fsdp"), "cuts of layers that mix over time", [{"tp": 2}, {"cp": 2}], [{"pp": 2}, {}]),
        (
            asked("llama-3.2-11b-vision", images=1),
            "cuts of a model that attends to images",
            [{"pp": 2}, {"cp": 2}],
            [{"tp": 2}, {}],
        ),
        (asked("t5-base", target_len=64), "stages of an encoder-decoder", [{"pp": 2}], [{"tp": 2}]),
        (asked("t5-base", target_len=64), "context parallelism of an encoder-decoder", [{"cp": 2}], [{"tp": 2}]),
        (
            asked("t5-base", target_len=66),
            "sequence parallelism does not divide the target",
            [{"tp": 4, "sequence_parallel": True}],
            [{"tp": 2, "sequence_parallel": True}, {"tp": 4}],
        ),
        (
            asked(global_batch_size=16),
            "micro-batches do not fill the global batch",
            [{"micro_batch_size": 3}, {"micro_batch_size": 4}],
            [{"micro_batch_size": 2}, {"tp": 2, "micro_batch_size": 4}],
        ),
        (
            asked(global_batch_size=16, optimizer_in_backward=True),
            "gradients of several micro-batches are added up",
            [{"micro_batch_size": 1}],
            [{"micro_batch_size": 2}],
        ),
        (
            asked(optimizer_in_backward=True),
            "gradients are reduced or offloaded before the update",
            [{}, {"zero": 2}, {"zero": 3, "offload_optimizer": True}, {"tp": 4, "pp": 2}],
            [{"zero": 3}, {"tp": 8}],
        ),
        (
            asked(optimizer="galore-adamw"),
            "a low-rank optimizer on sharded gradients",
            [{"tp": 2}, {"pp": 2}, {"ep": 2}, {"zero": 1}, {"offload_optimizer": True}],
            [{}],
        ),
        (
            asked(count=24),
            "more pipeline chunks than layers",
            [{"pp": 8}, {"pp": 6}, {"pp": 2, "vpp": 4}],
            [{"pp": 4}, {"pp": 2, "vpp": 2}, {"pp": 3, "vpp": 2}],
        ),
        (asked(stack="megatron-2022", count=6), "more pipeline chunks than layers", [{"pp": 3, "vpp": 2}], [{"pp": 2, "vpp": 2}]),
        (asked(), "virtual stages without a pipeline", [{"vpp": 2}], [{"pp": 2, "vpp": 2}, {}]),
        (
            asked(global_batch_size=24),
            "virtual stages need a multiple of pp micro-batches",
            [{"pp": 2, "vpp": 2, "micro_batch_size": 2}],
            [{"pp": 2, "vpp": 2}, {"pp": 2, "micro_batch_size": 2}],
        ),
        (
            asked(),
            "schedule and virtual stages disagree",
            [{"pp": 2, "schedule": "interleaved"}, {"pp": 2, "vpp": 2, "schedule": "1f1b"}],
            [{"pp": 2, "vpp": 2}, {"pp": 2}],
        ),
        (asked(), "zero-bubble without a pipeline", [{"schedule": "zero-bubble"}], [{"pp": 2, "schedule": "zero-bubble"}, {}]),
        (asked(MIXTRAL, OVERLAPPING), "overlaps_experts without expert parallelism", [{}], [{"ep": 2}]),
        (
            asked(MIXTRAL, OVERLAPPING),
            "overlaps_experts in a pipeline without virtual stages",
            [{"pp": 2, "ep": 2}],
            [{"ep": 2}, {"pp": 2, "vpp": 2, "ep": 2}],
        ),
        (
            asked(MIXTRAL, OVERLAPPING),
            "overlaps_experts with full recomputation",
            [{"ep": 2, "recompute": "full"}],
            [{"ep": 2, "recompute": "selective"}, {"ep": 2}],
        ),
        (asked(), "shard group without ZeRO", [{"shard_group_size": 4}], [{"shard_group_size": 4, "zero": 1}, {}]),
        (
            asked(),
            "shard group does not divide the data-parallel ranks",
            [{"shard_group_size": 3, "zero": 1}],
            [{"shard_group_size": 4, "zero": 1}, {"zero": 1}],
        ),
        # of 24 ranks 12 hold the same half of the experts, 6 the same quarter: their group is no wider than that
        (
            asked(MIXTRAL, count=24),
            "shard group does not divide the expert data-parallel ranks",
            [{"ep": 2, "shard_group_size": 8, "zero": 1}],
            [{"ep": 4, "shard_group_size": 8, "zero": 1}, {"ep": 2, "shard_group_size": 4, "zero": 1}, {"ep": 2}],
        ),
        (
            asked(stack="deepspeed-zero"),
            "ZeRO 2 and 3 with this framework's pipeline",
            [{"pp": 2, "zero": 2}, {"pp": 2, "zero": 3}],
            [{"pp": 2, "zero": 1}, {"zero": 2}],
        ),
        (asked(stack="fsdp"), "ZeRO 2 and 3 with this framework's pipeline", [], [{"pp": 2, "zero": 2}]),
        (
            asked(),
            "activations on the host beside a pipeline",
            [{"pp": 2, "offload_activations": True}],
            [{"offload_activations": True}, {"pp": 2}],
        ),
        (
            asked(),  # Megatron-Core moves what it keeps
            "activations on the host beside recomputation",
            [{"offload_activations": True, "recompute": r} for r in ("selective", "full")],
            [{"offload_activations": True}, {"recompute": "full"}],
        ),
        (
            asked(stack="torchtune"),  # moves checkpoints alone
            "activations on the host without recomputation",
            [{"offload_activations": True}],
            [{"offload_activations": True, "recompute": "full"}, {}],
        ),
        (
            asked(stack="deepspeed-zero"),
            "parameters on the host without ZeRO 3",
            [{"offload_parameters": True, "zero": 2}],
            [{"offload_parameters": True, "zero": 3}, {"zero": 2}],
        ),
        (
            asked(stack="fsdp"),
            "FSDP's parameters on the host without its optimizer",
            [{"offload_parameters": True, "zero": 3}],
            [{"offload_parameters": True, "offload_optimizer": True, "zero": 3}, {"zero": 3}],
        ),
        (asked(stack="fsdp"), "FSDP shards", [{}, {"zero": 1}], [{"zero": 2}, {"zero": 3}]),
    ],
)  # fmt: skip
def test_a_rule_refuses_no_more_than_it_says(
    question: Question, reason: str, bad: list[dict[str, Any]], good: list[dict[str, Any]]
) -> None:
    assert refused(question, reason, *bad, *good) == [True] * len(bad) + [False] * len(good)


def reasons(question: Question) -> set[str]:
    """Of all rules that hold for a question, whatever the layout."""
    return {str(rule.reason) for rule in rules(question, as_columns(Layout(), question.cluster.num_gpus))}


def test_rules_are_asked_only_where_they_say_something() -> None:
    """Beside those of every job: of adapters on packed weights, updates in backward, low ranks, experts' exchange, images."""
    usual = reasons(asked())
    for more, reason in [
        (asked(stack="peft", kind="qlora", adapter={"rank": 8}), "quantized weights are not cut by tp"),
        (asked(optimizer_in_backward=True), "gradients of several micro-batches are added up"),
        (asked(optimizer="galore-adamw"), "a low-rank optimizer on sharded gradients"),
        (asked(MIXTRAL, OVERLAPPING), "overlaps_experts without expert parallelism"),
        (asked("llama-3.2-11b-vision", images=1), "cuts of a model that attends to images"),
        (asked(stack="fsdp"), "FSDP shards"),
    ]:
        assert reason not in usual
        assert reason in reasons(more)
    assert "cuts of a model that attends to images" not in reasons(asked("llama-3.2-11b-vision"))
    assert "tp does not divide the feed-forward" not in reasons(asked(MIXTRAL))  # of experts etp cuts
    assert "tp does not divide the feed-forward" in reasons(asked({**MIXTRAL, "num_dense_layers": 1}))
    both = "activations on the host beside recomputation", "activations on the host without recomputation"
    assert not set(both) & reasons(asked(stack="fsdp"))  # it moves either


WANTS = {
    "tp": {"tp": 2}, "sequence_parallel": {"tp": 2, "sequence_parallel": True}, "pp": {"pp": 2}, "vpp": {"pp": 2, "vpp": 2},
    "zero_bubble": {"pp": 2, "schedule": "zero-bubble"}, "cp": {"cp": 2}, "ep": {"ep": 2}, "etp": {"etp": 2},
    "zero1": {"zero": 1}, "zero2": {"zero": 2}, "zero3": {"zero": 3}, "hybrid_shard": {"zero": 1, "shard_group_size": 2},
    "offload_optimizer": {"offload_optimizer": True}, "offload_parameters": {"offload_parameters": True},
    "selective_recompute": {"recompute": "selective"},
}  # fmt: skip
WITH = {"sequence_parallel": {"tp"}, "vpp": {"pp"}, "zero_bubble": {"pp"}, "hybrid_shard": {"zero1"}}
"""Features that a layout of another one has, too."""


def test_each_feature_is_asked_for_by_its_own_layouts() -> None:
    """A stack that has none refuses each for itself and for what it includes; all of them recompute in full."""
    bare = framework("megatron-core").model_copy(update={"features": frozenset(), "by_hand": frozenset()})
    question = asked(MIXTRAL, bare)
    columns = as_columns([*(Layout(**one) for one in WANTS.values()), Layout(recompute="full")], 8)
    found: dict[str, list[bool]] = {
        str(rule.reason).rpartition(" no ")[2]: rule.broken.tolist()
        for rule in rules(question, columns)
        if " has no " in rule.reason
    }
    for feature in WANTS:
        expected = [feature == wanted or feature in WITH.get(wanted, set()) for wanted in WANTS]
        assert found[feature] == [*expected, False], feature
    assert not np.any(found["time_mixing"])
    mixed = [rule for rule in rules(asked(RWKV, bare), as_columns(Layout(), 8)) if str(rule.reason).endswith("time_mixing")]
    assert [rule.broken.tolist() for rule in mixed] == [[True]]


@pytest.mark.parametrize(
    ("features", "missing"),
    [
        (set(), {"offload_activations", "offload_checkpoints"}),
        ({"offload_activations"}, set()),
        ({"offload_checkpoints"}, set()),
        ({"offload_activations", "offload_checkpoints"}, set()),
    ],
)
def test_either_way_of_moving_activations_will_do(features: set[str], missing: set[str]) -> None:
    stack = framework("megatron-core").model_copy(update={"features": frozenset(features), "by_hand": frozenset()})
    columns = as_columns(Layout(offload_activations=True), 8)
    broken = {str(rule.reason).rpartition(" no ")[2] for rule in rules(asked(stack=stack), columns) if np.any(rule.broken)}
    assert {name for name in broken if name.startswith("offload_")} == missing


def test_a_teacher_that_runs_beside_the_student_is_cut_as_it_is() -> None:
    """Llama 3 8B and 70B: 32 and 64 heads, both 8 of keys and values; cached logits need no teacher."""
    teacher = {"model": "llama-3-70b"}
    layouts = as_columns(Layout(tp=64), 64)

    def heads(**more: Any) -> list[bool]:
        question = asked("llama-3-8b", count=64, kind="distil", teacher={**teacher, **more})
        found = [rule for rule in rules(question, layouts) if str(rule.reason) == "tp does not divide the attention heads"]
        return [bool(rule.broken[0]) for rule in found]

    assert heads() == [True, False]
    assert heads(cached_top_k=64) == [True]


def test_the_first_broken_rule_explains_a_layout_and_counts_it_once() -> None:
    """A block of all combinations of small degrees: the mask and the counts of the block are those of its layouts one by one."""
    question = asked(MIXTRAL, count=8)
    axes: dict[str, list[float]] = {"tp": [1, 2, 3], "pp": [1, 2, 8], "ep": [1, 2, 3], "zero": [0, 1, 2], "dp": [1, 2, 4, 8]}
    usual = as_columns(Layout(dp=1), 1)
    shape = (1,) * len(axes)
    block, flat = {}, {}
    every = np.array(list(itertools.product(*axes.values())))
    for name in FIELDS:
        column = getattr(usual, name)
        place = list(axes).index(name) if name in axes else 0
        block[name] = (
            np.array(axes[name]).reshape([-1 if i == place else 1 for i in range(len(axes))])
            if name in axes
            else (column.reshape(shape))
        )
        flat[name] = every[:, place] if name in axes else np.repeat(column, len(every))
    alive, counts = screen(question, Layouts(**block))
    broken, first, names = impossible(question, Layouts(**flat))
    assert np.broadcast_to(alive, [len(a) for a in axes.values()]).ravel().tolist() == (~broken).tolist()
    assert counts == {str(names[i]): int((first == i).sum()) for i in sorted(set(first.tolist()) - {-1})}
    assert alive.any()
    assert ((first >= 0) == broken).all()


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (asked(precision="fp8", stack="megatron-2022"), "has no FP8 training"),
        (asked(MIXTRAL, framework("fsdp").model_copy(update={"overlaps_experts": True})), "has no such schedule"),
        (asked("bert-base", multi_token_prediction=1, seq_len=512), "multi_token_prediction"),
        (asked({**LLAMA, "num_kv_heads": 8, "relative_attention": True}), "by relative positions"),
        (asked({**LLAMA, "memory_length": 64}), "attends to a memory"),
        (asked(GPT, seq_len=4097), "learned position table"),
        (asked(target_len=64), "no encoder in front"),
        (asked("t5-base", multi_token_prediction=1), "encoder-decoder"),
        (asked("bart-base", seq_len=1024, target_len=1025), "position table"),
        (asked("llama-3-8b", kind="distil", teacher={"model": "gpt2"}), "one vocabulary"),
        (asked("llama-3-8b", kind="distil", teacher={"model": "llama-3-70b", "cached_top_k": 128_257}), "128,256 words"),
    ],
)
def test_what_no_layout_can_mend_is_refused_at_once(question: Question, words: str) -> None:
    with pytest.raises(PlannerError, match=re.escape(words)):
        check_job(question)


@pytest.mark.parametrize(
    "question",
    [
        asked(precision="fp8"),
        asked(MIXTRAL, OVERLAPPING),
        asked(GPT, seq_len=4096),
        asked({**LLAMA, "position_embedding": "rotary"}, seq_len=8192),
        asked({**LLAMA, "memory_length": 64}, framework("huggingface", attention_kernel="eager")),
        asked("bart-base", seq_len=1024, target_len=1024),
        asked("llama-3-8b", kind="distil", teacher={"model": "llama-3-70b", "cached_top_k": 128_256}),
        asked(multi_token_prediction=1),
    ],
)
def test_what_can_be_trained_is_not_refused(question: Question) -> None:
    check_job(question)


@pytest.mark.parametrize(("images", "tokens", "refused_"), [(4.0, 1024.0, False), (4.0, 1023.0, True), (0.0, 1.0, False)])
def test_images_take_their_tokens_of_the_sequence(images: float, tokens: float, refused_: bool) -> None:
    """Gemma 3: 256 tokens an image. Layers that attend to images (Llama 3.2 Vision) take none."""
    gemma, reader = load_model("gemma-3-4b"), load_model("llama-3.2-11b-vision")
    check_images(reader, "job", images, 0, "seq_len", 1.0)
    if refused_:
        with pytest.raises(PlannerError, match=r"1,024 of seq_len = 1023"):
            check_images(gemma, "job", images, 0, "seq_len", tokens)
    else:
        check_images(gemma, "job", images, 0, "seq_len", tokens)


def test_notes_are_given_where_they_say_something_new() -> None:
    llama = model({**LLAMA, "context_length": 2048})
    assert [len(length_notes(llama, job(seq_len=s))) for s in (2048, 2049)] == [0, 1]
    assert not length_notes(model(LLAMA), job(seq_len=1 << 17))
    # four times the 67 million tokens of the largest published step (Kimi K2), exactly and a sequence more
    assert [len(step_notes(job(seq_len=1000, global_batch_size=b))) for b in (268_000, 268_001)] == [0, 1]
    assert "268,001 tokens would be 268" in str(step_notes(job(seq_len=1000, global_batch_size=268_001))[0])
    # an epoch of fewer tokens, or samples, than a step of 8 x 1,000: a whole step is billed, which a note says
    few = {"seq_len": 1000, "global_batch_size": 8}
    assert [len(short_notes(job(**few, num_tokens=n))) for n in (100, 7_999, 8_000)] == [1, 1, 0]
    assert [len(short_notes(job(**few, num_samples=n))) for n in (1, 7, 8)] == [1, 1, 0]
    assert [len(short_notes(job(**few, **given))) for given in ({}, {"num_steps": 1})] == [0, 0]
    vision = load_model("llama-3.2-11b-vision")
    assert [len(tower_notes(vision, job(images=n))) for n in (0.0, 1.0)] == [1 + len(vision.towers), 0]
    assert not tower_notes(model(LLAMA), job())
    assert (len(encoder_notes(load_model("t5-base"), job())), len(encoder_notes(model(LLAMA), job()))) == (1, 0)


def test_a_choice_of_one_is_no_list() -> None:
    """On one GPU the product of the degrees must be 1, on six one of four."""
    for held, right in ((1, "must be 1."), (6, "must be one of 1, 2, 3, 6.")):
        with pytest.raises(PlannerError, match="must be ") as refused:
            planner.plan(
                model="gpt2",
                cluster={"node": "dgx-h100", "num_gpus": held},
                job={"seq_len": 1024, "global_batch_size": 8},
                layout={"tp": 4},
            )
        assert str(refused.value).endswith(right)


@for_each("recipe", SCALINGS)
def test_a_recipe_for_a_precision_names_both_fields(recipe: str) -> None:
    for named in (recipe, recipe.upper()):
        with pytest.raises(PlannerError, match=f"give precision = 'fp8' with fp8_recipe = '{recipe}'"):
            planner.plan(model="gpt2", cluster="8xb200", job={"seq_len": 1024, "global_batch_size": 8, "precision": named})


@pytest.mark.parametrize("name", framework_names())
def test_software_whose_layers_stay_in_16_bit_is_asked_for_no_quantized_weights(name: str) -> None:
    """Megatron's parallel layers have no 4-bit form (Megatron-Bridge, docs/training/peft.md: LoRA and DoRA), in whatever is based
    on them; bitsandbytes and torchao swap torch's linear layers, which the others are made of."""
    adapter = {"adapter": {"rank": 16}, "seq_len": 512, "global_batch_size": 8}
    asked: dict[str, Any] = {"model": "llama-3.2-1b", "cluster": "1xh100", "framework": name, "explain": False}
    planner.plan(**asked, job={"kind": "lora", **adapter})
    whole = {"megatron-core", "megatron-2022", "torchtitan", "llm.c"} & {*lineage(name)} and name != "automodel"
    for kind in ("qlora", "gptq-lora"):
        if not whole:
            planner.plan(**asked, job={"kind": kind, **adapter})
            continue
        with pytest.raises(PlannerError, match=f"'{re.escape(name)}': keeps frozen weights in 16 bit, and job.kind = '{kind}'"):
            planner.plan(**asked, job={"kind": kind, **adapter})
