"""Base of everything read from a file: frozen, no unknown fields, finite numbers, and where each value comes from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from planner.common.errors import PlannerError, explain

Kind = Literal["datasheet", "measured", "fitted", "assumed", "given", "published"]


class Provenance(BaseModel):
    """Where one number comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    source: str = ""
    date: str = ""


class Spec(BaseModel):
    """A frozen description. A field may be written plainly, or as ``{ value, kind, source, date }``.

    The second form is split on reading: the number stays in its field, the rest goes to ``provenance`` under
    the field's name, so that formulas see numbers and reports see sources.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)

    provenance: dict[str, Provenance] = Field(default_factory=dict, repr=False)

    def __hash__(self) -> int:
        """Equal specs have equal names; hashing every field would cost more than the caches keyed by it save."""
        return hash((type(self).__name__, getattr(self, "name", "")))

    @model_validator(mode="before")
    @classmethod
    def _split_provenance(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        values, sources = {}, dict(data.get("provenance", {}))
        for name, value in data.items():
            if isinstance(value, dict) and "value" in value and set(value) <= {"value", "kind", "source", "date"}:
                values[name] = value["value"]
                sources[name] = {"kind": "given", **{k: v for k, v in value.items() if k != "value"}}
            else:
                values[name] = value
        if sources:
            values["provenance"] = sources
        return values

    @classmethod
    def build(cls, data: dict[str, Any], where: str) -> Self:
        """Validate ``data``; on failure raise PlannerError that begins with ``where``."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise explain(error, where, cls) from None

    def replaced(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        data = {k: v for k, v in self.model_dump(exclude_unset=True).items() if k not in changes}
        return type(self).build({**data, **changes}, f"{type(self).__name__.lower()} {getattr(self, 'name', '')}")

    def assumed(self) -> dict[str, Any]:
        """The fields whose value nobody measured or published: field name -> value."""
        return {n: getattr(self, n) for n, p in self.provenance.items() if p.kind == "assumed" and hasattr(self, n)}


def read_table(path: Path, example: str = "") -> dict[str, Any]:
    """Read one TOML or JSON file that must hold a table; PlannerError says what is wrong and where.

    ``example``: where to look for what belongs into an empty file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PlannerError(f"{path}: cannot be read ({reason}); give the path of a .toml or .json file.") from None
    if not text.strip():
        raise PlannerError(f"{path}: the file is empty{'; ' * bool(example)}{example}.")
    try:
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise PlannerError(f"{path}: not valid {kind}: {error}.") from None
    if not isinstance(data, dict):
        raise PlannerError(f"{path}: holds a {type(data).__name__}; a table (object) of fields is needed.")
    return data
