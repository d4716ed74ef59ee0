"""What is said of bad input: the user's own words, the right field, near names, one full stop."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import GOOD, Run
from message_templates import PLANNER
from places import DATA

import planner
from planner.common.answerable import require_answerable
from planner.common.errors import PlannerError, near
from planner.common.limits import LARGEST
from planner.evidence.measured_runs import read_runs
from planner.evidence.predictions import predict
from planner.evidence.study import LEFT_OUT
from planner.hardware.cluster import Cluster, Node, accelerator_names, cluster, load_accelerator
from planner.lifecycle.spec import Run as WholeRun
from planner.model.architecture import Model
from planner.performance.feasibility import check_sizes
from planner.prices.market import find_price
from planner.prices.price import Price
from planner.reports.accuracy import _time_table as time_table
from planner.reports.accuracy import group_name
from planner.serving.spec import Serving
from planner.workload.framework import load_framework
from planner.workload.job import Job
from planner.workload.resolve import as_model
from tests.examples import NODE, job

RECORD = DATA / "cpu-record.json"
PAPER = DATA / "korthikanti2022.csv"
ROWS = (
    "id,source,family,framework,num_layers,hidden_size,num_heads,num_kv_heads,ffn_hidden_size,vocab_size,seq_len,accelerator,"
    "num_gpus,precision,micro_batch_size,global_batch_size,step_time_s\n"
    "one,mine,dense,Megatron-LM,8,1024,8,8,4096,32000,1024,{gpu},8,{precision},1,64,0.5\n"
)


def table(path: Path, gpu: str = "A100-SXM4-80GB", precision: str = "bf16") -> Path:
    path.write_text(ROWS.format(gpu=gpu, precision=precision), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("composed", "said"),
    [
        ("a: did you mean b?.", "a: did you mean b?"),
        ("a: c is wrong..", "a: c is wrong."),
        ("x: did you mean y?. Or give a path.", "x: did you mean y? Or give a path."),
        ("wait ... here", "wait ... here"),
        ("see ../scenarios.", "see ../scenarios."),
        ("cut to 'abc...'", "cut to 'abc...'"),
    ],
)
def test_a_composed_message_ends_once(composed: str, said: str) -> None:
    assert str(PlannerError(composed)) == said


def test_messages_of_the_command_line_end_once(run: Run, scenario: Any, tmp_path: Path) -> None:
    bad = [
        ("plan", scenario(GOOD, ("llama-2-7b", "lama-2-7b"))),
        ("validate", table(tmp_path / "r.csv", precision="fp99")),
        ("hardware", "show", "A900"),
        ("models", "show", "lama-2-7b"),
        ("prices", "show", "a900"),
    ]
    for arguments in bad:
        code, _, err = run(*arguments)
        assert code == 2
        assert "?." not in err
        assert ".." not in err.replace(str(tmp_path), "")


def test_a_precision_is_called_what_the_table_calls_it(tmp_path: Path) -> None:
    runs, refused = read_runs(table(tmp_path / "r.csv", precision="mxfp8"))
    assert not refused
    _, _, impossible = predict(runs, ("source",))
    assert "precision = 'mxfp8' (taken as fp8): a100-sxm4-80gb has no fp8" in impossible[0].reason
    assert "job.precision" not in impossible[0].reason


def test_near_names_are_those_whose_part_is_near() -> None:
    said = near("A900", accelerator_names())
    assert said.startswith("did you mean a100-")
    assert "a800-sxm4-80gb" in said
    assert near("megatron", ["fsdp", "megatron-core", "megatron-2022"]) == "did you mean megatron-2022, megatron-core?"


def test_a_list_of_known_names_begins_with_the_nearest() -> None:
    assert near("foo", ["apex", "fsdp"]) == "known: fsdp, apex"  # one letter in common, against none


def test_a_long_list_of_known_names_is_cut_and_counted() -> None:
    said = near("zzz", accelerator_names())
    assert said.count(",") == 7
    assert said.endswith(f" and {len(accelerator_names()) - 8} more")


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("search", "SCENARIO", "--objective", "memry"), "must be one of memory, "),
        (("limit", "SCENARIO", "--field", "seq_lne"), "must be one of job.seq_len, "),
        (("compare", "SCENARIO", "--at", "los"), "must be one of loss, "),
        (("tune", "SCENARIO", "--methods", "qlorra"), "must be one of qlora, lora, full"),
        (("prices", "list", "--term", "spott"), "must be one of spot, "),
        (("export", "SCENARIO", "--to", "megatrn"), "must be one of megatron, "),
    ],
)
def test_the_nearest_name_comes_first(arguments: tuple[str, ...], first: str, run: Run, scenario: Any) -> None:
    code, _, err = run(*(str(scenario()) if a == "SCENARIO" else a for a in arguments))
    assert code == 2
    assert first in err


def test_quotes_are_offered_of_the_nearest_gpus_only(run: Run, scenario: Any) -> None:
    with pytest.raises(PlannerError) as caught:
        find_price("h100-sxm6-80gb")
    assert "With quotes: h100-sxm5-80gb, " in str(caught.value)
    assert caught.value.code == "unknown"
    assert str(caught.value).count(",") < 9


def test_an_unknown_gpu_is_reported_where_it_was_written(run: Run, scenario: Any, tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match=r"^cluster\.accelerator = 'A900'.*a100"):
        cluster("dgx-a100-80gb", accelerator="A900")
    with pytest.raises(PlannerError, match=r"^node test-node: accelerator = 'A900'.*a100"):
        cluster(Node.build({**NODE.model_dump(exclude={"provenance"}), "accelerator": "A900"}, "test"))
    _, refused = read_runs(table(tmp_path / "r.csv", gpu="A900"))
    assert refused[0].reason.startswith("accelerator = 'A900'")
    code, _, err = run("search", scenario(), "--accelerator", "A900")
    assert code == 2
    assert err.startswith("error: --accelerator A900: ")
    code, _, err = run("validate", RECORD, "--accelerator", "A900")
    assert (code, "--accelerator = 'A900'" in err) == (2, True)
    code, _, err = run("validate", RECORD, "--accelerator", "cpu", "--framework", "kernel")
    assert (code, "--framework = 'kernel'" in err, "did you mean kernels" in err) == (2, True, True)  # the nearest first
    assert load_accelerator("cpu") is load_accelerator("cpu")
    assert load_framework("kernels") is load_framework("kernels")


def test_an_empty_file_points_to_what_belongs_into_it(run: Run, tmp_path: Path) -> None:
    for command, name, where in (
        ("plan", "x.toml", "planner scenarios show"),
        ("audit", "x.toml", "docs/audit.md"),
        ("validate", "x.json", "docs/guide/calibrate.md"),
    ):
        path = tmp_path / name
        path.write_text("", encoding="utf-8")
        code, _, err = run(command, path)
        assert (code, "is empty" in err, where in err) == (2, True, True)


def test_a_record_counts_once(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    shutil.copy(RECORD, copy)
    for again in (RECORD, copy):
        code, _, err = run("calibrate", RECORD, again, "-o", tmp_path / "mine.toml")
        assert (code, "is the same record" in err) == (2, True)
    assert not (tmp_path / "mine.toml").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.csv", "a,b\n1,2\n", "has no column 'rank'"),
        ("rows.parquet", "not parquet", "not a parquet table"),
        ("rows.json", "{", "not a json table"),
        ("rows.txt", "", "must end in .parquet"),
        ("gone.csv", None, "No such file"),
    ],
)
def test_rows_that_no_search_wrote_are_an_error(
    run: Run,
    scenario: Any,
    tmp_path: Path,
    name: str,
    text: str | None,
    said: str,
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    code, _, err = run("export", scenario(), "--to", "megatron", "--rows", tmp_path / name)
    assert (code, said in err) == (2, True), err
    assert "KeyError" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("field", "most"), [(field, int(most)) for field, (most, _) in LARGEST.items() if field[:3] in ("job", "mod")]
)
def test_absurd_sizes_are_refused_with_the_limit(field: str, most: int) -> None:
    place, name = field.split(".")
    base = {"base": "mixtral-8x7b"}
    if name == "num_heads":
        base |= {"num_kv_heads": 1, "attention": "mqa"}
    for change, wrong in (({name: most}, False), ({name: most + 1}, True)):
        model = as_model({**base, **(change if place == "model" else {})})
        asked = job(**(change if place == "job" else {}))
        if wrong:
            with pytest.raises(PlannerError, match=rf"{field} = {most + 1}: at most {most:,} is answered"):
                check_sizes(model, asked)
        else:
            check_sizes(model, asked)


@pytest.mark.parametrize("field", ["model.hidden_size", "model.vocab_size", "model.num_heads", "serving.num_requests"])
def test_a_size_is_refused_alike_wherever_it_is_read(field: str) -> None:
    """Also where the field's own bound is met first: its reason is said, and what would be right."""
    place, name = field.split(".")
    spec: Any = {"model": Model, "serving": Serving}[place]
    given = as_model("gpt2").model_dump(exclude={"provenance"}) if place == "model" else {"prompt": 1, "output": 1}
    with pytest.raises(PlannerError) as by_field:
        spec.build({**given, name: 10**10}, place)
    with pytest.raises(PlannerError) as by_table:
        require_answerable(place, SimpleNamespace(**{name: 10**10}))
    assert str(by_field.value) == str(by_table.value)
    assert by_field.value.code == by_table.value.code == "size"


