"""A figure of the page: a table, a specification, a title."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import pyarrow as pa

EXPORT_WIDTH = 760


Spec = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure: file name, title, description for screen readers, specification without data, the rows behind it."""

    name: str
    title: str
    alt: str
    spec: Spec
    rows: Sequence[dict[str, Any]]

    @cached_property
    def data(self) -> pa.Table:
        """The rows as the browser gets them; a data frame on the way would take longer than all the rest."""
        return pa.Table.from_pylist(list(self.rows))

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(list(self.rows))

    def whole(self) -> Spec:
        """The specification with its data and title, for files."""
        lines = [self.title[i : i + 90] for i in range(0, len(self.title), 90)] or [""]
        spec = json.loads(json.dumps(self.spec))
        if spec.get("width") == "container":
            spec["width"] = EXPORT_WIDTH
        data = {"values": json.loads(self.table.to_json(orient="records"))}
        title = {"text": lines, "anchor": "start", "fontSize": 15, "offset": 12}
        return {**spec, "data": data, "title": title, "background": "white", "padding": 14}
