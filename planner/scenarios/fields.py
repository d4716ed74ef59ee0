"""Every field of every table that people write: type, unit, default, meaning, example. Types come from the models themselves."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel, Field
from pydantic_core import PydanticUndefined

from planner.common.data import CATALOG
from planner.common.errors import PlannerError, near
from planner.common.parsed import parsed_toml
from planner.common.spec import Spec
from planner.hardware.cluster import Accelerator, Link, Node
from planner.hardware.curves import Curves
from planner.hardware.custom_nodes import described_cluster
from planner.lifecycle.bill import Costs
from planner.lifecycle.spec import Run
from planner.model.architecture import Model
from planner.model.variants import Tower, Variant
from planner.prices.ownership import Ownership
from planner.scenarios.literals import literal
from planner.scenarios.serving import OF_LOAD
from planner.serving.engine import Engine
from planner.serving.spec import Lengths, PrefillPool, Serving, Speculative
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.layout import Layout
from planner.workload.tuning import Adapter, Quantization, Teacher

UNITS = (
    (r"usd_per_\w+|_usd$", "USD"),
    (r"flops_per_s$", "FLOP/s"),
    (r"bytes_per_s$", "bytes/s"),
    (r"(^|_)bytes$", "bytes"),
    (r"_gbit_per_s$", "Gbit/s"),
    (r"^requests_per_s$", "requests/s"),
    (r"_s$|_s_per_(layer|step|chunk|kernel|sequence|expert|stage|token|peer)$", "s"),
    (r"_w$|_w_per_gpu$", "W"),
)
"""What a field's name says of its unit."""


