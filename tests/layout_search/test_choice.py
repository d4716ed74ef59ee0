"""Laws of the recommended layout: it surely fits, nothing bolder hides, and more freedom or memory never makes it worse."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from examples import ACCELERATOR, GPT, LLAMA, MIXTRAL, NODE, framework, gpus, job, model

import planner
from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster, load_node
from planner.hardware.curves import curves_of
from planner.layout_search.choice import Choice, _choice, _chosen, choose
from planner.layout_search.question import as_question
from planner.layout_search.ranking import NOISE, STEPS, complexity, kinds
from planner.layout_search.search import run_search, search_all, searched
from planner.layout_search.space import EVERYTHING, LayoutGrid
from planner.model.catalog import load_model
from planner.performance.risk import RISK, FitRule, chance, fit_rule
from planner.uncertainty.interval import Interval
from planner.workload.dispatch import stack_on
from planner.workload.framework import modules_of
from planner.workload.layout import Layout, as_columns
from planner.workload.layout_text import layout_fields
from planner.workload.question import Question
from planner.workload.resolve import as_model

STACKS = ("megatron-core", "fsdp", "deepspeed-zero")
GIBS = (1.6, 2.0, 2.4, 3.2, 80.0)


def card(gib: float) -> Any:
    return ACCELERATOR.replaced(memory_bytes=gib * 2.0**30)


def best(fields: dict[str, Any], stack: str, gib: float = 80.0, **changes: Any) -> float:
    """Seconds of the fastest layout that fits at the accepted risk, infinite where none does."""
    asked: dict[str, Any] = {
        "model": model(fields),
        "cluster": cluster(NODE, num_gpus=8, accelerator=card(gib)),
        "framework": framework(stack),
        "job": job(),
    }
    found = search_all(as_question(**{**asked, **changes}), searched).found.rows
    return float(found.value.min()) if len(found) else np.inf


# --- the rule ---------------------------------------------------------------------------------------------------------


def test_the_rule_accepts_what_its_probability_allows() -> None:
    rule = FitRule(usable_bytes=80e9, error=Interval(lower=0.9, expected=1.0, upper=1.2))
    need = np.linspace(40e9, 120e9, 400)
    assert (np.diff(rule.probability(need)) <= 0).all()
    assert (rule.holds(need) == (rule.probability(need) >= 1.0 - RISK - 1e-12)).all()
    assert rule.probability(80e9 / 1.2) == pytest.approx(0.95)
    assert rule.most_bytes(0.5) == pytest.approx(80e9 / 1.2)  # the upper bound just inside the card
    assert dataclasses.replace(rule, risk=0.2).most_bytes(0.5) > rule.most_bytes(0.5)
    assert dataclasses.replace(rule, headroom=0.5).most_bytes(0.5) == 40e9


def test_what_is_counted_is_surer_than_what_is_modelled() -> None:
    """Model states are exact, activations are not: of two equal needs the one with more states is the surer to fit."""
    rule = FitRule(usable_bytes=80e9, error=Interval(lower=0.9, expected=1.0, upper=1.2))
    states = np.linspace(0.0, 75e9, 16)
    assert (np.diff(rule.probability(75e9, states)) >= 0).all()
    assert (np.diff(rule.most_bytes(np.linspace(0.0, 1.0, 11))) <= 0).all()
    assert (rule.holds(75e9, states) == (rule.probability(75e9, states) >= 1.0 - RISK - 1e-12)).all()
    assert rule.most_bytes(1.0) > 80e9 / 1.2**2  # and yet all modelled is no more than twice as unsure as half


@pytest.mark.parametrize("risk", [0.0, -0.1, 0.6, 1.0, float("nan"), "0.05", True])
def test_a_risk_is_a_probability(risk: Any) -> None:
    with pytest.raises(PlannerError, match="must be a probability above 0"):
        planner.plan(model="gpt2", cluster="dgx-a100-80gb", job={"seq_len": 512, "global_batch_size": 8}, risk=risk)


def test_a_chance_is_never_rounded_up_to_what_it_misses() -> None:
    assert (chance(0.94999), chance(0.95), chance(0.9996)) == ("94.9%", "95.0%", "99.9%")


# --- the choice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("gib", GIBS)
def test_what_is_recommended_has_its_upper_bound_inside_the_card(stack: str, gib: float) -> None:
    for fields in (GPT, LLAMA, MIXTRAL):
        answer = planner.plan(
            model=model(fields),
            cluster=cluster(NODE, num_gpus=8, accelerator=card(gib)),
            framework=framework(stack),
            job=job(),
            explain=False,
        )
        upper = answer.intervals["peak_total_bytes"].upper
        assert answer.recommended == (answer.fit_probability >= 1.0 - RISK - 1e-9)
        assert answer.recommended == (upper <= answer.usable_bytes * (1 + 1e-12))
        if answer.bolder is not None:
            assert answer.bolder.fit_probability < 1.0 - RISK
            assert answer.bolder.step_time_s < answer.step_time_s
            assert answer.bolder.gain == pytest.approx(answer.step_time_s / answer.bolder.step_time_s - 1.0)


@pytest.mark.parametrize("stack", STACKS)
def test_more_memory_never_makes_the_best_slower(stack: str) -> None:
    for fields in (GPT, LLAMA, MIXTRAL):
        seconds = [best(fields, stack, gib, allow=["all"]) for gib in GIBS]
        assert (np.diff([s for s in seconds if np.isfinite(s)]) <= 0).all()
        assert seconds == sorted(seconds, reverse=True)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("fields", [GPT, MIXTRAL])
def test_dropping_a_constraint_never_makes_the_best_worse(fields: dict[str, Any], stack: str) -> None:
    usual = best(fields, stack, 2.4)
    freer: list[dict[str, Any]] = [{"risk": 0.2}, {"allow": ["all"]}, {"allow": ["shard-groups"]}, {"gpus": [4, 8]}]
    assert all(best(fields, stack, 2.4, **more) <= usual for more in freer)
    tight = best(fields, stack, job=job(num_steps=10), deadline_s=1e3)
    assert best(fields, stack, job=job(num_steps=10)) <= tight


def test_unusual_layouts_are_taken_where_nothing_else_fits() -> None:
    small = cluster(NODE, num_gpus=1, accelerator=card(1.05))
    work, stack = job(global_batch_size=1, seq_len=128), framework("deepspeed-zero")
    choice = choose(Question(model(LLAMA, num_layers=24), small, stack, work))
    assert choice.layout.offload_optimizer
    assert any("unusual" in why for why in choice.why)
    large = cluster(NODE, num_gpus=1, accelerator=card(80.0))
    assert not choose(Question(model(LLAMA, num_layers=24), large, stack, work)).layout.offload_optimizer


def test_a_choice_is_kept_under_all_that_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same question is searched once; another risk, headroom, space, micro-batch or curve of the kernels is another one."""
    searches: list[object] = []
    monkeypatch.setattr("planner.layout_search.choice.search_all", lambda *asked: (searches.append(asked), search_all(*asked))[1])
    _choice.cache_clear()

    def asked(**more: Any) -> Choice:
        given = Question(model(LLAMA), cluster(NODE, num_gpus=2, accelerator=card(3.0)), framework("fsdp"), job())
        return choose(given, **more)

    first = asked()
    assert asked() is first
    assert len(searches) == 1
    others: list[dict[str, Any]] = [{"risk": 0.2}, {"headroom": 0.1}, {"allow": ["all"]}, {"micro_batch_size": 1}]
    for more in others:
        asked(**more)
    slower = curves_of(ACCELERATOR).model_copy(update={"matmul_peak_fraction": 0.1})
    monkeypatch.setattr("planner.layout_search.choice.curves_of", lambda accelerator: slower)
    asked()
    assert len(searches) == 2 + len(others)


