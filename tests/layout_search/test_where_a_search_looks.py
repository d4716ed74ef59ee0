"""Where a search looks further, and whose answer it takes, on made-up answers of a few spaces: by hand, look by look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from each import for_each
from examples import job
from test_boundaries_of_a_search import asked
from test_ranking_by_hand import rows

from planner.layout_search import on_cores, search
from planner.layout_search.found import Found
from planner.layout_search.on_cores import searched_on_cores
from planner.layout_search.question import HOST_GAIN, OFFLOAD, SearchQuestion, Setup
from planner.layout_search.ranking import NOISE
from planner.layout_search.result import SearchResult
from planner.layout_search.search import search_all, search_unit, searched
from planner.layout_search.space import EVERYTHING
from planner.performance.feasibility import impossible
from planner.prices.price import Price

SPACES = {frozenset[str](): "usual", OFFLOAD: "host", EVERYTHING: "all"}


def setup(name: str) -> Setup:
    """One that is told by the term of its price."""
    return replace(asked().setups[0], price=Price(usd_per_gpu_hour=1.0, term=name))


def question(*names: str, others: tuple[Any, ...] = (), **changes: Any) -> SearchQuestion:
    """Of setups by name; ``others``: (name, why, why it is quicker)."""
    rest = tuple(((setup(name),), (why,), (quicker,)) for name, why, quicker in others)
    return replace(asked(), setups=tuple(setup(name) for name in names), others=rest, **changes)


class World:
    """Answers by setup and space: seconds, of the recommended row first; a negative number is how likely the likeliest fits.

    What is not named holds no row. ``stopped``: the look at which Ctrl-C comes.
    """

    def __init__(self, answers: dict[str, Any], stopped: int = 99, full: tuple[str, ...] = ()) -> None:
        self.answers, self.stopped, self.full = answers, stopped, full
        self.looks: list[str] = []

    def __call__(self, q: SearchQuestion) -> SearchResult:
        keys = [f"{s.price and s.price.term} {SPACES[s.grid.allow]}" for s in q.setups]
        self.looks.append(" + ".join(keys))
        found = Found()
        given = [(i, key, value) for i, key in enumerate(keys) for value in np.atleast_1d(self.answers.get(key, []))]
        sure = [(i, key, float(value)) for i, key, value in given if value > 0]
        likely = [float(-value) for _, _, value in given if value < 0]
        if sure:
            found.rows = rows(
                *(
                    {"setup": i, "time_s": value, "layout": {"recompute": "full" if key in self.full else "none"}}
                    for i, key, value in sure
                )
            )
        if likely and not sure:
            found.surest = replace(rows({}), fit_probability=np.array([max(likely)]))
        return SearchResult(question=q, found=found, size=1, complete=len(self.looks) != self.stopped)

    def answer(self, q: SearchQuestion) -> str:
        """What is taken, and whether it is complete."""
        result = search_all(q, self)
        keys = [f"{s.price and s.price.term} {SPACES[s.grid.allow]}" for s in result.question.setups]
        return " + ".join(keys) + ("" if result.complete else ", stopped")


B, C = ("b", "why b", ""), ("c", "why c", "")
USUAL, HOST, ALL = "a usual", "a host", "a all"


@for_each(
    "told",
    [
        ({USUAL: 1.0}, USUAL, [USUAL]),
        ({HOST: 1.0, ALL: 0.1}, HOST, [USUAL, HOST]),
        ({ALL: 1.0}, ALL, [USUAL, HOST, ALL]),
        ({"b usual": 1.0, "c usual": 0.1}, "b usual", [USUAL, HOST, ALL, "b usual"]),
        # what comes after one that moves to the host may be quicker
        ({"b host": 1.0}, "b host", [USUAL, HOST, ALL, "b usual", "b host", "c usual", "c host", "c all"]),
        ({"c usual": 1.0}, "c usual", [USUAL, HOST, ALL, "b usual", "b host", "b all", "c usual"]),
        # none surely fits: what is likelier by no more than the usual risk is not worth it
        ({USUAL: -0.5, HOST: -0.55, ALL: -0.55}, USUAL, None),
        ({USUAL: -0.5, HOST: -0.56, ALL: -0.58}, HOST, None),
        ({USUAL: -0.5, HOST: -0.52, ALL: -0.57}, ALL, None),
        ({USUAL: -0.5}, ALL, None),  # which holds the usual ones, too: nothing likely is left of none
        ({USUAL: -0.5, HOST: -0.4, ALL: -0.3, "b usual": -0.9}, USUAL, None),
    ],
)
def test_where_nothing_surely_fits_more_is_looked_at_in_turn(told: tuple[dict[str, Any], str, list[str] | None]) -> None:
    answers, taken, looks = told
    world = World(answers)
    assert world.answer(question("a", others=(B, C))) == taken
    assert looks is None or world.looks == looks
    assert len(world.looks) == len(set(world.looks))  # nothing is searched twice
    if looks is None:
        assert len(world.looks) == 9


def test_a_space_beyond_what_is_searched_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the host's, and of all; one of exactly the limit is."""
    sizes = {name: replace(q, wide="").num_layouts for name, q in zip(("host", "all"), question("a").widened(), strict=True)}
    for limit, looks in (
        (sizes["host"] - 1, [USUAL]), (sizes["host"], [USUAL, HOST]), (sizes["all"] - 1, [USUAL, HOST]),
        (sizes["all"], [USUAL, HOST, ALL]),
    ):  # fmt: skip
        monkeypatch.setattr(search, "MAX_LAYOUTS", limit)
        world = World({})
        world.answer(question("a"))
        assert world.looks == looks
    for limit, taken in ((sizes["host"] - 1, USUAL), (sizes["host"], HOST)):
        monkeypatch.setattr(search, "MAX_LAYOUTS", limit)
        assert World({USUAL: 2.0, HOST: 1.0}, full=(USUAL,)).answer(question("a")) == taken


