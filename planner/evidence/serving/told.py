"""What a source says once of all its measurements, as the cells that anybody's table may state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.common.errors import PlannerError
from planner.evidence.cells import fraction, yes
from planner.evidence.serving.names import labels

ONE_PROMPT = "one prompt"
"""In the column ``pass_tokens``: each pass takes one prompt and the tokens of those who decode."""


def filled(row: Mapping[str, str]) -> dict[str, str]:
    """The row with the cells that its source leaves to its text or its launch files; what the row states counts more."""
    found: dict[str, str] = {}
    for entry in labels()["cells_of_source"]:
        texts = {column: row.get(column, "") for column in entry["of"]}
        if all(texts[c] in words if isinstance(words, list) else words in texts[c] for c, words in entry["of"].items()):
            found = {**entry.get("cells", {}), **_of_lengths(row, entry), **found}
    return {**row, **{column: text for column, text in found.items() if not row.get(column)}}


def _of_lengths(row: Mapping[str, str], entry: Mapping[str, Any]) -> dict[str, str]:
    """How many requests were sent, by prompt and answer."""
    number = entry.get("requests_of_lengths", {}).get(f"{row['prompt_len']}/{row['output_len']}")
    return {"requests": str(number)} if number else {}


def server_fields(row: Mapping[str, str]) -> dict[str, Any]:
    """Fields of ``Serving`` that say how the server was started: type of the cache, passes, graphs, waiting for prompts, how
    tokens come to experts and answers to those who ask."""
    found: dict[str, Any] = {}
    if row.get("kv_dtype", "") in ("fp8", "int8"):
        found["kv_dtype"] = row["kv_dtype"]
    if row.get("pass_tokens") == ONE_PROMPT:
        found["pass_tokens"] = _whole(row, "prompt_len") + _whole(row, "batch")
    elif row.get("pass_tokens"):
        found["pass_tokens"] = _whole(row, "pass_tokens")
    if row.get("dispatcher"):
        found["dispatcher"] = row["dispatcher"]
    if not yes(row, "streamed", default=True):
        found["streamed"] = False
    if row.get("captured_batches"):
        found["captured_batches"] = [_whole({"captured_batches": b}, "captured_batches") for b in row["captured_batches"].split()]
    if row.get("prefill_wait_steps"):
        found["prefill_wait_steps"] = _whole(row, "prefill_wait_steps")
        found["prefill_wait_share"] = fraction(row, "prefill_wait_share")
    return found


def _whole(row: Mapping[str, str], column: str) -> int:
    text = row[column]
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise PlannerError("{0} = {1!r}: must be a whole number of at least 1", column, text)
    return int(text)


def shortest(row: Mapping[str, str]) -> float:
    """The shortest length over the nominal one, of requests in a closed loop."""
    if not row.get("shortest_share"):
        return float(labels()["closed_loop"]["shortest"])
    share = fraction(row, "shortest_share")
    if not 0.0 < share <= 1.0:
        raise PlannerError("shortest_share = {0!r}: must be above 0 and at most 1", row["shortest_share"])
    return share