@pytest.mark.parametrize(
    ("node", "joined"), [("workstation-8x-rtx-4090-24gb", 8), ("dgx-h100", 8), ("a4x-highgpu-4g", 16), ("g2-standard-24", 2)]
)
def test_tensor_parallelism_over_a_network_is_unusual(node: str, joined: int) -> None:
    """Four collectives a layer: Megatron-LM keeps them inside a server (Narayanan et al. 2021, arXiv 2104.04473, takeaway 1)."""
    asked = Question(load_model("llama-3.1-8b"), cluster(node, num_gpus=16), framework("megatron-core"), job())
    assert max(LayoutGrid(question=asked, allow=frozenset()).tps) == joined
    assert max(LayoutGrid(question=asked).tps) == 16


def test_simple_is_fewer_kinds_then_no_offload_then_fewer_chunks() -> None:
    order = [
        Layout(zero=3),
        Layout(tp=2, sequence_parallel=True),
        Layout(pp=2),
        Layout(ep=8),
        Layout(pp=2, schedule="zero-bubble"),
        Layout(pp=2, vpp=2),
        Layout(etp=2),
        Layout(tp=2, pp=2),
        Layout(tp=2, offload_optimizer=True),
    ]
    columns = as_columns(order, 8)
    assert kinds(columns).tolist() == [0, 1, 1, 1, 1, 1, 1, 2, 2]
    assert (np.diff(complexity(columns)) >= 0).all()