JUST, MORE = 1.0 + HOST_GAIN, (1.0 + HOST_GAIN) * 1.001


@for_each(
    "told",
    [
        ({USUAL: MORE, HOST: 1.0}, {}, HOST),
        ({USUAL: JUST, HOST: 1.0}, {}, USUAL),
        ({USUAL: MORE}, {}, USUAL),
        ({USUAL: MORE, HOST: [1.0, 1.5]}, {}, HOST),
        ({USUAL: [MORE, MORE * 2], HOST: 1.0}, {}, HOST),
        ({USUAL: [1.05, MORE * 2], HOST: 1.0}, {}, USUAL),
        ({USUAL: 9.0, HOST: 1.0}, {"objective": "memory"}, USUAL),
        ({USUAL: 9.0, HOST: 1.0}, {"objective": "cost"}, HOST),
        ({USUAL: 9.0, HOST: -1.0}, {}, USUAL),
    ],
)
def test_what_recomputes_everything_gives_way_to_the_host_for_more_than_its_gain(
    told: tuple[dict[str, Any], dict[str, Any], str],
) -> None:
    answers, changes, taken = told
    assert World(answers, full=(USUAL,)).answer(question("a", **changes)) == taken
    world = World(answers)  # without recomputation it is not looked at
    assert (world.answer(question("a", **changes)), world.looks) == (USUAL, [USUAL])


QUICK_B, QUICK_C = ("b", "why b", "quicker b"), ("c", "why c", "quicker c")


@for_each(
    "told",
    [
        ({"b usual": 0.9}, "b usual"),
        ({"b usual": 1.0 / (1.0 + NOISE / 2)}, HOST),
        ({"b usual": 0.9, "c usual": 0.89}, "b usual"),
        ({"b usual": 0.9, "c usual": 0.8}, "c usual"),
        ({"b usual": 0.9, "c host": 0.8}, "c host"),
        ({"c usual": 0.5}, "c usual"),
        ({"b usual": -0.5, "c usual": -0.5}, HOST),
        ({"b usual": [0.9, 1.5]}, "b usual"),
        ({}, HOST),
    ],
)
def test_where_states_move_to_the_host_a_quicker_setup_takes_over(told: tuple[dict[str, Any], str]) -> None:
    """Each by more than the noise of what stands; those without a reason to be quicker are not asked."""
    answers, taken = told
    q = question("a", others=(QUICK_B, QUICK_C, ("d", "why d", "")))
    world = World({HOST: [1.0, 1.5], "d usual": 0.1, **answers})
    assert world.answer(q) == taken
    assert not any(look.startswith("d") for look in world.looks)
    found = search_all(q, World({HOST: [1.0, 1.5], **answers}))
    notes = {"a": (), "b": ("quicker b",), "c": ("quicker c",)}[taken[0]]
    assert found.question.notes == (notes or q.notes)
    assert World({USUAL: 1.0, **answers}).answer(q) == USUAL  # nothing moves: nothing takes over
    assert World({HOST: 1.0, **answers}).answer(replace(q, objective="memory")) == HOST


def test_a_search_that_is_stopped_looks_no_further_and_says_so() -> None:
    """At any of its looks: what had been found until then is the answer."""
    q = question("a", others=(QUICK_B, QUICK_C))
    for answers, full in (
        ({}, ()), ({HOST: 1.0}, ()), ({USUAL: 2.0, HOST: 1.0, "b usual": 0.5}, (USUAL,)), ({"b usual": 1.0}, ()),
        ({HOST: 1.0, "b usual": 0.5, "c usual": 0.2}, ()),
    ):  # fmt: skip
        whole = World(answers, full=full)
        assert not whole.answer(q).endswith("stopped")
        for last in range(1, len(whole.looks) + 1):
            world = World(answers, stopped=last, full=full)
            assert world.answer(q).endswith(", stopped")
            assert world.looks == whole.looks[:last]
    both = question("a", "b")
    for last in range(1, 5):
        world = World({USUAL: 1.0, "b host": 2.0}, stopped=last)
        world.answer(both)
        assert len(world.looks) <= 4


