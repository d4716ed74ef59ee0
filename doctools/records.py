"""For the reference of the documentation: ``planner.common.record.dataclass`` is the standard library's to a reader."""

from __future__ import annotations

from typing import Any

import griffe


class Records(griffe.Extension):
    """Modules name the standard library's decorator, so that the arguments of a record are shown."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Of each module that imports ours."""
        if mod.imports.get("dataclass") == "planner.common.record.dataclass":
            mod.members["dataclass"] = griffe.Alias("dataclass", "dataclasses.dataclass", parent=mod)