def test_a_list_of_known_names_follows_a_semicolon_or_a_colon() -> None:
    """ "did you mean a?" ends a message; within a sentence of its own a list is that of ``nearest``."""
    wrong = []
    for path in sorted(PLANNER.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)):
                continue
            for i, value in enumerate(call.args[1:]):
                if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "near":
                    before = str(call.args[0].value).partition(f"{{{i}")[0]
                    wrong += [] if before.endswith(("; ", ": ")) else [f"{path.name}:{call.lineno}"]
    assert wrong == []


@pytest.mark.parametrize("field", LARGEST)
def test_every_limit_names_a_field_and_holds_at_its_edge(field: str) -> None:
    place, name = field.split(".")
    most = LARGEST[field][0]
    require_answerable(place, SimpleNamespace(**{name: most}))
    for wrong in (most + 1, 10**250):
        with pytest.raises(PlannerError, match=rf"^{field} = .*: at most {most:,} is answered") as caught:
            require_answerable(place, SimpleNamespace(**{name: wrong}))
        assert len(str(caught.value)) <= 250
    tables: dict[str, Any] = {"job": Job, "model": Model, "cluster": Cluster, "serving": Serving, "run": WholeRun, "price": Price}
    table = tables[place]
    assert name in (getattr(table, "model_fields", None) or table.__dataclass_fields__)


