"""The code of an error: of a documented kind, and that of what was wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.common.errors import CODES, LISTS, PlannerError, near, one_of
from planner.common.message import Message
from planner.common.spec import read_table

PACKAGE = Path(planner.__file__).parent
QUESTION: dict[str, Any] = {"model": "gpt2", "cluster": "1xrtx-4090", "job": {"seq_len": 512, "global_batch_size": 4}}


def asked(**changes: Any) -> planner.Plan:
    return planner.plan(**{**QUESTION, **changes})


WRONG: dict[str, list[Callable[[], Any]]] = {
    "type": [lambda: asked(job=5), lambda: asked(job={**QUESTION["job"], "seq_len": "long"}), lambda: planner.ratios(1, 2)],  # type: ignore[arg-type]
    "value": [lambda: asked(job={**QUESTION["job"], "seq_len": 0}), lambda: asked(job={**QUESTION["job"], "num_steps": -1})],
    "unknown": [
        lambda: asked(model="gtp2"),
        lambda: asked(framework="megatorn"),
        lambda: asked(job={**QUESTION["job"], "seqlen": 1}),
        lambda: planner.search(**QUESTION, objective="speed"),
    ],
    "missing": [lambda: asked(job={"seq_len": 512}), lambda: planner.tuning_choices({"model": "gpt2"})],
    "layout": [lambda: asked(layout={"tp": 5})],
    "no_profile": [lambda: planner.load_accelerator("b100")],
    "size": [lambda: asked(job={**QUESTION["job"], "seq_len": 2**30})],
    "file": [lambda: read_table(Path("no-such-file.toml")), lambda: planner.read_scenario(PACKAGE)],
}


@pytest.mark.parametrize("code", sorted(WRONG))
def test_the_code_says_what_was_wrong(code: str) -> None:
    for ask in WRONG[code]:
        with pytest.raises(PlannerError) as refused:
            ask()
        assert refused.value.code == code, str(refused.value)
        assert refused.value.placed("here").code == code


def test_every_code_is_documented_and_used() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    used = set(re.findall(r'\bcode="([^"]*)"', source)) | {"input", "unknown", "missing", "value"}
    assert used == set(CODES)


def test_lists_of_known_names_are_known_as_such() -> None:
    many = [f"name-{i}" for i in range(40)]
    said = [near("nam-1", many), near("?", many[:3]), near("?", many), one_of("x", many)]
    assert {one.key for one in said if isinstance(one, Message)} == set(LISTS)


@pytest.mark.parametrize(
    "value", ["x" * 100_000, ["x" * 100_000], [1] * 50_000, 10**5000], ids=("text", "list", "long", "digits")
)
def test_the_value_of_an_error_is_as_short_in_json_as_in_its_message(value: Any) -> None:
    said = PlannerError("{0} = {1!r}: must be text.", "job.name", value, field="job.name", value=value)
    assert len(json.dumps(said.to_dict())) < 1500


def test_a_short_value_stays_what_it_is() -> None:
    for value in ("8xh100", 3, 2.5, True, None):
        assert PlannerError("x", value=value).to_dict()["value"] == value
