"""``planner debug``: versions, question and answer, and nothing of who asked or where."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from command_line import GOOD, Run

from planner.reports.debug import cleaned


def test_versions_alone(run: Run) -> None:
    code, out, _ = run("debug")
    assert code == 0
    assert {"planner", "python", "system", "numpy"} <= set(json.loads(out)["versions"])


def test_question_and_answer_are_those_of_plan(run: Run, scenario: Any) -> None:
    path = scenario()
    code, out, _ = run("debug", path, "--set", "job.precision=fp16")
    assert code == 0
    found = json.loads(out)
    answer = json.loads(run("plan", path, "--json", "--set", "job.precision=fp16")[1])
    assert found["answer"]["step_time_s"] == answer["step_time_s"]
    assert found["answer"]["memory_bytes"] == answer["memory_bytes"]
    assert found["question"]["model"] == {"name": "llama-2-7b"}
    assert found["question"]["job"]["precision"] == "fp16"
    assert found["question"]["layout"]["tp"] == 2


def test_names_and_paths_of_ones_own_are_left_out(run: Run, scenario: Any, tmp_path: Path) -> None:
    secret = tmp_path / "project-sesame"
    secret.mkdir()
    model = secret / "sesame-9b.toml"
    model.write_text(
        'name = "sesame-9b"\nnum_layers = 10\nhidden_size = 1024\nvocab_size = 1000\nnum_heads = 8\nffn_hidden_size = 4096\n'
    )
    text = GOOD.replace('title = "test"', 'title = "sesame plan"\nlabel = "sesame"').replace("llama-2-7b", str(model))
    code, out, _ = run("debug", scenario(text))
    assert code == 0
    assert "sesame" not in out
    assert str(tmp_path) not in out
    found = json.loads(out)
    assert found["question"]["model"]["fields"]["hidden_size"] == 1024
    assert found["question"]["model"]["name"] == "a model of one's own"


def test_a_changed_catalog_entry_says_what_was_changed(run: Run, scenario: Any) -> None:
    code, out, _ = run("debug", scenario(), "--set", "model.num_layers=20", "--set", "framework.fused_norm=false")
    assert code == 0
    question = json.loads(out)["question"]
    assert question["model"]["fields"]["num_layers"] == 20
    assert question["framework"]["fields"] == {"fused_norm": False}


def test_serving_too(run: Run) -> None:
    code, out, _ = run("debug", "serving/qwen-7b")
    assert code == 0
    assert json.loads(out)["question"]["serving"]["weights"] == "fp16"


def test_user_host_and_paths_are_taken_out_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ada99")
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.cluster")
    text = "read /home/ada99/x.toml on node-17.cluster by ada99: 3 tokens/s per GPU, ~/plans/a.json, C:\\me\\b.toml"
    assert cleaned(text, {}) == "read (path) on (host) by (user): 3 tokens/s per GPU, (path), (path)"


def test_a_model_and_its_gpus_are_a_question_of_a_report(run: Run) -> None:
    code, out, _ = run("debug", "llama-3-8b", "--on", "8xh100", "--seq-len", "4k")
    assert code == 0
    assert json.loads(out)["question"]["job"]["seq_len"] == 4096