SIZES: list[tuple[str, Any]] = [
    ("cluster.num_gpus", lambda: planner.plan(model="llama-3-8b", cluster={"node": "dgx-h100", "num_gpus": 10**9}, job=ASKED)),
    ("price.usd_per_gpu_hour", lambda: planner.plan(model="llama-3-8b", cluster="dgx-h100", job=ASKED, price=1e300)),
    ("serving.num_requests", lambda: planner.serve(model="llama-3-8b", cluster="dgx-h100", serving={
        "engine": "vllm", "prompt": 100, "output": 10, "requests_per_s": 1.0, "num_requests": 5_000_000})),
    ("job.seq_len", lambda: planner.plan(model="llama-3-8b", cluster="dgx-h100", job={**ASKED, "seq_len": 10**250})),
    ("job.seq_len", lambda: planner.search(model="llama-3-8b", cluster="dgx-h100", job={**ASKED, "seq_len": 10**250})),
]  # fmt: skip
ASKED = {"seq_len": 2048, "global_batch_size": 8, "num_tokens": 10**6}


@pytest.mark.parametrize(("field", "ask"), SIZES)
def test_the_library_refuses_the_same_sizes_in_one_short_paragraph(field: str, ask: Any) -> None:
    with pytest.raises(PlannerError, match=field) as caught:
        ask()
    assert len(str(caught.value)) <= 400


def test_no_message_repeats_what_would_fill_a_screen() -> None:
    assert len(str(PlannerError(f"model.name = {'a' * 10**6!r} is unknown."))) <= 200


def test_an_absurd_question_is_refused_at_once(run: Run, scenario: Any) -> None:
    long = scenario(GOOD, ("seq_len = 2048", "seq_len = 1_000_000_000_000"))
    for command in ("plan", "search"):
        code, _, err = run(command, long)
        assert (code, "job.seq_len = 1000000000000: at most" in err) == (2, True)


def test_a_table_without_lines_says_why() -> None:
    runs = read_runs(PAPER)[0][:2]
    values = np.zeros(len(runs))
    found: Any = SimpleNamespace(
        runs=runs, in_sample=values, left_out=dict.fromkeys(LEFT_OUT, values), baseline=values, baseline_left_out=values
    )
    text = time_table(found, group_name, least=3)
    assert "No group has 3 steps" in text
    assert "2, in-sample median error" in text
    assert time_table(found, lambda one: "all", least=2).startswith("| group |")


def test_no_blank_line_comes_before_a_table(run: Run, tmp_path: Path) -> None:
    code, out, err = run("validate", PAPER)
    assert code == 0
    assert err.strip() == err
    assert out.splitlines()[0].strip()
    assert json.loads(run("validate", PAPER, "--json")[1])["rows"]


def test_the_notes_of_a_model_have_its_name_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "au").mkdir()
    config = {"model_type": "gemma4", "text_config": {"model_type": "gemma4_text", "num_hidden_layers": 6}}
    config |= {"vision_config": None, "audio_config": {"hidden_size": 1024}}
    (tmp_path / "au" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for language, said in (("en", "au: its encoder of sound"), ("zh", "au：未计其声音编码器")):
        asked = ("--on", "8xh100", "--seq-len", "1024", "--explain", "--lang", language)
        code, out, _ = run("plan", str(tmp_path / "au" / "config.json"), *asked)
        assert code == 0
        assert said in out
        assert "au: au" not in out
        assert "au：au" not in out