def test_no_layout_fits_is_said_after_the_whole_space() -> None:
    tiny = cluster(NODE, num_gpus=2, accelerator=card(0.8))
    asked: dict[str, Any] = {"model": model(LLAMA), "cluster": tiny, "framework": framework("megatron-core"), "job": job()}
    every = planner.candidates(**asked, allow=["all"])
    assert not planner.evaluate(**asked, layouts=every).fits.any()
    answer = planner.plan(**asked)
    assert not answer.fits
    assert answer.nearest is None
    assert "no layout of megatron-core fits this cluster" in answer.reasons[-1]
    with pytest.raises(PlannerError, match="no layout is left"):
        run_search(as_question(**asked))


def test_the_nearest_layout_that_fits_surely_fits() -> None:
    asked: dict[str, Any] = {
        "model": "llama-2-13b",
        "cluster": "dgx-a100-40gb",
        "framework": "megatron-core",
        "job": {"seq_len": 2048, "global_batch_size": 32},
    }
    wanted = planner.plan(**asked, layout={"tp": 1})
    assert not wanted.fits
    assert wanted.nearest is not None
    assert planner.plan(**asked, layout=wanted.nearest).recommended


def test_the_sentence_counts_layouts_that_fit() -> None:
    asked: dict[str, Any] = {"model": model(LLAMA), "cluster": gpus(8), "framework": framework("megatron-core"), "job": job()}
    table = planner.evaluate(**asked, layouts=planner.candidates(**asked))
    rule = fit_rule(Question(asked["model"], asked["cluster"], asked["framework"], asked["job"]))
    fitting = int((table.fits & rule.holds(table.firm_bytes, table.states_bytes)).sum())
    assert f"{fitting:,} layouts fit" in planner.plan(**asked).notes[0]
    assert f"(valid: {int(table.possible.sum()):,})" in planner.plan(**asked).notes[0]


@pytest.mark.parametrize(
    ("equals", "fitting", "said"),
    [
        (1, 1, "the only one that fits with a probability of 95% or more (valid: 7)"),
        (1, 6, "the fastest, no other is within 2% of it; 6 layouts fit"),
        (3, 6, "the simplest of 3 within 2% of the fastest; 6 layouts fit"),
    ],
)
def test_one_layout_is_not_the_simplest_of_several(equals: int, fitting: int, said: str) -> None:
    assert said in _chosen(equals, fitting, "95%", "7")


@pytest.mark.parametrize("gib", [1.6, 1.67, 1.7, 1.8, 80.0])
def test_the_sentence_says_of_how_many_the_layout_was_chosen(gib: float) -> None:
    """One of one is not the simplest of several: the sentence counts the rows of the search within NOISE of the fastest."""
    where = cluster(NODE, num_gpus=8, accelerator=card(gib))
    asked: dict[str, Any] = {"model": model(GPT), "cluster": where, "framework": framework("fsdp"), "job": job()}
    why, *more = planner.plan(**asked).notes
    allowed = [["offload"]] if any("moves states or activations to the host" in note for note in more) else [[]]
    if any("unusual ones were looked at" in note for note in more):
        allowed = [["offload"], sorted(EVERYTHING)]  # the second where none of the first surely fits
    rule = fit_rule(Question(asked["model"], where, asked["framework"], asked["job"]))
    for allow in allowed:
        table = planner.evaluate(**asked, layouts=planner.candidates(**asked, allow=allow))
        seconds = table.step_time_s[table.fits & rule.holds(table.firm_bytes, table.states_bytes)]
        if len(seconds):
            break
    # bounds of a group are exact to NOISE / STEPS
    edges = [1.0 + NOISE * (1.0 + sign / STEPS) for sign in (-1.0, 1.0)]
    fewest, most = (int((seconds <= edge * seconds.min()).sum()) if len(seconds) else 0 for edge in edges)
    if "none fits" in why:
        assert not len(seconds)
    elif "the only one that fits" in why:
        assert len(seconds) == 1
    elif "no other is within 2%" in why:
        assert fewest == 1
    else:
        assert any(f"the simplest of {equals} within 2%" in why for equals in range(fewest, most + 1))


