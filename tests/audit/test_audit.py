"""The audit: every claim has a verdict, and each figure behind one equals a calculation by hand."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from planner.audit.claims import Check, ClaimFile, catalog_claims
from planner.audit.combined import combined
from planner.audit.expression import evaluate, names_in
from planner.audit.figures import Figured
from planner.audit.verdicts import Judgement, Reading, audit_articles, satisfied, supported
from planner.cli.main import COMMANDS, app, main
from planner.common.errors import PlannerError
from planner.reports.audit import ordered, summary
from planner.uncertainty.interval import Interval

DOCS, CHINESE = ROOT / "docs" / "audit.md", ROOT / "docs" / "audit.zh.md"


def test_every_claim_has_a_verdict_and_a_reason(judged: dict[str, Judgement]) -> None:
    for judgement in judged.values():
        assert judgement.quote
        assert judgement.heading
        assert judgement.instead
        for finding in judgement.findings:
            assert finding.verdict != "not computed yet"
            for language in ("en", "zh"):
                assert finding.why[language].endswith((".", ")", "。", "）")), finding
                assert "{" not in finding.why[language]
            if finding.figure is not None:
                assert finding.figure.lower <= finding.figure.expected <= finding.figure.upper
                assert finding.exact == (finding.figure.lower == finding.figure.upper)
            if finding.verdict == "holds if":
                assert finding.condition


def texts(claims: ClaimFile) -> Iterator[tuple[str, str]]:
    """Each English text of a file with its Chinese."""
    assert claims.article is not None
    yield from zip(claims.article.setting, claims.article.setting_zh, strict=True)
    yield from zip(claims.article.summary, claims.article.summary_zh, strict=True)
    for option in (o for options in claims.article.choices.values() for o in options):
        yield option.text, option.text_zh
        yield option.contradicted, option.contradicted_zh
    for claim in claims.claims:
        yield claim.text, claim.text_zh
        yield claim.instead, claim.instead_zh
        if claim.stake is not None:
            yield claim.stake.text, claim.stake.text_zh
        for c in claim.checks:
            yield c.what, c.what_zh
            yield c.why, c.why_zh
            yield c.out_of_scope or "", c.out_of_scope_zh
            for variant in c.variants:
                yield variant.condition, variant.condition_zh


def test_every_text_of_the_catalog_has_its_chinese() -> None:
    """And the Chinese names the same figures."""
    for claims in catalog_claims():
        assert claims.article is not None
        assert len(claims.article.summary) == 5
        for english, chinese in texts(claims):
            assert bool(english) == bool(chinese), english
            assert set(re.findall(r"{(\w+)", english)) >= set(re.findall(r"{(\w+)", chinese)), english
            assert not english or re.search(r"[\u4e00-\u9fff]", chinese), chinese


def test_the_chinese_page_holds_no_english_sentence() -> None:
    page = CHINESE.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|`[^`]*`|\[English\]", "", page, flags=re.DOTALL)
    names = re.compile(r"AMD EPYC 7B13 64-Core Processor|Target modules not found in the base model")
    assert not re.findall(r"(?:[A-Za-z']+ ){3,}[a-z]+", names.sub("", prose))


COMMAND = re.compile(r"planner (\w+)")


def test_what_to_do_names_commands_and_files_that_are_there() -> None:
    told = [c.do for f in catalog_claims() for c in f.claims]
    assert all(told)  # every claim has one
    for command in told:
        found = COMMAND.match(command)
        assert found is not None
        assert found.group(1) in COMMANDS, command
        for name in re.findall(r"scenarios/\S+\.toml", command):
            assert (ROOT / name).is_file(), command


def test_what_to_do_is_understood_by_the_command_line() -> None:
    """Every option and argument is parsed as the command would; nothing is computed."""
    for told in {c.do for f in catalog_claims() for c in f.claims if c.do}:
        node: Any = typer.main.get_command(app)
        left = shlex.split(told)[1:]
        while hasattr(node, "resolve_command"):
            name, node, left = node.resolve_command(typer.Context(node), left)
        assert node.make_context(name, left).params, told


LOGIC = """
[article]
title = "t"
[[article.choices.size]]
name = "small"
text = "the model is small"
[[article.choices.size]]
name = "large"
text = "the model is large"
[[article.choices.way]]
name = "stated"
text = "as stated"
[[article.choices.way]]
name = "other"
text = "another way"
contradicted = "the text says otherwise"
[[claims]]
id = "A"
text = "a"
[[claims.checks]]
what = "a"
claimed = 2
expression = "1"
needs = { size = "small" }
why = "."
[[claims.checks.variants]]
condition = "large"
needs = { size = "large" }
expression = "2"
[[claims]]
id = "B"
text = "b"
[[claims.checks]]
what = "b"
claimed = 5
expression = "5"
needs = { size = "small" }
why = "."
[[claims.checks.variants]]
condition = "large"
needs = { size = "large" }
expression = "9"
[[claims]]
id = "C"
text = "c"
[[claims.checks]]
what = "c"
claimed = 7
expression = "7"
needs = { size = "small" }
why = "."
[[claims]]
id = "D"
text = "d"
[[claims.checks]]
what = "d"
claimed = 3
expression = "1"
why = "."
[[claims.checks.variants]]
condition = "another way"
needs = { way = "other" }
expression = "3"
[[claims]]
id = "E"
text = "e"
[[claims.checks]]
what = "e"
claimed = 4
expression = "1"
why = "."
[[claims.checks.variants]]
condition = "solved"
solved = true
expression = "4"
[[claims.checks]]
what = "e2"
claimed = 4
expression = "1"
added = true
why = "."
"""


def test_claims_of_an_article_are_judged_together(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(LOGIC)
    (reading,) = audit_articles(claims=path)
    found = {j.id: j for j in reading.judgements}
    assert dict(reading.chosen) == {"size": "small", "way": "stated"}  # two numbers hold under it, one under the other
    assert found["A"].verdict == "cannot be"  # it would hold if large, which contradicts B and C
    assert "contradicts the reading" in found["A"].findings[0].elsewhere["en"]
    assert (found["B"].verdict, found["C"].verdict) == ("holds", "holds")
    assert found["D"].verdict == "cannot be"  # the text itself rules the other way out
    assert "the text says otherwise" in found["D"].findings[0].elsewhere["en"]
    assert found["E"].verdict == "holds if"
    assert found["E"].findings[0].solved
    assert found["E"].findings[1].added  # a number that nobody stated is no part of the verdict
    (alone,) = audit_articles(["A"], path)
    assert alone.judgements[0].verdict == "cannot be"  # also where only one claim is asked for


@given(low=st.floats(1, 10), width=st.floats(0, 10), claimed=st.floats(1, 25), relation=st.sampled_from(["at most", "at least"]))
def test_a_verdict_takes_the_whole_interval(low: float, width: float, claimed: float, relation: str) -> None:
    """Holds where every value bears the claim out, cannot be where none does, and cannot tell between."""
    one, high = check(claimed=claimed, relation=relation), low + width
    wholly, partly = supported(one, low, high), satisfied(one, low, high)
    every = all(satisfied(one, v, v) for v in (low, high))
    assert wholly == every
    assert partly or not wholly
    assert partly == any(satisfied(one, v, v) for v in (low, high))


def test_a_wider_interval_never_makes_a_claim_sure() -> None:
    one = check(claimed=10, relation="at most")
    assert supported(one, 8, 9)
    assert not supported(one, 8, 11)
    assert not supported(one, 11, 12)


def figured(low: float, middle: float, high: float) -> Figured:
    return Figured(interval=Interval(lower=low, expected=middle, upper=high))


def test_errors_add_as_squares() -> None:
    """Two factors of two each are a factor of exp(sqrt 2 ln 2) in the product, not of four; a sure factor adds nothing."""
    two, sure = figured(0.5, 1, 2), figured(3, 3, 3)
    assert combined("a * b", {"a": two, "b": two}, False).upper == pytest.approx(math.exp(math.sqrt(2) * math.log(2)))
    assert combined("a * b", {"a": two, "b": sure}, False).upper == pytest.approx(6)
    assert combined("a - b", {"a": figured(0, 1, 2), "b": figured(0, 1, 2)}, False).upper == pytest.approx(math.sqrt(2))
    assert combined("b * 2", {"b": sure}, False).lower == 6


def test_like_figures_share_most_of_their_errors() -> None:
    wide = figured(1, 2, 4)
    apart, together = (combined("a / b", {"a": wide, "b": wide}, shared) for shared in (False, True))
    assert apart.upper > together.upper > 1 > together.lower > apart.lower


def test_stale_quotes_are_marked(judged: dict[str, Judgement]) -> None:
    (renting,) = (f for f in judged["S08"].findings if "renting" in f.what["en"])
    assert "stale: older than 90 days" in renting.why["en"]


def check(**fields: Any) -> Check:
    return Check.build({"what": "x", "expression": "1", **fields}, "test")


@given(value=st.floats(1, 100), claimed=st.floats(1, 100))
def test_relations(value: float, claimed: float) -> None:
    assert satisfied(check(claimed=claimed, relation="at most"), value, value) == (value <= claimed * (1 + 1e-9))
    assert satisfied(check(claimed=claimed, relation="at least"), value, value) == (value >= claimed * (1 - 1e-9))
    assert satisfied(check(claimed=claimed, tolerance=0.1), value, value) == (0.9 * claimed <= value <= 1.1 * claimed)
    assert satisfied(check(claimed=[claimed, claimed + 5], relation="between"), value, value) == (claimed <= value <= claimed + 5)
    assert satisfied(check(claimed=claimed), 0.5, 200)  # an interval that spans everything rules nothing out


@pytest.mark.parametrize(
    ("text", "value"),
    [("2 + 3 * 4", 14), ("-2 ** 2", -4), ("max(1, x) // 2", 3), ("sqrt(x + 2)", 3), ("7 % 4", 3), ("1e9 / 1e3", 1e6)],
)
def test_arithmetic(text: str, value: float) -> None:
    assert evaluate(text, {"x": 7.0}) == value


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "x.real", "open('f')", "1 if x else 2", "'a' * 3", "x = 1", "1 / 0", "y", "9 ** 9 ** 9", "[1]", ""],
)
def test_anything_but_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(PlannerError, match="expression"):
        evaluate(text, {"x": 7.0})
    assert names_in("a + sqrt(b)") == {"a", "b"}


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["planner", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("page", ["audit.md", "audit.zh.md"])
def test_the_page_tells_how_to_write_claims_and_the_example_runs(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    example = re.search(r"```toml\n(.*?)```", (DOCS.parent / page).read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    mine = tmp_path / "my-claims.toml"
    mine.write_text(example.group(1), encoding="utf-8")
    code, out, _ = run(monkeypatch, capsys, "audit", mine, "--json")
    (claim,) = json.loads(out)["claims"]
    assert code == 0
    figure = claim["findings"][0]["figure"]
    # 6 N D on eight A100, no faster than the data sheet and no slower than a fifth of it
    ideal = 6 * 6.6e9 * 1e9 / (8 * 312e12) / 3600
    assert ideal < figure["expected"] < 5 * ideal
    assert claim["verdict"] in ("holds if", "cannot be")


def test_a_scenario_file_can_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "s.toml").write_text(
        '[model]\nname = "gpt2"\n[cluster]\nnode = "dgx-a100-80gb"\n[job]\nseq_len = 1024\nglobal_batch_size = 64\n'
        "num_steps = 10\n"
        "[layout]\nzero = 1\n"
    )
    (tmp_path / "c.toml").write_text(
        '[[claims]]\nid = "X"\nsource = "s"\ntext = "t"\n[[claims.checks]]\nwhat = "w"\nclaimed = 10\nexpression = "n"\n'
        'figures = { n = { quantity = "run", field = "num_steps", scenario = "s.toml" } }\nwhy = "{value:.0f} steps."\n'
    )
    code, out, _ = run(monkeypatch, capsys, "audit", tmp_path / "c.toml", "X", "--json")
    assert (code, json.loads(out)["claims"][0]["verdict"]) == (0, "holds")


def test_a_serving_scenario_file_can_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "s.toml").write_text(
        '[model]\nname = "gpt2"\n[cluster]\nnode = "dgx-a100-80gb"\nnum_gpus = 1\n[serving]\nprompt = 512\noutput = 16\n'
    )
    (tmp_path / "c.toml").write_text(
        '[[claims]]\nid = "X"\nsource = "s"\ntext = "t"\n[[claims.checks]]\nwhat = "w"\nclaimed = 36864\nexpression = "n"\n'
        'figures = { n = { quantity = "serve", field = "kv_bytes_per_token", scenario = "s.toml" } }\nwhy = "{value:.0f}."\n'
    )
    code, out, _ = run(monkeypatch, capsys, "audit", tmp_path / "c.toml", "X", "--json")
    (finding,) = json.loads(out)["claims"][0]["findings"]
    assert (code, finding["figure"]["expected"]) == (0, 2 * 2 * 12 * 768)  # keys and values, 12 layers of 768, 16 bits


def test_the_table_and_single_claims(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "audit", "C05", "S03")
    assert code == 0
    assert "2 claims: 1 cannot be, 1 holds if" in out
    code, out, err = run(monkeypatch, capsys, "audit", "C99")
    assert (code, out) == (2, "")
    assert "claim 'C99'" in err


def test_the_pages_are_up_to_date_with_the_verdicts(readings: tuple[Reading, ...]) -> None:
    wanted = [(j.id, j.verdict) for r in readings for j in ordered(r)]
    headings = re.findall(r"^### ([A-Z]\d\d): (.*)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == wanted
    chinese = re.findall(r"^### ([A-Z]\d\d)：? ?:? ?(.*)$", CHINESE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _ in chinese] == [name for name, _ in wanted]
    judged = [j for r in readings for j in r.judgements]
    assert summary(judged) in DOCS.read_text(encoding="utf-8")
    assert summary(judged, "zh") in CHINESE.read_text(encoding="utf-8")


BASE = '[[claims]]\nid = "X"\nsource = "s"\ntext = "t"\n[[claims.checks]]\nwhat = "w"\n'
SERVE = (
    BASE + 'claimed = 1\nexpression = "a"\n[claims.checks.figures.a]\nquantity = "serve"\nfield = "{field}"\n'
    'model = {{ name = "{model}" }}\ncluster = {{ node = "dgx-a100-80gb", num_gpus = 1 }}\n'
    "serving = {{ prompt = 512, output = 16 }}\n"
)
BAD = {
    "no claims": ("[scenarios]\n", "has no [[claims]]"),
    "no check": ('[[claims]]\nid = "X"\nsource = "s"\ntext = "t"\n', "checks"),
    "no expression": (BASE + "claimed = 1\n", "expression and claimed are needed"),
    "two ways": (BASE + 'claimed = 1\nexpression = "1"\nout_of_scope = "y"\n', "give one of expression"),
    "a pair without between": (BASE + 'claimed = [1, 2]\nexpression = "1"\n', "relation = 'between' needs"),
    "unknown name": (BASE + 'claimed = 1\nexpression = "z"\n', "unknown name 'z'"),
    "unknown quantity": (BASE + 'claimed = 1\nexpression = "a"\nfigures = { a = { quantity = "wealth" } }\n', "quantity"),
    "unknown scenario": (
        BASE + 'claimed = 1\nexpression = "a"\nfigures = { a = { quantity = "plan", field = "mfu", scenario = "z" } }\n',
        "not in [scenarios]",
    ),
    "unknown field": (
        BASE + 'claimed = 1\nexpression = "a"\nfigures = { a = { quantity = "model_field", field = "layers", model = '
        '{ name = "gpt2" } } }\n', "not a number of a model",
    ),
    "no table": (
        BASE + 'claimed = 1\nexpression = "a"\nfigures = { a = { quantity = "serve", field = "e2e_s", model = '
        '{ name = "gpt2" } } }\n', "cluster is missing",
    ),
    "does not fit": (SERVE.format(model="llama-2-70b", field="e2e_s"), "does not fit"),
    "unknown serving field": (SERVE.format(model="gpt2", field="speed"), "not a number of a deployment"),
    "bad sentence": (BASE + 'claimed = 1\nexpression = "1"\nwhy = "{nonsense}"\n', "cannot be filled in"),
    "given without source": (
        BASE + 'claimed = 1\nexpression = "a"\nfigures = { a = { quantity = "given", value = 1 } }\n', "source is missing",
    ),
    "twice": (2 * (BASE + 'out_of_scope = "y"\n'), "claim X occurs twice"),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(BAD))
def test_bad_claims_are_explained(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text, named = BAD[what]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    code, out, err = run(monkeypatch, capsys, "audit", path)
    assert (code, out) == (2, ""), err
    assert named in err
    assert "Traceback" not in err


def test_the_catalog_names_every_figure_it_uses() -> None:
    for claim in (c for f in catalog_claims() for c in f.claims):
        for c in claim.checks:
            used = names_in(c.expression) if c.expression else set()
            for variant in c.variants:
                used |= names_in(variant.expression or "0")
            for text in (*c.also.values(),):
                used |= names_in(text)
            sentence = set(re.findall(r"{(\w+)", c.why + (c.not_computed or "")))
            assert set(c.figures) <= used | sentence, (claim.id, c.what)


def test_no_english_sentence_is_left_on_the_chinese_page() -> None:
    """Three small words in a row, beside commands, fields and the words of others in quotation marks."""
    text = re.sub(r"```.*?```", "", CHINESE.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|“[^”]*”", "", text)
    assert not re.findall(r"\b[a-z]{2,}(?: [a-z]{2,}){2,}", text)
    example = re.search(r"```toml\n(.*?)```", CHINESE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    assert not re.findall(r"# [a-z ]+ [a-z ]+ [a-z]+;", example.group(1))