@dataclass(frozen=True, kw_only=True)
class FieldNote:
    """One field of a table. ``default``: "required" where it must be given, "-" where it is left out otherwise."""

    name: str
    type: str
    type_zh: str
    unit: str
    default: str
    meaning: str
    meaning_zh: str
    example: Any

    def said(self, language: str) -> str:
        """What it means in "en" or "zh"."""
        return self.meaning_zh if language == "zh" else self.meaning

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class TableNote:
    """One table: where it stands, and what the model says that reads it. ``spec``: that model, or the function."""

    name: str
    where: str
    spec: type[BaseModel] | Callable[..., Any]
    only: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, without its markup."""
        return " ".join((inspect.getdoc(self.spec) or "").partition("\n\n")[0].replace("``", "").split())

    def said(self, language: str) -> tuple[str, str]:
        """(where it stands, summary) in "en" or "zh"."""
        if language != "zh":
            return self.where, self.summary
        chinese = _file()["tables"][self.name]
        return str(chinese["where"]), str(chinese["summary"])


class PriceTable(TypedDict, total=False):
    """What a GPU-hour costs: a quote of the catalog by term, provider or region, or a price of your own."""

    term: Literal["on-demand", "spot", "reserved-1-year", "reserved-3-year", "capacity-block", "marketplace"]
    provider: str
    region: str
    usd_per_gpu_hour: Annotated[float, Field(ge=0)]
    price_per_gpu_hour: Annotated[float, Field(ge=0)]
    currency: str
    other_use: Annotated[float, Field(ge=0, le=1)]


_SCENARIO, _SERVING, _FILE = "a scenario", "a scenario of serving", "a file of its own"
TABLES: dict[str, TableNote] = {
    note.name: note
    for note in (
        TableNote(name="model", where=f"{_SCENARIO}, {_FILE}", spec=Model),
        TableNote(name="model.variants", where="a model, as [[variants]]", spec=Variant),
        TableNote(name="model.towers", where="a model, as [[towers]]", spec=Tower),
        TableNote(name="cluster", where=_SCENARIO, spec=described_cluster),
        TableNote(name="framework", where=f"{_SCENARIO}, {_FILE}", spec=Framework),
        TableNote(name="job", where=_SCENARIO, spec=Job),
        TableNote(name="job.adapter", where=_SCENARIO, spec=Adapter),
        TableNote(name="job.quantization", where=_SCENARIO, spec=Quantization),
        TableNote(name="job.teacher", where=_SCENARIO, spec=Teacher),
        TableNote(name="layout", where=_SCENARIO, spec=Layout),
        TableNote(name="price", where=_SCENARIO, spec=PriceTable),
        TableNote(name="run", where=_SCENARIO, spec=Run),
        TableNote(name="cost", where=_SCENARIO, spec=Costs),
        TableNote(name="cost.own", where=_SCENARIO, spec=Ownership),
        TableNote(name="serving", where=_SERVING, spec=Serving),
        TableNote(name="serving.prompt", where=f"{_SERVING}; serving.output alike", spec=Lengths),
        TableNote(name="serving.speculative", where=_SERVING, spec=Speculative),
        TableNote(name="serving.prefill_pool", where=_SERVING, spec=PrefillPool),
        TableNote(name="load", where=_SERVING, spec=Serving, only=OF_LOAD),
        TableNote(name="accelerator", where=_FILE, spec=Accelerator),
        TableNote(name="node", where=_FILE, spec=Node),
        TableNote(name="node.links", where="a node, as [[links]]", spec=Link),
        TableNote(name="curves", where=_FILE, spec=Curves),
        TableNote(name="engine", where=_FILE, spec=Engine),
    )
}
"""Every table that people write, in the order of the reference."""
SPELLED = {
    "base": ("a model of the catalog whose other fields are taken", "目录中的一个模型，其余字段取自它"),
    "config": ("path of a Hugging Face config.json", "Hugging Face config.json 的路径"),
}
"""Fields of [model] that are read before the model: where the rest comes from."""


@cache
def _file() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = parsed_toml((CATALOG / "fields.toml").read_text(encoding="utf-8"))
    return found


def meanings() -> dict[str, dict[str, dict[str, Any]]]:
    """``catalog/fields.toml``: table -> field -> meaning in English and Chinese (zh), and unit and example where it has them."""
    return {name: table for name, table in _file().items() if name != "tables"}


def table_fields(name: str) -> tuple[FieldNote, ...]:
    """The fields of a table, in the order of its model. Raises PlannerError for an unknown table."""
    if name not in TABLES:
        raise PlannerError("no table {0!r}; {1}.", name, near(name, TABLES), code="unknown", field="TABLE", value=name)
    table = TABLES[name]
    said = meanings()["serving" if name == "load" else name]
    found = [_note(field, annotation, default, said.get(field, {})) for field, annotation, default in declared(table)]
    if name == "model":
        found += [
            FieldNote(
                name=field,
                type="text",
                type_zh="文本",
                unit="-",
                default="-",
                meaning=meaning,
                meaning_zh=chinese,
                example="mixtral-8x7b",
            )
            for field, (meaning, chinese) in SPELLED.items()
        ]
    return tuple(found)


def declared(table: TableNote) -> list[tuple[str, Any, Any]]:
    """(field, annotation, default) of a table as its model or its function declares them; ``...`` where one must be given."""
    if is_typeddict(table.spec):
        return [(name, annotation, None) for name, annotation in get_type_hints(table.spec, include_extras=True).items()]
    if isinstance(table.spec, type) and issubclass(table.spec, BaseModel):
        fields = table.spec.model_fields
        return [
            (name, _with_limits(field.annotation, field.metadata), ... if field.is_required() else _default(field))
            for name, field in fields.items()
            if name != "provenance" and (not table.only or name in table.only)
        ]
    hints = {name: str if "Node" in str(found) else found for name, found in get_type_hints(table.spec).items()}
    parameters = inspect.signature(table.spec).parameters.values()
    return [(p.name, hints[p.name], None if p.default is inspect.Parameter.empty else p.default) for p in parameters]


def _default(field: Any) -> Any:
    return field.default_factory() if field.default is PydanticUndefined else field.default


def _with_limits(annotation: Any, metadata: list[Any]) -> Any:
    return Annotated[(annotation, *metadata)] if metadata else annotation


def _note(name: str, annotation: Any, default: Any, said: Mapping[str, Any]) -> FieldNote:
    shown = "required" if default is ... else literal(default) if _is_plain(default) else "-"
    return FieldNote(
        name=name,
        type=type_text(annotation),
        type_zh=type_text(annotation, "zh"),
        unit=str(said.get("unit") or unit_of(name)),
        default=shown,
        meaning=str(said.get("meaning", "")),
        meaning_zh=str(said.get("zh", "")),
        example=said.get("example", _usual_example(annotation, default)),
    )


def _is_plain(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, tuple | dict) and not value)


def _usual_example(annotation: Any, default: Any) -> Any:
    """Of a choice one that is not the default, of a flag the other value, else the default."""
    options = choices(annotation)
    if options:
        return next((one for one in options if one != default), options[0])
    if isinstance(default, bool) or type_text(annotation) == PLAIN["en"][bool]:
        return default is not True
    return sorted(default) if isinstance(default, frozenset) else default if _is_plain(default) and default is not ... else None


def unit_of(name: str) -> str:
    """The unit that a name states; "-" for numbers without one, and for text."""
    return next((unit for form, unit in UNITS if re.search(form, name)), "-")


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a choice; empty for anything else."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        return tuple(
            one for part in get_args(annotation)[: 1 if hasattr(annotation, "__metadata__") else None] for one in choices(part)
        )
    return ()


PLAIN: Mapping[str, Mapping[Any, str]] = {
    "en": {int: "whole number", float: "number", str: "text", bool: "true or false"},
    "zh": {int: "整数", float: "数", str: "文本", bool: "true 或 false"},
}
LIMITS: Mapping[str, Mapping[str, str]] = {
    "en": {"gt": ", above", "ge": ", at least", "lt": ", below", "le": ", at most"},
    "zh": {"gt": "，大于", "ge": "，不小于", "lt": "，小于", "le": "，不大于"},
}
TYPES: Mapping[str, Mapping[str, str]] = {
    "en": {"one": "one of ", "or": " or ", "list": "list of ", "table": "table"},
    "zh": {"one": "可选 ", "or": " 或 ", "list": "列表，元素为", "table": "表"},
}


def type_text(annotation: Any, language: str = "en") -> str:
    """A type as people say it, in "en" or "zh".

    >>> from typing import Annotated, Literal
    >>> from pydantic import Field
    >>> type_text(Annotated[int, Field(gt=0)]), type_text(Literal["a", "b"] | None), type_text(tuple[str, ...])
    ('whole number, above 0', 'one of a, b', 'list of text')
    """
    if hasattr(annotation, "__metadata__"):
        return type_text(annotation.__origin__, language) + _limits(annotation.__metadata__, language)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return TYPES[language]["one"] + ", ".join(str(one) for one in parts)
    if origin in (Union, types.UnionType):
        kinds = dict.fromkeys(type_text(one, language) for one in parts if one is not types.NoneType)
        return TYPES[language]["or"].join(kinds)
    if origin in (tuple, list, frozenset, set):
        return TYPES[language]["list"] + type_text(parts[0], language)
    if origin is dict or annotation is dict:
        return TYPES[language]["table"]
    if isinstance(annotation, type) and issubclass(annotation, Spec | BaseModel):
        return TYPES[language]["table"]
    return PLAIN[language].get(annotation, PLAIN[language][str])


def _limits(metadata: tuple[Any, ...], language: str) -> str:
    found = []
    for one in metadata:
        for item in getattr(one, "metadata", [one]):
            found += [
                f"{word} {limit:g}" for name, word in LIMITS[language].items() if (limit := getattr(item, name, None)) is not None
            ]
    return "".join(dict.fromkeys(found))