def test_a_search_tells_how_sure_its_order_is() -> None:
    """Times over the recommended one's: narrower than the quotient of the two intervals, for most of the error is shared."""
    asked = {"seq_len": 1024, "global_batch_size": 64}
    q = as_question(model="llama-3.2-1b", cluster="dgx-a100-80gb", framework="megatron-core", job=asked, top=8)
    result = run_search(q)
    table = result.to_frame()
    first = table.iloc[0]
    assert (first["time_over_first_lower"], first["time_over_first"], first["time_over_first_upper"]) == (1.0, 1.0, 1.0)
    assert not first["order_decidable"]
    assert np.allclose(table["time_over_first"], table["step_time_s"] / first["step_time_s"])
    assert (table["time_over_first_lower"] <= table["time_over_first"]).all()
    assert (table["time_over_first"] <= table["time_over_first_upper"]).all()
    own = table["time_over_first_upper"] / table["time_over_first_lower"]
    single = (table["step_time_upper_s"] / table["step_time_lower_s"]) * (first["step_time_upper_s"] / first["step_time_lower_s"])
    assert (own < single).all()
    sure = table["probability_faster_than_first"]
    assert (table["order_decidable"] == ((sure <= 0.05) | (sure >= 0.95))).all()
    assert (table.attrs["boldest"] is None) == (result.bold_ratio is None)


@pytest.mark.parametrize(("gib", "sharded"), [(2.4, False), (None, True)])
def test_where_the_usual_framework_does_not_surely_fit_one_that_does_is_taken(gib: float | None, sharded: bool) -> None:
    """30.5 B weights with fp32 gradients are 6 bytes each, 92 GB a GPU on two H100 of 80; FSDP keeps all states on the host."""
    small = {"model": model(MIXTRAL), "cluster": cluster(NODE, num_gpus=8, accelerator=card(gib or 1.0)), "job": job()}
    work = {"kind": "finetune", "seq_len": 2048, "global_batch_size": 8}
    large = {"model": "qwen3-30b-a3b", "cluster": {"node": "dgx-h100", "num_gpus": 2}, "job": work}
    asked: dict[str, Any] = large if gib is None else small
    answer = planner.plan(**asked)
    assert answer.recommended
    assert (answer.framework.name == "fsdp") == sharded
    why = "framework chosen: fsdp, which shards all states and can move them to the host; no layout of megatron-core"
    assert any(str(note).startswith(why) for note in answer.notes) == sharded
    found = run_search(as_question(**asked))
    assert found.question.setups[0].grid.question.framework.name == answer.framework.name
    assert float(found.rows.step_time_s[0]) == answer.step_time_s
    assert not planner.plan(**asked, framework="megatron-core", explain=False).recommended or not sharded


@pytest.mark.parametrize(("host_bytes", "chosen"), [(2.2e12, "fsdp"), (1.0e12, "megatron-core")])
def test_where_the_host_holds_no_sharded_states_megatron_moves_the_optimizer_alone(host_bytes: float, chosen: str) -> None:
    """70.6 B weights: FSDP moves 16 bytes of each, 1.13 TB; Megatron-Core's master weights and moments are 12, 0.85 TB."""
    node = load_node("dgx-a100-80gb").replaced(name="dgx", aliases=[], host_memory_bytes=host_bytes)
    asked: dict[str, Any] = {
        "model": "llama-3-70b",
        "cluster": cluster(node, num_gpus=8),
        "job": {"seq_len": 4096, "global_batch_size": 64},
    }
    answer = planner.plan(**asked)
    assert answer.recommended
    assert answer.framework.name == chosen
    assert answer.layout.offload_optimizer
    found = run_search(as_question(**asked))
    assert found.question.setups[0].grid.question.framework.name == chosen
    assert float(found.rows.step_time_s[0]) == answer.step_time_s