@for_each(
    "told",
    [
        ({USUAL: 1.0, "b usual": 2.0}, ["a usual + b usual"], ""),
        ({USUAL: 1.0, "b host": 2.0}, ["a usual + b usual", "b host", "a usual + b host"], "b"),
        ({HOST: 1.0, "b usual": 2.0}, ["a usual + b usual", "a host", "a host + b usual"], "a"),
        ({USUAL: 1.0}, ["a usual + b usual", "b host", "b all"], ""),
    ],
)
def test_each_of_several_setups_is_as_it_is_best_alone(told: tuple[dict[str, Any], list[str], str]) -> None:
    """Those that change are searched again together with the others; where none does, the first answer stands."""
    answers, looks, changed = told
    q = question("a", "b")
    world = World(answers)
    result = search_all(q, world)
    assert world.looks == looks
    wide = result.question.wide
    assert bool(wide) == bool(changed)
    if changed:
        where = result.question.setups["ab".index(changed)].where
        assert wide == f"{where}: {next(q.widened()).wide}"


def test_notes_of_what_takes_over_are_told_once_beside_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    q = question("a", "b", notes=("of all",))
    others = tuple(((replace(s, headroom=0.1),), ("why",), ("why",)) for s in q.setups)
    q = replace(q, others=others)

    class Tight(World):
        def __call__(self, q: SearchQuestion) -> SearchResult:
            found = super().__call__(q)
            roomy = [i for i, s in enumerate(q.setups) if s.headroom]
            keep = np.isin(found.found.rows.setup, roomy)
            return replace(found, found=replace(found.found, rows=found.found.rows.take(np.flatnonzero(keep))))

    world = Tight({"a usual": 1.0, "b usual": 2.0})
    result = search_all(replace(q, setups=(replace(q.setups[0], headroom=0.1), q.setups[1])), world)
    assert result.question.notes == ("of all", "why")
    assert [s.headroom for s in result.question.setups] == [0.1, 0.1]
    size = result.question.num_layouts
    for limit, notes in ((size, ("of all", "why")), (size - 1, ("of all",))):  # beyond it they are not searched together
        monkeypatch.setattr(search, "MAX_LAYOUTS", limit)
        again = search_all(replace(q, setups=(replace(q.setups[0], headroom=0.1), q.setups[1])), Tight(world.answers))
        assert again.question.notes == notes


def test_a_unit_is_searched_for_all_its_layouts_and_tells_how_many() -> None:
    q = asked(job=job(num_steps=10, global_batch_size=12))  # which eight ranks cannot share
    told: list[int] = []
    for setup_, tp in q.units:
        one = search_unit(q, (setup_, tp), Found(), told.append)
        assert told[-1] == one.num_layouts == q.setups[setup_].grid.size(tp)
        layouts = q.setups[setup_].grid.columns()
        broken, _, _ = impossible(q.setups[setup_].question, layouts)
        assert one.num_possible == np.count_nonzero(~broken & (layouts.tp == tp))
        told.clear()
    whole = searched(q).found
    assert whole.num_possible < whole.num_layouts
    progress: list[tuple[int, int]] = []
    assert searched(q, lambda done, size: progress.append((done, size))).complete
    assert progress[-1] == (q.num_layouts, q.num_layouts)
    assert whole.num_layouts == q.num_layouts
    assert len(whole.rows) == 0 or not len(whole.leanest)


def test_few_cores_little_work_or_one_part_are_searched_here(monkeypatch: pytest.MonkeyPatch) -> None:
    q = asked()
    calls: list[str] = []
    monkeypatch.setattr(on_cores, "searched", lambda *_: calls.append("here"))
    monkeypatch.setattr(on_cores, "may_copy", lambda: True)

    def copied(*_: Any) -> None:
        raise RuntimeError("copies")

    monkeypatch.setattr(on_cores, "copies", copied)
    size, parts = q.num_layouts, len(q.units)
    assert parts >= 2
    for cores, worth, here in ((1, 1, True), (2, size + 1, True), (2, size, False), (3, 1, False)):
        calls.clear()
        if here:
            searched_on_cores(q, None, cores, worth)
            assert calls == ["here"]
        else:
            with pytest.raises(RuntimeError, match="copies"):
                searched_on_cores(q, None, cores, worth)
    monkeypatch.setattr(on_cores, "may_copy", lambda: False)
    searched_on_cores(q, None, 2, 1)
    assert calls == ["here"]
