"""Records are dataclasses: whatever the standard library says of the same class, ours does."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from pathlib import Path
from typing import Any

import griffe
import pytest

import planner
from planner.common.record import dataclass


def written(name: str) -> dict[str, Any]:
    """Members of one class: fields with and without defaults, a property, a method of its own."""

    def with_more(self: Any) -> float:
        return float(self.first + self.third)

    return {
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": "A class.",
        "__annotations__": {"first": "float", "second": "list[int]", "third": "int", "fourth": "str"},
        "second": dataclasses.field(default_factory=list, compare=False),
        "third": 3,
        "fourth": dataclasses.field(default="x", repr=False),
        "with_more": with_more,
    }


Ours = dataclass(frozen=True, kw_only=True)(type("Ours", (), written("Ours")))
Theirs = dataclasses.dataclass(frozen=True, kw_only=True)(type("Theirs", (), written("Theirs")))
Empty = dataclass(frozen=True, kw_only=True)(type("Empty", (), {"__module__": __name__}))


@dataclass(frozen=True, kw_only=True)
class Base:
    one: int


@dataclass(frozen=True, kw_only=True)
class Sub(Base):
    two: int = 2
    sums: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums.append(self.one + self.two)


def said(action: Any) -> str:
    """What an action gives, or the kind of what it raises, alike for both classes."""
    try:
        return str(action()).replace("Theirs", "Ours")
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize(
    "given",
    [{"first": 1.0}, {"first": 1.0, "second": [1], "third": 4, "fourth": "y"}, {}, {"first": 1.0, "fifth": 5}, {"third": 3}],
)
def test_what_is_built_or_refused_is_the_standard_library_s(given: dict[str, Any]) -> None:
    for action in (
        lambda cls: cls(**given),
        lambda cls: vars(cls(**given)),
        lambda cls: list(vars(cls(**dict(reversed(given.items()))))),
        lambda cls: dataclasses.asdict(cls(**given)),
        lambda cls: dataclasses.replace(cls(**given), third=7),
        lambda cls: dataclasses.replace(cls(**given), fifth=7),
        lambda cls: hash(cls(**given)),
        lambda cls: cls(**given) == cls(**{**given, "second": [8]}),
        lambda cls: cls(**given) == cls(**{**given, "third": 8}),
        lambda cls: cls(**given) == object(),
        lambda cls: cls(**given).with_more(),
        lambda cls: setattr(cls(**given), "third", 4),
        lambda cls: setattr(cls(**given), "sixth", 4),
        lambda cls: delattr(cls(**given), "third"),
        lambda cls: cls(1.0),
        lambda cls: cls(**given).second is cls(**given).second,
    ):
        assert said(lambda act=action: act(Ours)) == said(lambda act=action: act(Theirs))


def test_what_is_said_of_the_class_is_the_standard_library_s() -> None:
    def fields(cls: Any) -> list[tuple[Any, ...]]:
        return [(f.name, f.type, f.default, f.default_factory, f.compare, f.repr, f.kw_only) for f in dataclasses.fields(cls)]

    assert fields(Ours) == fields(Theirs)
    assert Ours.__doc__ == Theirs.__doc__
    assert Ours.__match_args__ == Theirs.__match_args__
    mine, theirs = inspect.signature(Ours), inspect.signature(Theirs)
    assert list(mine.parameters) == list(theirs.parameters)
    for name, parameter in mine.parameters.items():
        other = theirs.parameters[name]
        assert (parameter.kind, parameter.annotation) == (other.kind, other.annotation)
        assert parameter.default == other.default or name == "second"
    assert repr(Empty()) == "Empty()"
    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())


def test_a_record_of_a_record_has_the_fields_of_both_and_its_own_ending() -> None:
    made = Sub(one=1)
    assert (made.two, made.sums) == (2, [3])
    assert repr(made) == "Sub(one=1, two=2, sums=[3])"
    assert made != Base(one=1)
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other == made
        assert type(other) is Sub
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.one = 2  # type: ignore[misc]


def test_other_dataclasses_are_the_standard_library_s() -> None:
    plain = dataclass(type("Plain", (), {"__annotations__": {"x": int}, "__doc__": "", "__module__": __name__}))
    assert "x" in inspect.getfullargspec(plain.__init__).args
    narrow = dataclass(frozen=True, kw_only=True, slots=True)
    assert narrow(type("Narrow", (), {"__annotations__": {"x": int}, "__module__": __name__})).__slots__ == ("x",)


@pytest.mark.parametrize("name", ["__eq__", "__hash__", "__repr__", "__init__"])
def test_a_method_that_the_class_writes_itself_stays(name: str) -> None:
    def own(self: Any, *_: Any) -> Any:
        return None

    mine, theirs = (
        decorate(frozen=True, kw_only=True)(type("Ours", (), {**written("Ours"), name: own}))
        for decorate in (dataclass, dataclasses.dataclass)
    )
    assert vars(mine)[name] is vars(theirs)[name] is own
    assert said(lambda: hash(mine(first=1.0))) == said(lambda: hash(theirs(first=1.0)))


def test_every_record_of_the_package_is_ours() -> None:
    """A class decorated by the standard library costs ten times as long to import."""
    source = [path for path in Path(planner.__path__[0]).rglob("*.py") if path.name != "record.py"]
    for path in source:
        text = path.read_text(encoding="utf-8")
        if "@dataclass(frozen=True, kw_only=True)\n" in text:
            assert "from planner.common.record import dataclass\n" in text, path


def test_the_reference_shows_what_a_record_is_built_of() -> None:
    extensions = griffe.load_extensions("dataclasses", "doctools/records.py")
    price = griffe.load("planner", extensions=extensions, search_paths=["."], force_inspection=False)["prices.price.Price"]
    assert [one.name for one in price.parameters][1:3] == ["usd_per_gpu_hour", "term"]
