"""What a search is asked, by hand: setups, their order, which spaces come next, what is refused and exactly where."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from each import for_each
from examples import ACCELERATOR, LLAMA, NODE, framework, gpus, job, model

from planner.common.errors import PlannerError
from planner.hardware.cluster import cluster
from planner.layout_search import api
from planner.layout_search.api import run
from planner.layout_search.choice import choose
from planner.layout_search.on_cores import largest_first
from planner.layout_search.question import HOST_GAIN, OFFLOAD, SearchQuestion, Setup, as_question
from planner.layout_search.search import gives_way
from planner.layout_search.space import EVERYTHING
from planner.performance.interruptions import Recovery
from planner.performance.risk import RISK
from planner.prices.price import Price

CARD = ACCELERATOR.replaced(tdp_w=400.0)
ON_DEMAND, SPOT = {"usd_per_gpu_hour": 2.0, "term": "on-demand"}, {"usd_per_gpu_hour": 1.5, "term": "spot"}


def asked(**changed: Any) -> SearchQuestion:
    given: dict[str, Any] = {
        "model": model(LLAMA), "cluster": gpus(4), "framework": framework("megatron-core"), "job": job(num_steps=10),
    }  # fmt: skip
    return as_question(**{**given, **changed})


def admitted(q: SearchQuestion) -> list[frozenset[str]]:
    return [setup.grid.allow for setup in q.setups]


def test_what_nobody_says_is_as_usual() -> None:
    q = asked()
    assert (q.objective, q.top, q.deadline_s, q.budget_usd, q.wide, q.refused) == ("time", 20, None, None, "", ())
    (setup,) = q.setups
    assert (setup.risk, setup.headroom, setup.price, admitted(q)) == (RISK, 0.0, None, [frozenset()])
    assert setup.fit.headroom == 0.0
    assert HOST_GAIN == 0.1
    q = Setup(grid=setup.grid, price=None).question  # type: ignore[assignment]
    assert choose(q) == choose(q, headroom=0.0)  # type: ignore[arg-type]


def test_a_run_has_the_steps_of_all_its_epochs() -> None:
    """160 samples of 16 are ten steps, 161 eleven; three epochs three times as many."""
    for length, steps in (({"num_samples": 160}, 10.0), ({"num_samples": 161}, 11.0), ({"num_tokens": 16 * 1024 * 5}, 5.0)):
        for epochs in (1, 3):
            assert asked(job=job(**length, num_epochs=epochs)).num_steps == steps * epochs
    assert asked(job=job()).num_steps is None


@for_each("top", [1, 2, 7.0, np.int64(5), 10_000])
def test_a_whole_number_of_rows_may_be_asked_for(top: Any) -> None:
    found = asked(top=top).top
    assert found == top
    assert type(found) is int


@for_each("top", [0, -1, True, False, 2.5, "3", None, float("nan"), [3]])
def test_what_is_no_number_of_rows_is_refused(top: Any) -> None:
    with pytest.raises(PlannerError, match=r"top = .*: must be a whole number of at least 1"):
        asked(top=top)


def test_a_setup_says_where_it_is_and_what_its_gpus_draw() -> None:
    q = asked(cluster=cluster(NODE, num_gpus=4, accelerator=CARD), price=[ON_DEMAND, SPOT])
    one, two = q.setups
    assert one.power_w == 4 * 400.0
    where = f"{one.question.cluster.name}, megatron-core"
    assert (one.where, one.label) == (where, f"{where}, $2.00 {one.price and one.price.describe()}")
    assert asked().setups[0].label == f"{asked().setups[0].where}, no price"
    other = asked(cluster=cluster(NODE, num_gpus=2, accelerator=CARD), price=[ON_DEMAND]).setups[0]
    assert other.price == one.price
    again = asked(cluster=cluster(NODE, num_gpus=4, accelerator=CARD), price=[ON_DEMAND], framework="fsdp").setups[0]
    assert [again.takes_place_of(x) for x in (one, two, other)] == [True, False, False]


def test_spaces_are_widened_by_the_host_then_by_everything() -> None:
    """Where any setup lacks it; those that have more keep it."""
    first, second = asked(gpus=[2, 4]).setups
    for allows, wider in (
        ((frozenset(), frozenset()), [[OFFLOAD, OFFLOAD], [EVERYTHING, EVERYTHING]]),
        ((OFFLOAD, OFFLOAD), [[EVERYTHING, EVERYTHING]]),
        ((OFFLOAD, frozenset()), [[OFFLOAD, OFFLOAD], [EVERYTHING, EVERYTHING]]),
        ((EVERYTHING, OFFLOAD), [[EVERYTHING, EVERYTHING]]),
        ((frozenset({"etp"}), EVERYTHING), [[OFFLOAD | {"etp"}, EVERYTHING], [EVERYTHING | {"etp"}, EVERYTHING]]),
        ((EVERYTHING, EVERYTHING), []),
    ):
        setups = tuple(
            replace(setup, grid=replace(setup.grid, allow=frozenset(allow)))
            for setup, allow in zip((first, second), allows, strict=True)
        )
        q = replace(asked(), setups=setups)
        assert [admitted(more) for more in q.widened()] == wider
        assert all("at this risk" in more.wide for more in q.widened())
        hosted = q.hosted()
        if all(allow >= OFFLOAD for allow in allows):
            assert hosted is None
        else:
            assert hosted is not None
            assert admitted(hosted) == [frozenset(allow | OFFLOAD) for allow in allows]
            assert "recomputes everything" in hosted.wide


def named(q: SearchQuestion, *allows: str) -> tuple[Setup, ...]:
    """Setups that can be told apart by what they admit."""
    return tuple(replace(q.setups[0], grid=replace(q.setups[0].grid, allow=frozenset({allow}))) for allow in allows)


def test_other_setups_come_in_turn_each_with_those_after_it() -> None:
    q = asked()
    a, b, c = (named(q, name) for name in ("a", "b", "c"))
    q = replace(
        q, wide="wide", notes=("own",), others=((a, ("why a",), ("faster a",)), (b, ("why b",), ("",)), (c, ("why c",), ()))
    )
    turns = list(q.elsewhere())
    assert [(turn.setups, turn.notes, turn.wide) for turn in turns] == [
        (a, ("why a",), ""), (b, ("why b",), ""), (c, ("why c",), ""),
    ]  # fmt: skip
    rests = [[(rest[0], rest[1], rest[2]) for rest in turn.others] for turn in turns]
    assert rests == [[(b, ("why b",), ("why b",)), (c, ("why c",), ("why c",))], [(c, ("why c",), ("why c",))], []]
    quick = [(turn.setups, turn.notes, turn.others, turn.wide) for turn in q.quicker()]
    assert quick == [(a, ("faster a",), (), ""), (c, (), (), "")]


def test_preemptions_are_told_by_term() -> None:
    """One span of all that may be taken away, and which terms are not; without a rate nothing."""
    often = Recovery(preemption_mtbf_s=3e5, preemption_wait_s=450.0, restart_s=420.0)

    def said(*prices: Any, recovery: Recovery = often, **more: Any) -> list[str]:
        return [str(x) for x in asked(price=list(prices) or None, recovery=recovery, **more).said_of_preemptions]

    assert said(SPOT, ON_DEMAND, recovery=Recovery()) == []
    assert said(ON_DEMAND) == ["preemptions do not count at a price of on-demand: such nodes are not taken away"]
    spot = said(SPOT)
    assert len(spot) == 1
    assert spot[0].startswith("spot is ranked at 1.")
    assert spot[0].endswith("450 s until another node is there, 420 s and a checkpoint to restart")
    assert " to " not in spot[0].partition(" times ")[0]
    assert said(ON_DEMAND, SPOT) == [*said(ON_DEMAND), *spot]
    assert said(SPOT, {**SPOT, "usd_per_gpu_hour": 1.0}) == spot
    assert said()[0].startswith("no price is ranked at 1.")
    wide = said(SPOT, gpus=[8, 64])
    low, high = (said(SPOT, gpus=[count])[0].partition("ranked at ")[2].partition(" times")[0] for count in (8, 64))
    assert float(low) < float(high)
    assert wide[0].startswith(f"spot is ranked at {low} to {high} times its undisturbed time and cost")
    one, two = asked(price=[ON_DEMAND, SPOT]).setups
    assert replace(asked(), setups=(one, two)).preempted == (two,)
    assert asked().preempted == ()


def test_the_rate_of_preemptions_is_that_of_the_first_setup() -> None:
    one, two = asked(price=SPOT, gpus=[2, 4], recovery=Recovery(preemption_mtbf_s=3e5)).setups
    none = replace(two, recovery=Recovery())
    assert replace(asked(), setups=(one, none)).said_of_preemptions
    assert not replace(asked(), setups=(none, one)).said_of_preemptions


def test_units_are_all_degrees_of_all_setups_the_largest_first() -> None:
    q = asked(gpus=[2, 4])
    assert q.units == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 4)]
    sizes = {unit: q.setups[unit[0]].grid.size(unit[1]) for unit in q.units}
    assert q.num_layouts == sum(sizes.values())
    order = [(sizes[unit], unit) for unit in largest_first(q)]
    assert order == sorted(order, key=lambda row: (-row[0], row[1]))


def test_setups_are_of_each_cluster_by_price_by_framework() -> None:
    q = asked(gpus=[2, 4], price=[ON_DEMAND, 3.0], framework=["megatron-core", "fsdp"])
    found = [(s.question.cluster.num_gpus, s.price and s.price.usd_per_gpu_hour, s.question.framework.name) for s in q.setups]
    assert found == [(n, usd, name) for n in (2, 4) for usd in (2.0, 3.0) for name in ("megatron-core", "fsdp")]
    assert q.setups[0].question.cluster.accelerator == ACCELERATOR
    given = gpus(4)
    assert asked(cluster=given, gpus=[4]).setups[0].question.cluster is given
    assert asked(cluster=[given, given]).setups == asked(cluster=given).setups


@for_each("own", [2, 2.5, Price(usd_per_gpu_hour=2.0, term="on-demand"), {"usd_per_gpu_hour": 2.0}])
def test_a_price_of_ones_own_is_of_one_accelerator(own: Any) -> None:
    two = {"model": "gpt2", "cluster": "8xh100", "accelerators": ["h100", "a100-80gb"], "framework": "megatron-core"}
    with pytest.raises(PlannerError, match="one price for a100-sxm4-80gb, h100-sxm5-80gb"):
        asked(**two, price=own)
    with pytest.raises(PlannerError, match="one price for a100-sxm4-80gb, h100-sxm5-80gb"):
        asked(**two, price=[{"term": "on-demand"}, own])
    assert len(asked(**two, price={"term": "on-demand"}).setups) == 2
    assert len(asked(**{**two, "accelerators": ["h100"]}, price=own).setups) == 1


def test_what_has_no_setup_is_refused_by_name() -> None:
    for wrong in ({"gpus": []}, {"accelerators": []}, {"gpus": [], "accelerators": []}):
        with pytest.raises(PlannerError, match="must each name at least one"):
            asked(**wrong)
    with pytest.raises(PlannerError, match="the list is empty; give at least one cluster"):
        asked(cluster=[])


def test_each_precision_that_is_the_usual_one_of_its_gpu_is_told_where_they_differ() -> None:
    fields: dict[str, Any] = {"model": "gpt2", "framework": "megatron-core", "job": {"seq_len": 512, "global_batch_size": 8}}
    for clusters, notes in (
        (["8xh100", "8xv100-sxm2-32gb"], ["precision, as usual: bf16 on h100-sxm5-80gb, fp16 on v100-sxm2-32gb"]),
        (["8xh100", "8xa100-80gb"], []),
        ("8xh100", []),
    ):
        told = [str(note) for note in asked(**fields, cluster=clusters).notes]
        assert [note for note in told if note.startswith("precision")] == notes


def test_a_question_is_refused_for_what_it_lacks_and_for_nothing_else() -> None:
    watts = cluster(NODE, num_gpus=4, accelerator=CARD)
    for name in ("deadline_s", "budget_usd"):
        assert getattr(asked(**{name: 1.0}, price=2.0), name) == 1.0
        with pytest.raises(PlannerError, match=f"{name}: the job has no length"):
            asked(**{name: 1.0}, job=job(), price=2.0)
    for unpriced in ({"objective": "cost"}, {"budget_usd": 1.0}, {"objective": "memory", "budget_usd": 1.0}):
        with pytest.raises(PlannerError, match="no quote for test-gpu"):
            asked(**unpriced)
    assert asked(objective="cost", price=2.0).objective == "cost"
    for objective in ("time", "memory"):
        assert asked(objective=objective).objective == objective
    assert asked(objective="energy", cluster=watts).objective == "energy"
    one_watt = cluster(NODE, num_gpus=1, accelerator=ACCELERATOR.replaced(tdp_w=1.0))
    assert asked(objective="energy", cluster=one_watt).objective == "energy"
    with pytest.raises(PlannerError, match=r"the power of test-gpu \(tdp_w\) is not known"):
        asked(objective="energy", price=2.0)
    often = Recovery(preemption_mtbf_s=3e5)
    for prices in ([SPOT, ON_DEMAND], [ON_DEMAND, SPOT], [ON_DEMAND, SPOT, {**SPOT, "usd_per_gpu_hour": 1.0}]):
        with pytest.raises(PlannerError, match="preemption_mtbf_s is missing"):
            asked(objective="cost", price=prices)
        assert asked(objective="cost", price=prices, recovery=often).objective == "cost"
        assert asked(objective="time", price=prices).objective == "time"
    assert asked(objective="cost", price=[SPOT, SPOT]).objective == "cost"


def test_of_several_setups_those_that_cannot_run_the_job_are_named_and_of_one_it_is_said_why() -> None:
    fields: dict[str, Any] = {"model": "gpt2", "framework": "megatron-core"}
    fields["job"] = {"seq_len": 512, "global_batch_size": 8, "precision": "bf16"}
    q = asked(**fields, cluster=["8xv100-sxm2-32gb", "8xa100-80gb"])
    assert [s.question.cluster.accelerator.name for s in q.setups] == ["a100-sxm4-80gb"]
    (refused,) = q.refused
    assert "megatron-core, $" in str(refused)
    with pytest.raises(PlannerError) as alone:
        asked(**fields, cluster="8xv100-sxm2-32gb")
    assert str(refused).endswith(str(alone.value))
    assert "megatron-core, $" not in str(alone.value)
    with pytest.raises(PlannerError, match=r"v100-sxm2-32gb has no bf16.*t4 has no bf16") as both:
        asked(**fields, cluster=["8xv100-sxm2-32gb", "8xt4"])
    assert str(both.value).startswith(str(refused))


def test_where_no_framework_is_named_each_cluster_has_its_own_with_the_reason() -> None:
    q = asked(model="llama-3-8b", framework=None, cluster=["8xh100", "16xh100"], job=job(seq_len=4096))
    assert [s.question.framework.name for s in q.setups] == ["fsdp", "megatron-core"]
    assert [str(note).partition(": ")[2].partition(",")[0] for note in q.notes] == [
        "framework chosen: fsdp", "framework chosen: megatron-core",
    ]  # fmt: skip
    others = [{(s.question.cluster.num_gpus, s.question.framework.name) for s in setups} for setups, _, _ in q.others]
    assert others == [{(8, "megatron-core")}, {(16, "fsdp")}]  # each the other one, of its own cluster alone
    named_ = asked(model="llama-3-8b", framework=["fsdp"], cluster=["8xh100", "16xh100"])
    assert (named_.others, named_.notes) == ((), ())


def test_a_quicker_framework_is_looked_for_unless_memory_is_asked_for() -> None:
    """Of adapters always; else where what moves to the host was admitted."""
    for objective in ("time", "cost", "energy", "memory"):
        for frozen in (False, True):
            for widened in (False, True):
                question = SimpleNamespace(objective=objective, job=SimpleNamespace(frozen=frozen))
                result = SimpleNamespace(question=question, widened=widened)
                assert bool(gives_way(result)) == (objective != "memory" and (frozen or widened))  # type: ignore[arg-type]


def test_an_engine_is_local_or_ray_and_an_address_is_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    q, calls = asked(), []
    monkeypatch.setattr(api, "run_on_cores", lambda *given: calls.append(("local", *given)))
    monkeypatch.setattr(api, "run_on_ray", lambda *given: calls.append(("ray", *given)))
    run(q)
    run(q, engine="local", progress=print)  # type: ignore[arg-type]
    run(q, engine="ray")
    run(q, engine="ray", address="auto", progress=print)  # type: ignore[arg-type]
    assert calls == [("local", q, None), ("local", q, print), ("ray", q, None, None), ("ray", q, "auto", print)]
    with pytest.raises(PlannerError, match="belongs to engine = 'ray'"):
        run(q, address="auto")
    for engine in ("spark", "", "Local"):
        with pytest.raises(PlannerError, match="must be local or ray"):
            run(q, engine=engine, address="auto")
