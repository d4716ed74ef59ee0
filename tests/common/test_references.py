"""A value taken from another file is that file's value, today and after every fit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from planner.common.data import CATALOG, PROFILES
from planner.common.errors import PlannerError
from planner.common.references import Catalog, Changes, Place
from planner.evidence.fit import Constant, load_constants, values_at
from planner.evidence.fit_sets import FIT_SETS
from planner.evidence.serving.fit import load_constants as serving_constants
from planner.evidence.write_fit import constants_written, with_constant
from planner.hardware.cluster import ACCELERATORS, NODES, load_node
from planner.hardware.curves import CURVES, load_curves
from planner.serving.engine import ENGINES
from planner.workload.framework_names import FRAMEWORKS

FILES = {
    "first": '# one\nname = "first"\na = { value = 2.0, kind = "fitted", source = "runs" }\nb = 3\nnotes = "of the first"\n',
    "second": 'name = "second"\nbase = "first"\nb = 4\nc = { same_as = "first", field = "a", times = 0.5, source = "half" }\n',
    "third": 'name = "third"\nbase = "second"\nd = { same_as = "second", field = "c" }\ne = { field = "d" }\n',
}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    for name, text in FILES.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return Catalog(tmp_path, "the test's files", borrowed_is_assumed=True)


def numbers(table: dict[str, object]) -> dict[str, object]:
    return {k: v["value"] if isinstance(v, dict) else v for k, v in table.items()}


def test_references_and_bases_are_followed(catalog: Catalog) -> None:
    assert numbers(catalog.table("third")) == {"name": "third", "a": 2.0, "b": 4, "c": 1.0, "d": 1.0, "e": 1.0}
    assert catalog.lineage("third") == ("third", "second", "first")


def test_what_is_borrowed_is_assumed_and_keeps_its_own_source(catalog: Catalog) -> None:
    table = catalog.table("third")
    assert table["a"] == {"value": 2.0, "kind": "assumed", "source": "as first (fitted); runs"}
    assert catalog.table("first")["a"]["kind"] == "fitted"
    assert catalog.table("second")["c"]["kind"] == "assumed"
    for words in ("0.5 x first.a (fitted)", "half", "runs"):
        assert words in catalog.table("second")["c"]["source"]


def test_a_change_moves_all_that_refers_to_it_and_nothing_else(catalog: Catalog) -> None:
    moved = Changes({Place("first", "a"): 10.0})
    assert catalog.changed("third", moved) == {"a": 10.0, "c": 5.0, "d": 5.0, "e": 5.0}
    assert catalog.changed("second", Changes({Place("first", "b"): 9.0})) == {}
    assert catalog.changed("third", Changes({Place("second", "c"): 7.0})) == {"c": 7.0, "d": 7.0, "e": 7.0}
    assert catalog.depends("third", Place("first", "a"))
    assert not catalog.depends("third", Place("first", "b"))
    assert not catalog.depends("first", Place("second", "c"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('a = { same_as = "frist" }', "did you mean first"),
        ('a = { same_as = "first", field = "z" }', "states no z"),
        ('a = { field = "a" }', "lead back"),
        ('a = { same_as = "first", value2 = 3 }', "value2"),
        ('base = "bad"', "circle"),
        ('base = "nobody"', "is not in the test's files"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(catalog: Catalog, line: str, words: str) -> None:
    (catalog.folder / "bad.toml").write_text(f'name = "bad"\n{line}\n')
    catalog.clear()
    with pytest.raises(PlannerError, match=words):
        catalog.table("bad")


def test_a_fit_keeps_references_and_they_follow_it(catalog: Catalog) -> None:
    constant = Constant(curves="first", field="a", prior=1.0, spread=1.0, lower=0.1, upper=9.0)
    found = _fit(constant, 0.25)
    for path, text in constants_written(found, lambda _: catalog, "runs", "2026-01-01").items():
        path.write_text(text)
    catalog.clear()
    assert numbers(catalog.table("third"))["e"] == 0.125
    assert "same_as" in (catalog.folder / "second.toml").read_text()


def test_a_fit_never_overwrites_a_reference(catalog: Catalog) -> None:
    constant = Constant(curves="second", field="c", prior=1.0, spread=1.0, lower=0.1, upper=9.0)
    with pytest.raises(PlannerError, match=r"first\.a by reference"):
        constants_written(_fit(constant, 0.25), lambda _: catalog, "runs", "2026-01-01")


def _fit(constant: Constant, value: float):  # type: ignore[no-untyped-def]
    from types import SimpleNamespace

    return SimpleNamespace(constants=(constant,), values=values_at((constant,), [constant.inner(value)]))


# --- the catalog's own files ----------------------------------------------------------------------------------------------


def test_no_constant_of_a_fit_is_a_reference() -> None:
    constants = [c for kind in FIT_SETS.values() for c in load_constants(kind.constants)]
    for c in constants:
        assert not (CURVES if c.curves else FRAMEWORKS).refers(c.place), c.name
    for c in serving_constants():
        assert not (CURVES if c.curves else ENGINES).refers(c.place), c.name


@pytest.mark.parametrize(
    ("moved", "followers"),
    [
        ("h100.sustained_fraction", {"h100", "h200"}),
        ("h100.grouped_fraction", {"h100", "h200", "h100-500w", "h20", "a100", "volta", "ada", "generic"}),
        ("a100.matmul_depth", {"a100", "volta", "turing", "ada", "ampere-ga10x", "blackwell-gb20x", "cdna", "generic"}),
        ("b200.attention_forward_fraction", {"b200", "gb200"}),
    ],
)
def test_a_fit_of_one_chip_moves_those_that_refer_to_it(moved: str, followers: set[str]) -> None:
    file, field = moved.split(".")
    place = Place(file, field)
    assert followers <= {name for name in CURVES.names() if CURVES.depends(name, place)}
    for name in CURVES.names():
        changed = CURVES.changed(name, Changes({place: 0.123}))
        assert (changed.get(field) == 0.123) == (place in CURVES.places(Place(name, field)))


def test_the_h200_is_the_h100_but_for_its_memory() -> None:
    one, other = load_curves("h100"), load_curves("h200")
    differing = {n for n in type(one).model_fields if getattr(one, n) != getattr(other, n)}
    assert differing == {"name", "provenance", "matmul_bandwidth_fraction", "memory_fraction"}


def test_a_link_by_reference_is_the_other_nodes_link() -> None:
    assert load_node("p5-48xlarge").links[0].collectives == load_node("dgx-h100").links[0].collectives
    assert load_node("p6-b300-48xlarge").links[0].captured == load_node("dgx-b200").links[0].captured


COPY = re.compile(r"(^|[;:] )(as (?!many |much |large )|like |same as |copied from )", re.IGNORECASE)


@pytest.mark.parametrize("folder", [CURVES, FRAMEWORKS, ENGINES, ACCELERATORS, NODES], ids=lambda c: c.folder.name)
def test_no_value_is_a_copy_of_another_files(folder: Catalog) -> None:
    """ "As X" is a reference: a copy stays behind when a fit moves X."""
    for path in sorted(folder.folder.glob("*.toml")):
        for field, entry in _entries(tomllib.loads(path.read_text())):
            source = str(entry.get("source", ""))
            if entry.get("kind") == "fitted":
                continue  # to runs of its own
            assert not ("value" in entry and COPY.search(source)), f"{path.name}: {field}: {source!r}: refer to it with same_as"


def _entries(table: dict[str, object], above: str = ""):  # type: ignore[no-untyped-def]
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"{above}{key}", value
            yield from _entries(value, f"{above}{key}.")
        elif isinstance(value, list):
            for one in value:
                if isinstance(one, dict):
                    yield from _entries(one, f"{above}{key}.")


def test_the_writer_still_appends_what_a_file_takes_from_its_base() -> None:
    assert with_constant('base = "h100"\n', "sustained_fraction", 0.5, "runs", "2026-01-01").startswith(
        'base = "h100"\nsustained'
    )


def test_catalog_folders_are_those_that_ship() -> None:
    assert {CURVES.folder, ACCELERATORS.folder, NODES.folder} == {PROFILES / n for n in ("measured", "accelerators", "nodes")}
    assert {FRAMEWORKS.folder, ENGINES.folder} == {CATALOG / n for n in ("frameworks", "engines")}
