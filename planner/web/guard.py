"""What must not come from the web: paths, numbers without sense, sizes that would stop the server."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.common.message import of_python
from planner.studies.limit import MOST

MAX_CASES = 6
MAX_TEXT = 200
MAX_ITEMS = 10_000
"""Members of a list in a pasted configuration (layer types, expert shares)."""
MAX_DEPTH = 6
UPLOAD_MB = 8
"""The same as server.maxUploadSize in planner/web/.streamlit/config.toml."""
FILES = (".toml", ".json", ".csv", ".parquet")
MOST_CHARACTERS = 200_000
"""Of a scenario as text."""
MOST_DOTS = 32
"""Of one name in TOML: the parser's time grows with their square."""
TEXTS = re.compile(
    r""""{3}(?:[^\\]|\\.|\\\Z)*?(?:"{3,5}|\Z)|'{3}.*?(?:'{3,5}|\Z)|"(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|#[^\n]*""", re.DOTALL
)
"""Strings and comments of TOML, from the left as its parser meets them: a part of a name may be quoted and hold any sign."""
LARGEST_NUMBER = 10**18
"""No field of a scenario holds more; longer whole numbers fit into no float."""
PATH_FIELDS = {"config": "model.config", "expert_histogram": "run.expert_histogram", "trace": "serve.trace"}
LOOKED_UP = {"name", "base", "node", "accelerator", "framework", "adapter", "draft", "model", "engine", "teacher", "curves"}
"""Fields whose text the planner looks up in its catalog: there no path may stand."""
LARGEST: Mapping[str, int] = {
    "num_layers": MOST["model.num_layers"], "seq_len": MOST["job.seq_len"], "num_hidden_layers": MOST["model.num_layers"],
    "num_experts": 4096, "num_local_experts": 4096, "n_routed_experts": 4096, "num_heads": 4096, "num_attention_heads": 4096,
    "hidden_size": 2**20, "vocab_size": 2**24, "num_gpus": 131_072, "num_nodes": 131_072, "global_batch_size": 2**24,
    "num_requests": 50_000, "prompt": 2**20, "output": 2**17, "batch": 65_536, "max_batch": 65_536, "block_size": 4096,
    "num_simulations": 2000, "n_layer": MOST["model.num_layers"], "num_layers_hidden": MOST["model.num_layers"],
}  # fmt: skip


SMALLEST: Mapping[str, int] = {"chunked_prefill_tokens": 64}
"""Below which an answer would take the server too long."""


def require_safe(value: Any, where: str = "scenario", depth: int = 0) -> None:
    """Raise PlannerError for paths, NaN, infinities and sizes beyond LARGEST anywhere inside ``value``."""
    if depth > MAX_DEPTH:
        raise PlannerError("{0}: tables lie more than {1} deep; a scenario needs three.", where, MAX_DEPTH)
    if isinstance(value, Mapping):
        if len(value) > MAX_ITEMS:
            raise PlannerError("{0}: holds {1:,} fields; at most {2:,} are read.", where, len(value), MAX_ITEMS)
        for key, inner in value.items():
            _require_field(str(key), inner, where)
            require_safe(inner, f"{where}.{key}"[:MAX_TEXT], depth + 1)
    elif isinstance(value, list | tuple):
        if len(value) > MAX_ITEMS:
            raise PlannerError("{0}: holds {1:,} items; at most {2:,} are read.", where, len(value), MAX_ITEMS)
        for inner in value:
            require_safe(inner, where, depth + 1)
    elif isinstance(value, int | float):
        _require_number(value, where)
    elif isinstance(value, str) and len(value) > MAX_TEXT * 10:
        raise PlannerError("{0}: holds {1:,} characters; at most {2:,} are read.", where, len(value), MAX_TEXT * 10)


def _require_number(value: float, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise PlannerError("{0} = {1}: must be a finite number.", where, value)
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise PlannerError("{0}: is a number of {1:.0f} digits; at most 10^18 is read.", where, value.bit_length() * 0.30103 + 1)


def _require_field(key: str, value: Any, where: str) -> None:
    if key in PATH_FIELDS and value is not None:
        raise PlannerError(
            "{0}.{1}: files on the server are not opened from the web; upload the file on the page, or use planner plan.",
            where,
            key,
        )
    if key in LOOKED_UP and isinstance(value, str):
        require_name(value, f"{where}.{key}")
    largest = LARGEST.get(key)
    if (
        largest is not None
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and largest < value <= LARGEST_NUMBER
    ):
        raise PlannerError("{0}.{1} = {2}: the web page accepts at most {3:,}.", where, key, value, largest)

    least = SMALLEST.get(key)
    if least is not None and isinstance(value, int | float) and not isinstance(value, bool) and value < least:
        raise PlannerError("{0}.{1} = {2}: the web page accepts at least {3:,}.", where, key, value, least)


def toml_tables(text: str, name: str, *, require: bool = True) -> dict[str, Any]:
    """The tables of a TOML text that the parser reads in a moment and that hold nothing unsafe; PlannerError otherwise.

    >>> toml_tables("a.b = 1", "x.toml")
    {'a': {'b': 1}}
    """
    if len(text) > MOST_CHARACTERS:
        raise PlannerError("{0}: holds {1:,} characters; at most {2:,} are read.", name, len(text), MOST_CHARACTERS)
    bare = TEXTS.sub(lambda found: "" if found[0].startswith("#") else "q", text)
    joined = re.sub(r"[ \t]+", " ", bare).replace(" .", ".").replace(". ", ".")
    longest = max((part.count(".") for part in re.split(r"[\s=\[\]{},#]+", joined)), default=0)
    if longest > MOST_DOTS:
        raise PlannerError(
            "{0}: a name in it has {1:,} dots; a scenario needs two, at most {2} are read.", name, longest, MOST_DOTS
        )
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PlannerError("{0}: not valid TOML: {1}.", name, of_python(error)) from None
    except ValueError:
        raise PlannerError("{0}: holds a number of more digits than any field has.", name) from None
    if require:
        require_safe(found, name)
    return found


def require_name(name: str, where: str) -> None:
    """Raise PlannerError unless ``name`` is a plain name: no file, no folder, no control characters."""
    if name.lower().strip().endswith(FILES) or any(c in name for c in "/\\\0") or ".." in name:
        raise PlannerError(
            "{0} = {1!r}: give a name of the catalog; files on the server are not opened from the web.", where, name[:60]
        )


def short_text(value: Any, limit: int = 60) -> str:
    """User text for display: one line, no control characters, cut to ``limit``.

    >>> short_text("a\\x00b\\nc" + "d" * 100, 8)
    'a b cdd…'
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def markdown(text: str, limit: int = MAX_TEXT) -> str:
    """``text`` with every sign that Markdown or its HTML reads made harmless.

    >>> markdown("![x](http://e) $a$ <b>")
    '\\\\!\\\\[x\\\\]\\\\(http\\\\:\\\\/\\\\/e\\\\) \\\\$a\\\\$ \\\\<b\\\\>'
    """
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-!|$~:/&" else c for c in short_text(text, limit))


def cell(value: Any) -> Any:
    """A cell for a spreadsheet: text that a spreadsheet would run as a formula is quoted.

    >>> cell("=1+1"), cell("plain"), cell(-3)
    ("'=1+1", 'plain', -3)
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