@pytest.mark.parametrize(
    ("usual", "lean", "model", "on", "work"),
    [
        ("peft", "liger", "llama-3.1-8b", "rtx-4090", {"kind": "lora", "adapter": {"rank": 16}, "seq_len": 2048}),
        ("peft", "liger", "llama-3.1-8b", "h100", {"kind": "qlora", "adapter": {"rank": 16}, "seq_len": 16384}),
        ("huggingface", "fsdp", "llama-3.2-1b", "v100-sxm2-32gb", {"seq_len": 4096, "precision": "fp16"}),
    ],
)
def test_a_framework_short_of_memory_gives_way_to_one_that_is_faster(
    usual: str, lean: str, model: str, on: str, work: dict[str, Any]
) -> None:
    """It would recompute everything or move states to the host: a longer sequence or a smaller card were faster otherwise."""
    asked: dict[str, Any] = {"model": model, "cluster": on, "job": {"global_batch_size": 64, **work}}
    answer = planner.plan(**asked)
    other = planner.plan(**asked, framework=usual, explain=False)
    assert answer.recommended
    assert other.recommended
    assert answer.framework.name == lean
    assert answer.step_time_s < other.step_time_s
    assert answer.notes[0].startswith(f"framework chosen: {lean}, ")
    found = run_search(as_question(**asked))
    assert float(found.rows.step_time_s[0]) == answer.step_time_s
    assert found.question.notes[0] == answer.notes[0]


def test_of_equal_dollars_the_faster_is_taken() -> None:
    """A term that outlasts the run costs the same whichever layout runs: then time decides, as it does without a price."""
    asked: dict[str, Any] = {
        "model": model(LLAMA),
        "cluster": cluster(NODE, num_gpus=8, accelerator=card(3.2)),
        "framework": framework("megatron-core"),
        "job": job(num_steps=100),
    }
    term = {"term": "reserved-3-year", "usd_per_gpu_hour": 2.0}
    bound = run_search(as_question(**asked, price=term, objective="cost"))
    free = run_search(as_question(**asked, price=2.0, objective="cost"))
    quick = run_search(as_question(**asked))
    assert len(set(bound.rows.usd.tolist())) == 1
    assert bound.rows.time_s[0] == free.rows.time_s[0] == quick.rows.time_s[0]


def test_an_unusual_layout_is_not_taken_for_a_hair() -> None:
    """Where none surely fits, moving 0.2 GiB to the host for two points of probability is no answer."""
    asked: dict[str, Any] = {"model": "llama-3-8b", "cluster": "rtx-4090", "framework": "peft"}
    for seq_len in range(2048, 4096, 256):  # until none surely fits
        asked["job"] = {"kind": "lora", "adapter": {"rank": 16}, "seq_len": seq_len, "global_batch_size": 64}
        answer = planner.plan(**asked)
        if not answer.recommended:
            break
    assert not answer.recommended
    assert not answer.layout.offload_optimizer
    moved = planner.plan(**asked, layout={"recompute": "full", "zero": 2, "offload_optimizer": True}, explain=False)
    assert answer.fit_probability < moved.fit_probability < answer.fit_probability + RISK


