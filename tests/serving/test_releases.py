"""What an engine's file says at a release: nothing that came with a later one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from planner.common.errors import PlannerError
from planner.serving.deploy import serve
from planner.serving.engine import (
    ENGINES,
    canonical_name,
    engine_family,
    engine_names,
    load_engine,
    names_with,
    older_releases,
    release_number,
    releases_of,
    resolve_engine,
)

SPLIT = [name for name in engine_names() if load_engine(name).before]


def series(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))


def last_before(release: tuple[int, ...]) -> tuple[int, ...]:
    """A release just before another: 0.9.2 -> 0.9.1.99, 0.10 -> 0.9.99."""
    *start, last = release
    return (*start, last - 1, 99)


@pytest.mark.parametrize("name", SPLIT)
def test_what_came_later_lies_among_the_releases_that_the_file_describes(name: str) -> None:
    family = engine_family(name)
    firsts = sorted(releases_of(family))
    mine = next(first for first, engine in releases_of(family).items() if engine == name)
    after = [first for first in firsts if first > mine]
    for entry in load_engine(name).before:
        assert mine < entry.number, (name, entry.release)
        assert not after or entry.number < after[0], (name, entry.release)
        assert entry.source


@pytest.mark.parametrize("name", SPLIT)
def test_a_release_has_what_its_file_says_but_for_what_came_later(name: str) -> None:
    newest, family = load_engine(name), engine_family(name)
    for entry in newest.before:
        old = load_engine(f"{family}-{series(last_before(entry.number))}")
        new = load_engine(f"{family}-{entry.release}")
        assert old.name == new.name == name
        assert entry.without <= new.features
        assert not entry.without & old.features
        assert new.features >= old.features
        for field in entry.fields:
            assert getattr(old, field) != getattr(new, field), (name, entry.release, field)
    # a file's own name, and its newest release, are the file as it stands
    latest = max((e.number for e in newest.before), default=())
    assert load_engine(f"{family}-{series(latest)}") == newest
    assert canonical_name(name) == name


def test_entries_change_no_measured_constant() -> None:
    for name in SPLIT:
        for entry in load_engine(name).before:
            fitted = {f for f, p in load_engine(name).provenance.items() if p.kind in ("fitted", "measured")}
            assert not set(entry.fields) & fitted, (name, entry.release)


# (what was merged, the last release without it, the first with it): the pull requests and releases stand in the engines' files
FEATURES = [
    ("redundant_experts", "vllm 0.9.1", "vllm 0.9.2"),  # 18343, merged on 26 June 2025; 0.9.1 is of 10 June
    ("redundant_experts", "sglang 0.4.6", "sglang 0.4.7"),  # 5295 and its chain
    ("redundant_experts", "tensorrt-llm 0.20", "tensorrt-llm 0.21"),  # 4818, June 2025
]
VALUES = [
    ("expands_fp4", "vllm 0.8.5", False, "vllm 0.9.0", True),  # 17687 and 18000, May 2025
    ("dispatcher", "vllm 0.9.0", "gather", "vllm 0.9.1", "deepep"),  # 18434, June 2025
    ("scatters_prompts", "vllm 0.10.2", "all_reduce", "vllm 0.11.0", "by_rank"),  # 23964, September 2025
    ("dispatcher", "sglang 0.4.4", "gather", "sglang 0.4.5", "deepep"),  # 4232, March 2025
    ("expands_fp4", "sglang 0.5.9", False, "sglang 0.5.10", True),  # 19652, March 2026; 0.5.10 is of 6 April
    ("scatters_prompts", "sglang 0.5.10.post1", "all_reduce", "sglang 0.5.11", "by_rank"),  # 22642, of 12 April 2026
    ("gathers_prompts", "tensorrt-llm 0.19", "equal", "tensorrt-llm 0.20", "by_rank"),  # 3439, April 2025
]


@pytest.mark.parametrize(("feature", "without", "having"), FEATURES)
def test_features_begin_with_the_release_that_brought_them(feature: str, without: str, having: str) -> None:
    assert feature not in load_engine(without).features
    assert feature in load_engine(having).features


@pytest.mark.parametrize(("field", "before", "was", "after", "became"), VALUES)
def test_values_change_with_the_release_that_changed_them(
    field: str, before: str, was: object, after: str, became: object
) -> None:
    assert getattr(load_engine(before), field) == was
    assert getattr(load_engine(after), field) == became


def test_later_engines_of_a_family_have_what_earlier_releases_brought() -> None:
    """Features that a release brought are not lost by the next file of the family."""
    for name in SPLIT:
        newer = older_releases(name)
        firsts = {engine: first for first, engine in releases_of(engine_family(name)).items()}
        for entry in load_engine(name).before:
            for other in newer:
                if firsts[other] > firsts[name]:
                    assert entry.without <= load_engine(other).features, (name, other)


def test_a_series_is_its_newest_release() -> None:
    assert load_engine("vllm 0.9") == load_engine("vllm 0.9.2")
    assert load_engine("sglang 0.5") == load_engine("sglang-0.5")
    assert load_engine("vllm 0.8") == load_engine("vllm 0.8.5")
    assert release_number("0.9.2") < release_number("0.10")


@pytest.mark.parametrize("name", SPLIT)
def test_a_field_of_an_older_release_has_the_source_of_its_change(name: str) -> None:
    newest, family = load_engine(name), engine_family(name)
    for entry in newest.before:
        old = load_engine(f"{family} {series(last_before(entry.number))}")
        for field in {*entry.fields, *(["features"] if entry.without else [])}:
            assert entry.source in old.provenance[field].source, (name, entry.release, field)
            assert old.provenance[field].kind == "published"
        assert old.description == f"{newest.description}; as it was before {entry.release}"
        assert [e.number for e in old.before] == [e.number for e in newest.before if e.number < entry.number]


def test_an_older_engine_based_on_a_newer_one_is_as_before_its_changes() -> None:
    """What a newer release changed is stated once, by the newer file; what the older file states itself holds."""
    inherited = set()
    for name in engine_names():
        firsts = (
            {engine: first for first, engine in releases_of(family).items()} if (family := engine_family(name)) != name else {}
        )
        for base in ENGINES.lineage(name)[1:]:
            if firsts.get(base, ()) > firsts.get(name, ()):
                for entry in load_engine(base).before:
                    for field, value in entry.fields.items():
                        assert field not in tomllib.loads(ENGINES.texts()[name]), (name, field)
                        assert getattr(load_engine(name), field) == value
                        assert load_engine(name).provenance[field].source == entry.source
                        inherited.add((name, field))
    assert ("sglang-0.4", "scatters_prompts") in inherited


def entry(release: str, **what: object) -> dict[str, object]:
    return {"release": release, "source": "a pull request", **what}


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ([entry("1.0", fields={"not_a_field": 3})], "'not_a_field' is no field that a release changes"),
        ([entry("1.0", fields={"name": "other"})], "'name' is no field that a release changes"),
        ([entry("1.0", fields={"max_batch": "many"})], "max_batch = 'many': must be a whole number"),
        ([entry("1.0")], r"nothing changed with release 1\.0; give without or fields"),
        (
            [entry("1.9", without=["tp"]), entry("1.10", without=["pp"])],
            r"release 1\.10 stands behind 1\.9; the newest comes first",
        ),
        ([entry("1.0", without=["tp"]), entry("1.0", without=["pp"])], r"release 1\.0 stands behind 1\.0"),
    ],
)
def test_what_earlier_releases_were_is_checked_when_an_engine_is_built(before: object, message: str) -> None:
    with pytest.raises(PlannerError, match=message):
        load_engine("vllm-v1").replaced(before=before)


def test_a_file_of_ones_own_states_what_holds(tmp_path: Path) -> None:
    """Nobody asks for a release of it, so changes with releases would be ignored."""
    file = tmp_path / "own.toml"
    file.write_text('base = "vllm-v1"\nname = "own"\nbefore = [{ release = "1.0", without = ["tp"], source = "mine" }]\n')
    with pytest.raises(PlannerError, match=r"own\.toml: before = .*: only engines of the catalog are asked for by release"):
        load_engine(str(file))
    for name in engine_names():  # the catalog's, by its path
        assert load_engine(str(ENGINES.path(name, "engine"))) == load_engine(name)
    file.write_text('base = "vllm-0.13"\nname = "own"\n')
    assert load_engine(str(file)).features == load_engine("vllm-0.13").features


QUESTION = {"prompt": 1000, "output": 100, "weights": "fp8-block", "ep": 16, "redundant_experts": 32, "memory_fraction": 0.85}


BETWEEN = (" ", "-", "_", "==", "@", " v", "-v")
"""Between a family and a release; the first three also before what is no release (vllm v0 is a file, vllm 0 a series)."""


def asked(family: str) -> set[tuple[int, ...]]:
    """Releases of a family, on both sides of each at which something changed, and the series that they are of."""
    of_files = [load_engine(name) for name in engine_names() if engine_family(name) == family]
    changes = {*releases_of(family), *(entry.number for engine in of_files for entry in engine.before)}
    near = {other for first in changes for other in (first, (*first, 9), last_before(first), (*first[:-1], first[-1] + 1))}
    return {release[:length] for release in near if min(release) >= 0 for length in range(1, len(release) + 1)}


@pytest.mark.parametrize("family", sorted({engine_family(name) for name in engine_names()}))
def test_a_name_means_one_engine_however_it_is_written_and_passed_on(family: str) -> None:
    names = [family, *(name for name in engine_names() if engine_family(name) == family)]
    for name in (*names, *(f"{family} {series(release)}" for release in asked(family))):
        engine, canonical = load_engine(name), canonical_name(name)
        assert load_engine(canonical) == engine, (name, canonical)
        assert canonical_name(canonical) == canonical, (name, canonical)
        rest = name.removeprefix(family)[1:]
        for between in (BETWEEN if rest[:1].isdigit() and "." in rest else BETWEEN[:3]) if rest else ():
            assert load_engine(f"{family}{between}{rest}") == engine, (name, between)


def test_a_series_is_the_newest_engine_of_it() -> None:
    for family in {engine_family(name) for name in engine_names()}:
        firsts = releases_of(family)
        for release in {first[:length] for first in firsts for length in range(1, len(first) + 1)}:
            newest = max(first for first in firsts if first[: len(release)] == release)
            assert resolve_engine(f"{family}@{series(release)}") == firsts[newest]


@pytest.mark.parametrize("engine", ["vllm 0.8", "vLLM-0.8", "vllm==0.8.5"])
def test_a_release_without_a_feature_is_refused_it_by_every_name(engine: str) -> None:
    with pytest.raises(PlannerError, match=r"has no redundant experts; engines that have: .*vllm-0\.9\.2"):
        serve(model="deepseek-v3", cluster="16xh200", serving={**QUESTION, "engine": engine})


def test_every_name_of_engines_with_a_feature_is_one_that_has_it() -> None:
    for feature in ("redundant_experts", "disaggregated", "speculative"):
        for name in names_with(feature):
            assert resolve_engine(name) in engine_names()
            assert feature in load_engine(name).features, name


def test_a_question_is_answered_by_the_release_that_it_names() -> None:
    with pytest.raises(PlannerError, match=r"vllm-0\.8\.5 has no redundant experts; engines that have: .*vllm-0\.9\.2"):
        serve(model="deepseek-v3", cluster="16xh200", serving={**QUESTION, "engine": "vLLM 0.8.5"})
    found = serve(model="deepseek-v3", cluster="16xh200", serving={**QUESTION, "engine": "vLLM 0.9.2"})
    assert found.serving.engine == "vllm-0.9.2"
    # the same again from what the answer says
    again = serve(model="deepseek-v3", cluster="16xh200", serving=found.serving)
    assert (again.tpot_s, again.total_bytes) == (found.tpot_s, found.total_bytes)
    assert canonical_name("vllm 0.12.0") == "vllm-0.13"
