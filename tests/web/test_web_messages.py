"""The planner's messages on the Chinese page: each template translated, none stale, values untouched, whatever is shown."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import message_templates as source
import pydantic
import pytest
from each import for_each
from places import PATIENCE_S, ROOT
from streamlit.testing.v1 import AppTest

from planner import plan
from planner.common import translation
from planner.common.data import CATALOG, PROFILES
from planner.common.errors import MUST, PlannerError, explain
from planner.common.parsed import parsed_toml
from planner.common.spec import Spec
from planner.hardware.cluster import load_accelerator
from planner.launchfiles import read_launch
from planner.launchfiles.formats import formats
from planner.layout_search.question import as_question
from planner.layout_search.search import run_search
from planner.layout_search.table import why_second
from planner.model.huggingface import model_from_config
from planner.model.names import unmeant
from planner.performance.memory import KINDS
from planner.performance.step_time import PARTS
from planner.prices.price import TERMS, Price
from planner.serving import serve
from planner.web import inputs, report, show, state
from planner.web.answers import Answer
from planner.web.guard import require_safe
from planner.web.messages import priced, said, word
from planner.web.pages import calibrate, evidence
from planner.web.text import speaking, words

CHINESE = re.compile(r"[\u4e00-\u9fff]")
OTHERS = ("python", "composed", "scenarios", "tables", "sources", *translation.WORDS)
"""Tables of texts that are not in our source."""
JOB: dict[str, Any] = {"seq_len": 2048, "global_batch_size": 32}
CLUSTER: dict[str, Any] = {"node": "dgx-a100-80gb", "num_gpus": 8}


@cache
def in_source() -> dict[str, str]:
    """Template -> module that shows it."""
    return {text: source.name_of(path) for path in source.modules() for text in source.templates_in(path)}


def translated() -> dict[str, str]:
    """Template -> Chinese of our own messages."""
    return {k: v for name, table in translation.tables().items() if name not in OTHERS for k, v in table.items()}


def blanks(text: str) -> list[str]:
    return sorted(number for number, _ in translation.BLANK.findall(text))


def test_every_message_that_a_page_can_show_is_translated() -> None:
    missing = sorted(f"[{module}]  {json.dumps(text)}" for text, module in in_source().items() if text not in translated())
    assert not missing, "ADD to planner/common/messages.zh.toml:\n" + "\n".join(missing)


def test_no_translation_is_of_a_message_that_is_gone() -> None:
    known = {*in_source(), *(text for path in source.modules() for text in source.texts_in(path))}
    stale = sorted(json.dumps(text) for text in translated() if text not in known)
    assert not stale, "REMOVE from planner/common/messages.zh.toml:\n" + "\n".join(stale)


def test_titles_and_labels_of_shipped_scenarios_speak_chinese_and_none_is_stale() -> None:
    files = [tomllib.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "scenarios").rglob("*.toml")]
    named = {case["label"] for file in files for case in (file, *file.get("compare", ())) if "label" in case}
    named |= {file["title"] for file in files}
    english = {text for text in named if len(re.findall(r"\b[a-z]{2,}\b", text)) > 1}
    assert [text for text in sorted(english) if not CHINESE.search(translation.translated_label(text, "zh"))] == []
    assert sorted(set(translation.tables()["scenarios"]) - named) == []


def test_reasons_of_tables_speak_chinese_and_none_is_stale() -> None:
    """What a table says of a name or an option is shown as it stands there: it is a message as any other."""
    files = [CATALOG / "model_names.toml", PROFILES / "known.toml"]
    reasons = {entry["reason"] for path in files for entry in parsed_toml(path.read_text(encoding="utf-8"))["known"]}
    reasons |= {text for form in formats() for text in form.unmodelled.values() if text}
    assert sorted(text for text in reasons if not CHINESE.search(translation.translated(text, "zh"))) == []
    assert sorted(set(translation.tables()["tables"]) - reasons) == []


def test_sources_of_what_a_run_costs_speak_chinese_and_none_is_stale() -> None:
    """Notes of a bill quote them; those of other tables are citations, and stay as published."""
    sources = {entry["source"] for entry in parsed_toml((CATALOG / "cost.toml").read_text(encoding="utf-8")).values()}
    assert sorted(text for text in sources if not CHINESE.search(translation.translated(text, "zh"))) == []
    assert sorted(set(translation.tables()["sources"]) - sources) == []


def test_what_is_not_modelled_and_names_that_are_known_are_said_in_chinese(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(
        "trl dpo --model_name_or_path Qwen/Qwen2.5-0.5B --per_device_train_batch_size 2 --max_length 512 --beta 0.1"
    )
    launch = read_launch([tmp_path / "run.sh"], cluster={"accelerator": "rtx-4090-24gb", "num_gpus": 1})
    for text in (*launch.unmodelled, unmeant("claude-3")):
        shown = translation.translated(text, "zh")
        assert CHINESE.search(shown)
        assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", shown), shown


def test_words_of_the_glossary_are_kept_apart() -> None:
    """As in docs/reference/glossary.md: a plan is a 方案, a layout a 并行策略, what does not fit 显存不足, a scenario a 场景."""
    told = [*translated().items(), *((english, words("zh")[key]) for key, english in words("en").items())]
    assert [text for english, text in told if "方案" in text and not re.search(r"\bplans?\b", english, re.IGNORECASE)] == []
    assert [text for _, text in told if re.search("[放装容][不得]下|批大小|配方|软件栈", text)] == []
    files = {key: text for key, text in words("zh").items() if re.search(r"\bscenarios?\b", words("en")[key], re.IGNORECASE)}
    assert [text for text in files.values() if "场景" not in text] == []


def test_no_message_is_translated_twice() -> None:
    tables = translation.tables()
    keys = [key for name in tables if name not in translation.WORDS for key in tables[name]]
    assert sorted(keys) == sorted(set(keys))


@for_each("name", [name for name in translation.tables() if name not in OTHERS])
def test_both_sides_have_the_same_blanks_and_the_other_is_chinese(name: str) -> None:
    for text, chinese in translation.tables()[name].items():
        assert blanks(text) == blanks(chinese), f"{text!r}: {chinese!r}"
        words = re.sub(r"\{\d+\}|[a-z_]+(\.[a-z_]+)* = |--?[a-z-]+|planner [a-z ]+", "", text)  # blanks, fields, commands
        assert CHINESE.search(chinese) or len(re.findall(r"[a-z]{2,}", words)) < 2 or chinese.startswith("nf4"), chinese
        for field in re.findall(r"[a-z]+_[a-z_]+[a-z]|[a-z]+\.[a-z_]+", text):  # names of fields and tables stay
            assert field == "e.g" or field in chinese, f"{text!r}: {chinese!r} leaves out {field}"


def test_every_module_of_the_planner_is_reachable_or_left_out_for_a_reason() -> None:
    left_out = {name for names in source.LEFT_OUT.values() for name in names}
    assert not set(source.REACHABLE) & left_out
    shown = {source.name_of(path) for path in source.modules()}
    for path in source.PLANNER.rglob("*.py"):
        name = source.name_of(path)
        if re.search(r"(PlannerError|ValueError)\(\s*f?\"", path.read_text(encoding="utf-8")) and name not in shown:
            assert {name, name.split("/")[0]} & left_out, f"{name}: put it into REACHABLE or LEFT_OUT"
    for module in source.TELLING:
        assert module in shown, module


def error(call: Callable[[], Any]) -> str:
    with pytest.raises(PlannerError) as raised:
        call()
    return str(raised.value)


def chinese(text: str) -> str:
    with speaking("en"):
        assert said(text) == text
    with speaking("zh"):
        return said(text)


def asked(**changes: Any) -> Callable[[], Any]:
    given: dict[str, Any] = {"model": {"name": "llama-2-7b"}, "cluster": CLUSTER, "job": JOB, **changes}
    return lambda: plan(**given)


def served(**fields: Any) -> Callable[[], Any]:
    given = {"engine": "vllm", "weights": "bf16", "prompt": 512, "output": 64, "batch": 4, **fields}
    return lambda: serve(model={"name": "llama-2-7b"}, cluster={"node": "dgx-a100-80gb", "num_gpus": 1}, serving=given)


LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
}
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "tp does not divide the heads": (asked(cluster={"node": "dgx-a100-80gb", "num_gpus": 48}, layout={"tp": 3},
                                           job={**JOB, "global_batch_size": 16}), "layout.tp = 3|num_heads = 32|llama-2-7b"),
    "degrees and GPUs": (asked(layout={"tp": 8, "pp": 2}), "layout.tp x pp x cp = 8 x 2 x 1 = 16|1, 2, 4, 8"),
    "ep on a dense model": (asked(layout={"ep": 2}), "layout.ep = 2|llama-2-7b"),
    "unknown model": (asked(model={"name": "lama-2-7b"}), "model.name = 'lama-2-7b'|llama-2-7b|config.json"),
    "nothing like it": (asked(framework={"name": "zz"}), "framework.name = 'zz'|planner frameworks list"),
    "batch and dp": (asked(job={**JOB, "global_batch_size": 7}, layout={"micro_batch_size": 2}),
                     "job.global_batch_size = 7|micro_batch_size x dp = 2 x 8 = 16"),
    "several fields": (asked(layout={"tp": "x", "pp": 1.5, "foo": 3}), "tp = 'x'|pp = 1.5|foo = 3|micro_batch_size"),
    "a field is missing": (asked(job={"seq_len": 2048}), "job|global_batch_size"),
    "a choice": (asked(job={**JOB, "precision": "int3"}), "precision = 'int3'|'bf16-pure'"),
    "adapter without a table": (asked(job={**JOB, "kind": "lora"}), "kind = 'lora'|[job.adapter]|rank"),
    "V100 and bf16": (asked(cluster={"node": "dgx-1v-32gb", "num_gpus": 8}, job={**JOB, "precision": "bf16"}),
                      "job.precision|bf16|v100"),
    "no network": (asked(cluster={"node": "a2-highgpu-1g", "num_nodes": 2}), "cluster.num_nodes = 2|[[links]]"),
    "NaN": (asked(price={"usd_per_gpu_hour": float("nan")}), "price.usd_per_gpu_hour = nan"),
    "NaN in a scenario": (lambda: require_safe({"job": {"seq_len": float("nan")}}), "scenario.job.seq_len = nan"),
    "path in a scenario": (lambda: require_safe({"model": {"name": "/etc/x.toml"}}), "scenario.model.name = '/etc/x.toml'"),
    "too large for the page": (lambda: require_safe({"cluster": {"num_gpus": 10**6}}), "cluster.num_gpus = 1000000|131,072"),
    "table missing": (lambda: state.checked({"cases": [{"label": "a", "tables": {"model": {"name": "llama-2-7b"}}}]}),
                      "1|cluster|model"),
    "damaged link": (lambda: state.decode("AAAA"), "unknown compression method"),
    "bad TOML": (lambda: state.from_toml("a = 1\nb = \n", "s.toml"), "s.toml|TOML|2|5"),
    "nothing pasted": (lambda: inputs.model_fields("", "m"), "config.json"),
    "no JSON": (lambda: inputs.model_fields('{"a" 1}', "m"), "config.json|JSON|1|6"),
    "unknown kind of model": (lambda: model_from_config({"model_type": "lama"}, name="m", where="config.json"),
                              "config.json|model_type = 'lama'|llama"),
    "unknown field of a config": (lambda: model_from_config({**LLAMA, "foo_size": 3}, name="m", where="c.json"),
                                  "c.json|foo_size = 3"),
    "heads that do not divide": (lambda: model_from_config({**LLAMA, "num_attention_heads": 7}, name="m", where="c.json"), "7"),
    "CSV without a column": (lambda: evidence.own_pairs(b"id,model\n1,gpt2\n", "runs.csv"), "runs.csv"),
    "no record": (lambda: calibrate.fitted(b"[]", "r.json"), "r.json|list|python -m kernels run"),
    "two lengths": (asked(job={**JOB, "num_tokens": 10**9, "num_steps": 3}), "job|num_steps|num_samples"),
    "nothing is left": (lambda: run_search(as_question(
        model={"name": "llama-2-70b"}, cluster={"node": "dgx-a100-80gb", "num_gpus": 1}, job=JOB, objective="time")), "79.1"),
    "serving across heads": (served(tp=3), "serving.tp = 3|32"),
    "serving beyond its batch": (served(batch=300, max_batch=256), "batch = 300|max_batch = 256"),
    "serving in FP8": (served(weights="fp8"), "serving.weights = 'fp8'|a100"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_the_planner_come_out_in_chinese_with_their_names_and_numbers(name: str) -> None:
    call, kept = WRONG[name]
    text = error(call)
    shown = chinese(text)
    assert CHINESE.search(shown), text
    for part in kept.split("|"):
        assert part in text, f"not in the error itself: {part!r}: {text}"
        assert part in shown, f"{part!r} is lost: {shown}"
    assert sorted(re.findall(r"\d+", shown)) == sorted(re.findall(r"\d+", text))
    assert english_words(shown) <= WORDS_THAT_STAY | set(kept.replace("|", " ").split()), shown


WORDS_THAT_STAY = {
    "python",
    "planner",
    "header",
    "check",
    "incorrect",
    "decompressing",
    "while",
    "data",
    "list",
    "kernels",
    "run",
    "models",
    "families",
    "import",
}
"""Of commands, of types, and of zlib."""


def english_words(shown: str) -> set[str]:
    """Words of two English letters or more in a row of two: prose that was left, not names or values."""
    prose = re.findall(r"(?<![\w.'`=-] )(?<![\w.'`\[-])[a-z]{2,} [a-z]{3,}(?: [a-z]+)*(?![\w.'`=])", shown)
    return {w for phrase in prose for w in phrase.split()}


def test_reasons_why_it_does_not_fit_come_out_in_chinese() -> None:
    found = asked(model={"name": "llama-2-70b"}, layout={"tp": 1})()
    assert not found.fits
    texts = [*found.reasons, *found.notes, found.intervals["step_time_s"].why]
    large = served(batch=2000, max_batch=4096)()
    texts += [*large.reasons, *large.warnings, *large.notes]
    assert len(texts) >= 3
    for text in texts:
        assert CHINESE.search(chinese(text)), text
        assert re.findall(r"\d+\.\d", chinese(text)) == re.findall(r"\d+\.\d", text)
    with speaking("zh"):
        assert words("zh")["kind.optimizer"] in said(found.reasons[0])


def test_tables_own_precision_is_kept_in_a_refusal() -> None:
    card = load_accelerator("v100-sxm2-32gb")
    text = error(lambda: card.peak("bf16")).replace("job.precision", "precision = 'mxbf16' (taken as bf16)", 1)
    shown = chinese(text)
    assert "precision = 'mxbf16'" in shown
    assert "matrix units" not in shown
    assert CHINESE.search(shown)


def test_refusals_of_a_search_keep_their_label() -> None:
    question = as_question(
        model={"name": "llama-2-7b"},
        cluster=CLUSTER,
        job={**JOB, "precision": "bf16"},
        accelerators=["v100-sxm2-32gb", "a100-sxm4-80gb"],
    )
    shown = chinese(question.refused[0])
    assert shown.startswith("8 x v100-sxm2-32gb")
    assert not english_words(shown), shown


def test_runner_up_of_a_search_is_said_in_chinese() -> None:
    found = run_search(as_question(model={"name": "llama-2-7b"}, cluster=CLUSTER, job=JOB, objective="time"))
    text = why_second(found.to_frame())
    assert re.search(r"runner-up .* (backward|recompute|parallel|bubble)", text), text
    shown = chinese(text)
    assert re.findall(r"-?\d+\.\d+", shown) == re.findall(r"-?\d+\.\d+", text)
    assert not english_words(shown.replace(" -> ", "")), shown


def test_what_pydantic_says_is_translated() -> None:
    class Sample(Spec):
        whole: int = pydantic.Field(default=1, ge=1, lt=9)
        real: float = pydantic.Field(default=1.0, gt=0, le=5)
        yes: bool = False
        text: str = pydantic.Field(default="abc", min_length=2, max_length=4)
        items: tuple[int, ...] = pydantic.Field(default=(1,), min_length=1, max_length=2)
        table: dict[str, int] = pydantic.Field(default_factory=dict)

    bad: dict[str, list[Any]] = {
        "whole": [0, 9, "x", 1.5, [], "9" * 5000], "real": [0, 6, "x", float("inf"), []], "yes": ["perhaps", []],
        "text": ["a", "abcde", 3], "items": [[], [1, 2, 3], 5], "table": [5],
    }  # fmt: skip
    for field, values in bad.items():
        for value in values:
            with pytest.raises(pydantic.ValidationError) as raised:
                pydantic.TypeAdapter(Sample).validate_python({field: value})
            shown = chinese(str(explain(raised.value, "t", Sample)))
            assert CHINESE.search(shown), shown
            assert field in shown, shown
            assert "should" not in shown, shown


def test_what_pydantic_says_is_its_own() -> None:
    errors = pytest.importorskip("pydantic_core._pydantic_core").list_all_errors()
    contexts = {one["type"]: {*(one["example_context"] or {})} for one in errors}
    for kind, (_, name) in MUST.items():
        assert {name} - {""} <= contexts[kind], kind
    assert {text for text, _ in MUST.values()} <= {*translation.tables()["common/errors"]}


def test_words_are_those_of_prices_and_provenance() -> None:
    kinds = {*Spec.model_fields["provenance"].annotation.__args__[1].model_fields["kind"].annotation.__args__}  # type: ignore[union-attr]
    assert set(translation.tables()["words"]) == {*TERMS, *kinds, "own price", "extrapolated", "a replica", "its attention group"}
    with speaking("zh"):
        assert all(CHINESE.search(word(name)) for name in (*translation.tables()["words"], *KINDS, *PARTS))
    with speaking("en"):
        assert word("measured") == "measured"


def test_price_keeps_provider_region_and_date() -> None:
    price = Price(accelerator="a", term="spot", usd_per_gpu_hour=2.0, provider="Azure", region="eastus", date="2026-06-18")
    with speaking("en"):
        assert priced(price) == price.describe()
    with speaking("zh"):
        assert priced(price) == f"Azure {translation.tables()['words']['spot']}，eastus，2026-06-18"


def test_cards_and_the_report_speak_chinese() -> None:
    failed = Answer(label="a", tables={}, plan=None, error=error(asked(layout={"ep": 2})))
    found = asked(model={"name": "llama-2-70b"}, layout={"tp": 1})()
    made = Answer(label="b", tables={}, plan=found)
    with speaking("zh"):
        assert "稠密模型" in show.card(failed)
        notes = report._notes([failed, made])
        assert "稠密模型" in notes
        assert "GiB per GPU" not in notes
        assert word("fitted") in notes
        assert "measured runs" not in notes
    with speaking("en"):
        assert failed.error in show.card(failed)


def _error_page() -> None:
    from planner import plan
    from planner.common.errors import PlannerError
    from planner.web import show

    try:
        plan(model="gpt2", cluster="dgx-a100-80gb", job={"seq_len": 1024, "global_batch_size": 32}, layout={"ep": 2})
    except PlannerError as error:
        show.problem(str(error))


@pytest.mark.parametrize(("chosen", "shown"), [("zh", "稠密模型"), ("en", "is dense")])
def test_an_error_on_the_page_speaks_the_language_of_the_session(chosen: str, shown: str) -> None:
    app = AppTest.from_function(_error_page)
    app.session_state["language"] = chosen
    app.run(timeout=PATIENCE_S)
    assert shown in app.error[0].value