def test_mixtures_of_experts_are_offered_the_modules_that_published_runs_recompute() -> None:
    """DeepSeek-V3 redoes norms, up-projections of latent attention and SwiGLU (arXiv:2412.19437, section 3.2.3): selective
    recomputation, which fused attention makes idle for dense models, spares bytes of experts and costs less than all."""
    stack, card = framework("megatron-core"), cluster("dgx-h100", num_gpus=8)
    dense, experts = stack_on(stack, card, model(LLAMA)), stack_on(stack, card, model(MIXTRAL))
    assert modules_of(dense) == {"core_attn"}
    assert modules_of(experts) == {"layernorm", "moe_act"}
    assert modules_of(stack_on(stack, card, as_model("deepseek-v3"))) == {"layernorm", "moe_act", "mla_up_proj"}
    said = stack.replaced(recompute_modules=frozenset(("moe",)))
    assert modules_of(stack_on(said, card, model(MIXTRAL))) == {"moe"}
    asked: dict[str, Any] = {"model": "mixtral-8x7b", "cluster": {"node": "dgx-h100", "num_gpus": 32}, "framework": stack}
    asked["job"] = {"seq_len": 4096, "global_batch_size": 256}
    plain, part, whole = (
        planner.plan(**asked, layout={"ep": 8, "pp": 4, "zero": 1, "recompute": words}, explain=False)
        for words in ("none", "selective", "full")
    )
    assert plain.memory_bytes["activations"] > part.memory_bytes["activations"] > whole.memory_bytes["activations"]
    assert plain.step_time_s < part.step_time_s < (plain.step_time_s + whole.step_time_s) / 2.0
    assert any("layernorm, moe_act" in note for note in part.notes)


@pytest.mark.parametrize("asked", [{"framework": "fsdp", "layout": {"tp": 2, "zero": 2}}, {"framework": "deepspeed-zero"}])
def test_the_label_of_one_replica_is_the_same_layout(asked: dict[str, Any]) -> None:
    """There is nothing to shard over, but FSDP has no stage 0, and DeepSpeed's stages hold buckets."""
    asked = {"model": "llama-3.2-1b", "job": {"seq_len": 2048, "global_batch_size": 8}, "explain": False, **asked}
    asked["cluster"] = cluster("dgx-h100", num_gpus=asked.get("layout", {}).get("tp", 1))
    for zero in (2, 3):
        said = planner.plan(**{**asked, "layout": {**asked.get("layout", {}), "zero": zero}})
        again = planner.plan(**{**asked, "layout": layout_fields(said.layout.label)})
        assert (again.layout, again.peak_total_bytes, again.step_time_s) == (said.layout, said.peak_total_bytes, said.step_time_s)


def test_quantized_weights_are_not_cut_by_tensor_parallelism() -> None:
    """NeMo's NF4 layers say so (nemo, megatron/adapters/qlora.py: no tensor parallelism), bitsandbytes packs blocks over rows."""
    asked: dict[str, Any] = {"model": "llama-3-8b", "cluster": {"node": "workstation-2x-rtx-4090-24gb", "num_gpus": 2}}
    asked |= {"framework": "fsdp", "job": {"kind": "qlora", "adapter": {"rank": 16}, "seq_len": 2048, "global_batch_size": 8}}
    assert planner.candidates(**asked).tp.max() == 2
    assert not any(planner.evaluate(**asked, layouts=planner.candidates(**asked)).possible & (planner.candidates(**asked).tp > 1))
    with pytest.raises(PlannerError, match=r"layout\.tp = 2: no tuning framework cuts"):
        planner.plan(**asked, layout={"tp": 2, "zero": 3})


def test_a_tiny_optimizer_stays_on_the_card() -> None:
    """42 M adapter parameters of 16 bytes are 0.6 GiB: less than the error of any predicted memory of a 24 GiB card."""
    job = {"kind": "lora", "adapter": {"rank": 16}, "seq_len": 2048, "global_batch_size": 8}
    asked: dict[str, Any] = {"model": "llama-3-8b", "cluster": "rtx-4090", "framework": "peft", "allow": ["all"]}
    assert not planner.candidates(**asked, job=job).offload_optimizer.any()
    assert planner.candidates(**asked, job={**job, "adapter": {"rank": 256}}).offload_optimizer.any()
    assert planner.candidates(**asked, job={"kind": "finetune", "seq_len": 2048, "global_batch_size": 8}).offload_optimizer.any()


def test_the_host_is_asked_before_what_nobody_runs() -> None:
    """QLoRA of 70 B on four RTX 3090: FSDP with checkpoints on the host fits, so that no sequence of 2,048 tokens is cut."""
    work = {"kind": "qlora", "adapter": {"rank": 16}, "seq_len": 2048, "global_batch_size": 64}
    asked: dict[str, Any] = {"model": "llama-3-70b", "cluster": "4xrtx-3090", "job": work, "explain": False}
    answer = planner.plan(**asked)
    assert answer.recommended
    assert answer.layout.offload_activations
    assert answer.layout.cp == 1
