"""The page without a browser: what a visitor chooses stays true, and nothing on it contradicts the rest."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import time
import tomllib
import zipfile
from collections import OrderedDict
from io import BytesIO

import pytest
from each import for_each
from places import DATA, PATIENCE_S, ROOT

st = pytest.importorskip("streamlit", reason="the extra `app` is not installed: pip install llm-capacity-planner[app]")

from streamlit.testing.v1 import AppTest  # noqa: E402

import planner  # noqa: E402
from planner.common.errors import PlannerError  # noqa: E402
from planner.common.units import DAY_S  # noqa: E402
from planner.hardware.cluster import accelerator_names  # noqa: E402
from planner.layout_search.question import as_question  # noqa: E402
from planner.performance.memory import KINDS  # noqa: E402
from planner.performance.step_time import PARTS  # noqa: E402
from planner.prices.price import Price  # noqa: E402
from planner.reports.text import count  # noqa: E402
from planner.scenarios.quick_serving import quick_serving  # noqa: E402
from planner.scenarios.scenario import Case, read_scenario  # noqa: E402
from planner.studies.affordable import Means, affordable  # noqa: E402
from planner.studies.ways import SATURATED, Wish, moved, serving_way, way  # noqa: E402
from planner.training.plan import Plan  # noqa: E402
from planner.training.row_points import row_points  # noqa: E402
from planner.web import background, charts, commands, errands, guard, inputs, main, presets, question, show, state, worker  # noqa: E402
from planner.web.answers import Answer, answer, load_archive, whole_run  # noqa: E402
from planner.web.pages import ask, compare, explore, roofline, run, search, serving  # noqa: E402
from planner.web.pages.serving import deployment, filled  # noqa: E402
from planner.workload.resolve import as_cluster  # noqa: E402

SMALL = {
    "model": {"name": "gpt2"}, "cluster": {"accelerator": "rtx-4090-24gb", "num_gpus": 2},
    "job": {"seq_len": 1024, "global_batch_size": 8, "num_tokens": 10**9}, "price": {"term": "on-demand"},
}  # fmt: skip


def scenario(**changes):
    tables = json.loads(json.dumps({**SMALL, **changes}))
    return {"title": "", "cases": [{"label": "a", "tables": tables}]}


def opened(monkeypatch, page, given):
    """The page on one scenario; the names of other pages lead nowhere."""
    monkeypatch.setattr(main, "FIRST", page)
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S)
    test.query_params["s"] = state.encode(state.checked(given))
    test.run()
    assert not test.exception
    return test


def html(test):
    return "".join(block.proto.body for block in test.get("html"))


def box(test, label):
    return next(s for s in test.selectbox if s.label == label)


def case_of(test, i=0):
    return test.session_state["scenario"]["cases"][i]


# ---- any GPU, any number


@for_each("card", [name for name in accelerator_names() if name != "cpu"])
def test_every_accelerator_can_be_had_in_any_number(card):
    assert card in inputs.cards()
    for gpus in (1, 2, 3, 5, 6, 12, 17, 24, 64):
        found = as_cluster({"accelerator": card, "num_gpus": gpus})
        assert found.accelerator.name == card
        assert found.num_gpus == gpus


def test_a_card_and_a_number_are_chosen_and_the_node_is_a_detail(monkeypatch):
    test = opened(monkeypatch, "compare", scenario())
    box(test, "GPU").select("rtx-a6000").run()
    next(n for n in test.number_input if n.label == "GPUs").set_value(3).run()
    assert case_of(test)["tables"]["cluster"] == {"accelerator": "rtx-a6000", "num_gpus": 3}
    assert not test.error
    tables = {**SMALL, "cluster": {"accelerator": "rtx-a6000", "num_gpus": 3}}
    answer = planner.plan(**tables, explain=False) if SMALL["job"]["global_batch_size"] % 3 == 0 else None
    assert answer is None or show.gib(answer.peak_total_bytes) in html(test)


# ---- what the planner set follows, what the user set stays


def test_another_model_takes_its_name_and_a_layout_of_its_own(monkeypatch):
    given = scenario(layout={"micro_batch_size": 2})
    given["title"], given["cases"][0]["label"] = "gpt2 on two cards", "the small one"
    test = opened(monkeypatch, "compare", given)
    box(test, "Model").select("bert-base").run()
    assert case_of(test)["label"] == "bert-base"
    assert "layout" not in case_of(test)["tables"]
    assert "gpt2" not in state.title_of(test.session_state["scenario"])


def test_a_name_and_a_layout_that_the_user_set_stay(monkeypatch):
    given = scenario(layout={"micro_batch_size": 2})
    given["cases"][0] |= {"own": ["label", "layout"], "label": "mine"}
    test = opened(monkeypatch, "compare", given)
    box(test, "GPU").select("rtx-3090-24gb").run()
    assert case_of(test)["label"] == "mine"
    assert case_of(test)["tables"]["layout"] == {"micro_batch_size": 2}


def test_a_touched_layout_says_what_automatic_would_gain_and_leads_back(monkeypatch):
    test = opened(monkeypatch, "compare", scenario())
    test.session_state["tabs.en"] = "Layout"
    test.run()
    assert any("Automatic:" in words.value for words in test.sidebar.caption)
    micro = next(s for s in test.sidebar.select_slider if s.label.startswith("Micro-batch"))
    micro.set_value(1 if micro.value != 1 else 2).run()
    assert state.owns(case_of(test), "layout")
    assert any("Edited by you" in words.value for words in test.sidebar.caption)
    next(b for b in test.sidebar.button if b.label == "Back to automatic").click().run()
    assert "layout" not in case_of(test)["tables"]


def test_a_first_visitor_sees_what_the_command_line_answers() -> None:
    """The page opens the shipped file, not a copy: same tables, same layouts, same figures."""
    shipped = read_scenario("chatlaw2-moe").cases
    shown = state.default_scenario()["cases"]
    assert [case["tables"] for case in shown] == [case.tables for case in shipped]
    for case, one in zip(shipped, shown, strict=True):
        found, plan = answer(one["label"], one["tables"]).known, case.plan()
        assert (found.layout, found.step_time_s, found.cost_usd) == (plan.layout, plan.step_time_s, plan.cost_usd)


def test_a_pasted_dense_model_gets_a_layout_that_it_can_have():
    fields = inputs.model_fields('{"model_type": "llama"}', "mine")
    given = state.default_scenario()
    given["cases"][0]["tables"]["layout"] = {"tp": 2, "sequence_parallel": True, "ep": 4, "zero": 1, "micro_batch_size": 2}
    given["cases"][0]["tables"]["model"] = fields
    st.session_state["scenario"], st.session_state["revision"] = given, 0
    inputs.changed(0)
    tables = given["cases"][0]["tables"]
    assert planner.plan(**{k: v for k, v in tables.items() if k != "layout"}, explain=False).fits
    assert "layout" not in tables
    assert given["cases"][0]["label"] == "mine"


# ---- nothing that cannot be, nothing that contradicts


def answered(**changes):
    tables = {**json.loads(json.dumps(SMALL)), **changes}
    return Answer(label="a", tables=tables, plan=planner.plan(**tables, explain=False))


def test_no_bound_is_beyond_what_the_chip_can_do():
    for one in state.default_scenario()["cases"]:
        plan = planner.plan(**one["tables"], explain=False)
        for name in ("mfu", "hfu"):
            assert plan.intervals[name].upper <= 1.0
        rate = plan.intervals["tokens_per_s"].upper * plan.model_flops_per_step / plan.tokens_per_step
        assert rate <= plan.model_flops_per_step / plan.step_time_s / plan.mfu * (1.0 + 1e-9)


def test_what_does_not_fit_has_no_bill_and_no_bold_time():
    one = answered(model={"name": "llama-2-13b"}, layout={"micro_batch_size": 4})
    assert not one.known.fits
    words = show.card(one)
    assert "data-figure='run'" not in words
    assert "data-figure='cost'" not in words
    assert "$" not in words
    assert "class=moot" in words
    assert "$" not in compare.table([one])


@pytest.mark.parametrize(("date", "says"), [("2020-01-01", "older than 90 days"), ("2026", "may be older"), ("", "")])
def test_a_price_is_fresh_only_where_that_is_known(date, says):
    found = show.staleness(Price(usd_per_gpu_hour=1.0, term="on-demand", provider="x", date=date))
    assert says in found
    assert bool(says) == bool(found)


def test_a_search_answers_its_own_question_only():
    wanted = search.Wanted(objective="time", gpus=(8,), cards=(), stacks=(), deadline_days=0.0, budget_usd=0.0)
    tables = json.loads(json.dumps(SMALL))
    key = search.key_for(tables, wanted)
    assert key == search.key_for({**tables, "layout": {"tp": 2}}, wanted)
    assert key != search.key_for({**tables, "job": {**tables["job"], "seq_len": 512}}, wanted)
    assert key != search.key_for(tables, search.Wanted(**{**vars(wanted), "gpus": (4,)}))


def test_a_list_that_has_not_begun_knows_how_long_it_is(monkeypatch):
    monkeypatch.setattr(background, "_next", lambda: None)
    monkeypatch.setattr(background, "_WAITING", [])
    monkeypatch.setattr(background, "_TASKS", OrderedDict())
    scenario = state.default_scenario()
    assert question.ways(scenario, scenario["cases"][0]["tables"], ("a", "b", "c")).size == 3


def test_two_have_a_ratio_where_both_have_the_figure():
    """What does not fit has neither run nor bill: nor is it so many times another."""
    tables = {
        "model": {"name": "llama-2-13b"},
        "cluster": {"accelerator": "a100-sxm4-80gb", "num_gpus": 8},
        "job": {"seq_len": 4096, "global_batch_size": 64, "num_tokens": 10**9},
    }
    fits, does_not = (answer(str(pp), {**tables, "layout": {"pp": pp, "micro_batch_size": 1, "tp": 1}}) for pp in (8, 1))
    assert (fits.known.fits, does_not.known.fits) == (True, False)
    rows = re.findall(r"<tr><th.*?</tr>", compare.table([fits, does_not]))
    ratios = {re.search(r"data-figure='(\w+)'", row)[1]: "×" in row for row in rows}
    assert [name for name, told in ratios.items() if told] == ["gib", "step"]
    rows = re.findall(r"<tr><th.*?</tr>", compare.table([fits, fits]))
    assert sum("×" in row for row in rows) == 4


def test_figures_of_a_row_have_one_unit():
    """A run of 30 hours beside one of six days: both in days."""
    cases = [answer(str(tokens), {**SMALL, "job": {**SMALL["job"], "num_tokens": tokens}}) for tokens in (10**9, 10**11)]
    rows = dict(re.findall(r"data-figure='(step|run)'>[^<]*? (\w+)<.*?data-figure='\1'>[^<]*? \2<", compare.table(cases)))
    assert rows.keys() == {"step", "run"}
    assert len({show.duration(one.known.run_s).split()[1] for one in cases}) == 2  # alone they have two
    whole = [whole_run(one.tables, one.known) for one in cases]
    shown = run.table(["a", "b"], [one.whole for one in whole], [one.bill for one in whole])
    for key in ("budget-days", "wall"):
        assert len(set(re.findall(rf"data-figure='{key}'>[^<]*? (\w+)<", shown))) == 1
    for drawn in (run.causes_figure(["a", "b"], [one.whole for one in whole]), compare.step_figure(cases)):
        assert len({row["total"].split()[1] for row in drawn.rows}) == 1, drawn.name


def test_one_colour_has_one_meaning():
    colours = [*charts.CASES, *charts.KINDS, charts.CACHE, *charts.PARTS, charts.FITS, charts.TIGHT, charts.OVER]
    assert len(set(colours)) == len(colours)
    assert len(charts.KINDS) >= len(KINDS)
    assert len(charts.PARTS) >= len(PARTS)


def test_what_training_and_serving_both_have_is_of_one_colour():
    """Weights and what CUDA takes, in bars of memory; forward and backward, in bars of a step and as points under the roof."""
    found = planner.serve(model="gpt2", cluster={"accelerator": "l4", "num_gpus": 1}, serving={"prompt": 64, "output": 16})
    drawn = {row["part"]: row for row in serving.memory_figure(found, "a").rows}
    assert len(set(serving.colours())) == len(serving.colours()) >= len(drawn)
    paint = dict(zip(KINDS, charts.KINDS, strict=False))
    assert serving.colours() == [paint["parameters"], charts.CACHE, paint["workspace"], paint["overhead"]]
    roof, points = row_points(answer("a", SMALL).known)
    scale = roofline.figure(roof, points).spec["layer"][1]["encoding"]["color"]["scale"]
    parts = dict(zip((show.t(f"part.{part}") for part in PARTS), charts.PARTS, strict=True))
    assert dict(zip(scale["domain"], scale["range"], strict=True)) == {name: parts[name] for name in scale["domain"]}
    assert {"forward", "backward"} <= set(scale["domain"])


@pytest.mark.parametrize(
    "colour", [*charts.KINDS, charts.CACHE, *charts.PARTS, charts.FITS, charts.TIGHT, charts.OVER, charts.IMPOSSIBLE]
)
def test_text_on_every_colour_can_be_read(colour):
    assert charts.contrast(charts.ink_on(colour), colour) >= 4.5


@pytest.mark.parametrize("colour", [*charts.CASES, *charts.GROUPS])
def test_lines_and_points_stand_out_from_both_pages(colour):
    """WCAG 2.2, 1.4.11: what is not text at least 3:1 against what is beside it."""
    theme = tomllib.loads((ROOT / "planner" / "web" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    assert all(charts.contrast(colour, theme[look]["backgroundColor"]) >= 3.0 for look in ("light", "dark"))


# ---- what must not come from the web


def test_a_dotted_name_is_refused_before_the_parser_sees_it(monkeypatch):
    def parsed(_):
        raise AssertionError("the parser was called")

    monkeypatch.setattr(tomllib, "loads", parsed)
    quoted = ('."b c"', ".'#'", '."="', " . '{'", r'."\" , "')  # a part in quotes holds what parts names elsewhere
    texts = ["a" + part * (180_000 // len(part)) + " = 1" for part in quoted]
    texts += [f'x = {{a = """\n{end}, {"b." * 50_000}b = "x"}}' for end in ('"""', '""""', '"""""')]
    texts += ["a" + ".a" * 50_000 + " = 1", "[" + "a . " * 50_000 + "a]", "x = {" + "a.\t" * 40 + "a = 1}", " " * 200_001]
    for text in texts:
        with pytest.raises(PlannerError, match=r"dots|characters"):
            guard.toml_tables(text, "x.toml")


def test_dots_in_texts_and_comments_are_no_names():
    dots = "." * 100 + " a.b" * 100
    text = f'# {dots}\na.b = "{dots}" # {dots}\nc = \'{dots}\'\nd = """\n{dots}"""\ne = [{"0.5, " * 1000}]'
    assert guard.toml_tables(text, "x.toml") == {"a": {"b": dots}, "c": dots, "d": dots, "e": [0.5] * 1000}


@pytest.mark.parametrize("digits", [30, 400, 5000])
def test_numbers_of_hundreds_of_digits_are_refused_in_words(digits):
    with pytest.raises(PlannerError):
        guard.toml_tables(f"[job]\nseq_len = {'9' * digits}", "x.toml")
    with pytest.raises(PlannerError):
        inputs.model_fields(f'{{"model_type": "gpt2", "n_layer": {"9" * digits}}}', "x")


def test_whatever_goes_wrong_is_said_in_words(monkeypatch):
    def broken(_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(main, "prepare", broken)
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE_S).run()
    assert not test.exception
    assert "not with your question" in test.error[0].value
    assert "secret" not in test.error[0].value


# ---- in the background


def test_a_question_is_found_again_and_the_third_waits_its_turn():
    import threading

    go = threading.Event()
    for asked in list(background._TASKS.values()):  # of pages that other tests opened
        asked.cancelled = True
    while background._RUNNING:
        go.wait(0.1)

    def work(task):
        go.wait(PATIENCE_S)
        task.result = task.key

    first, second, third = (background.ask(f"test {i}", work) for i in range(3))
    try:
        assert background.ask("test 0", work) is first
        assert background.known("test 1") is second
        assert background.place(third) == 1
        assert background.place(first) == 0
    finally:
        go.set()
    end = time.monotonic() + PATIENCE_S
    while not third.finished and time.monotonic() < end:
        threading.Event().wait(0.05)
    assert third.result == "test 2"
    third.seen -= 1e6  # nobody has looked for days: an answer stays an answer
    assert background.ask("test 2", work) is third
    third.cancelled = True  # but what was given up is begun anew
    assert background.ask("test 2", work) is not third


def test_what_nobody_waits_for_gives_its_place_away(monkeypatch):
    monkeypatch.setattr(background, "UNSEEN_S", -1.0)
    task = background.Task(key="x", work=lambda _: None)
    assert not task.wanted
    assert background.Task(key="x", work=lambda _: None, patient=True).wanted


# ---- calibrated profiles travel


def test_a_calibrated_profile_travels_in_the_saved_file(tmp_path):
    from planner.web import answers
    from planner.web.pages.calibrate import fitted

    content = (DATA / "cpu-record.json").read_bytes()
    found, name = fitted(content, "cpu-record.json")
    st.session_state["calibrated"] = {}
    answers.keep_profile(name, found.calibration)
    given = scenario(cluster={"node": name, "num_gpus": 1}, framework={"name": name})
    given["cases"][0]["tables"].pop("price")
    before = answers.answer("a", given["cases"][0]["tables"]).known
    archive = answers.profile_archive(given)
    with zipfile.ZipFile(BytesIO(archive)) as files:
        files.extractall(tmp_path)
    alone = planner.read_scenario(tmp_path / "scenario.toml").cases[0].plan()
    assert alone.step_time_s == pytest.approx(before.step_time_s, rel=1e-9)
    st.session_state["calibrated"] = {}
    answers._KEPT.clear()
    again = load_archive(archive, "saved.zip")
    assert answers.answer("a", again["cases"][0]["tables"]).known.step_time_s == pytest.approx(before.step_time_s, rel=1e-9)


# ---- every GPU below the verdict


def test_a_way_is_the_plan_of_its_own_tables():
    for card in ("rtx-4090-24gb", "v100-sxm2-32gb"):
        found = way(SMALL, card, Wish())
        assert found.enough
        answer = planner.plan(**found.tables, explain=False)
        assert answer.cost_usd == found.usd
        assert answer.layout == found.plan.layout
        (row,) = ask.list_of([found]).to_dict(orient="records")
        assert row["US dollars"] == found.usd
        assert row["Hours"] == pytest.approx(answer.run_s / 3600.0, rel=0.005)
        assert row["Free, GiB"] == pytest.approx(answer.headroom_bytes / 2**30)
        assert row["Likely to fit"] == pytest.approx(100.0 * answer.fit_probability, abs=0.1)
    assert moved(SMALL, "v100-sxm2-32gb", 3)["job"] == {**SMALL["job"], "precision": "fp16", "global_batch_size": 9}


def test_more_gpus_are_taken_as_long_as_the_run_gets_cheaper():
    """One A100 has to offload this model; eight do not, and the run on them costs a fraction."""
    tables = read_scenario("chatlaw2-moe").cases[0].tables
    tables = {name: table for name, table in tables.items() if name in ("model", "job")}
    found = way(tables, "a100-sxm4-80gb", Wish())
    alone = {n: way(tables, "a100-sxm4-80gb", Wish(num_gpus=n)) for n in (1, found.num_gpus, 2 * found.num_gpus)}
    assert found.usd == alone[found.num_gpus].usd
    assert alone[1].enough
    assert found.usd < 0.9 * alone[1].usd
    assert alone[2 * found.num_gpus].usd > 0.97 * found.usd


def test_fewest_gpus_keep_to_the_deadline_and_one_fewer_would_not():
    tables = {**SMALL, "job": {**SMALL["job"], "global_batch_size": 64, "num_tokens": 2 * 10**10}}
    free = way(tables, "rtx-4090-24gb", Wish(num_gpus=1))
    wish = Wish(deadline_s=free.plan.run_s / 3.0)
    found = way(tables, "rtx-4090-24gb", wish)
    assert found.enough
    assert found.plan.run_s <= wish.deadline_s
    assert not way(tables, "rtx-4090-24gb", Wish(num_gpus=found.num_gpus // 2, deadline_s=wish.deadline_s)).enough


def test_what_is_skipped_without_a_plan_could_not_have_been_in_time():
    tables = {**SMALL, "job": {**SMALL["job"], "num_tokens": 10**11}}
    found = way(tables, "rtx-4090-24gb", Wish(num_gpus=1, deadline_s=60.0))
    assert found.plan is None
    assert way(tables, "rtx-4090-24gb", Wish(num_gpus=1)).plan.run_s > 60.0


@pytest.mark.parametrize(("card", "rate"), [("h100-sxm5-80gb", 5.0), ("h200-sxm-141gb", 12.0)])
def test_no_fewer_gpus_carry_the_rate_than_a_way_takes(card, rate):
    """As ``planner serve`` cuts them: a narrow cut of many replicas may hold the model and have no room for its cache."""
    tables = {"model": {"name": "llama-3-70b"}, "serving": {"prompt": 1024, "output": 256, "requests_per_s": rate}}
    found = serving_way(tables, card, Wish())
    assert found.enough
    for num_gpus in (2**i for i in range(found.num_gpus.bit_length())):
        best = planner.serve(**tables, cluster={"accelerator": card, "num_gpus": num_gpus})
        carries = best.fits and best.fit_probability >= 0.95 and best.load.stable and best.load.utilisation <= SATURATED
        assert carries == (num_gpus >= found.num_gpus), num_gpus


def test_a_serving_way_carries_the_rate():
    serving = {"prompt": 256, "output": 64, "requests_per_s": 2.0, "num_requests": 2000}
    found = serving_way({"model": {"name": "gpt2"}, "serving": serving}, "rtx-4090-24gb", Wish())
    assert found.enough
    assert found.deployment.load.utilisation <= 0.95
    assert found.need_bytes <= found.room_bytes


@pytest.mark.parametrize("rate", [2.0, 1e6])
def test_a_way_that_cannot_be_served_has_its_reason(rate):
    """An engine without continuous batching has no answer at a rate: a reason, whichever call finds it."""
    serving = {"engine": "huggingface", "prompt": 64, "output": 16, "requests_per_s": rate}
    found = serving_way({"model": {"name": "gpt2"}, "serving": serving}, "l4", Wish())
    assert not found.enough
    assert "no continuous batching" in found.why


def asks_for_serving(model, serving):
    return {**scenario(model={"name": model}, serving=serving), "ask": {"serve": True}}


def numbers(test):
    return {n.label: n.value for n in test.number_input}


@pytest.mark.parametrize("path", [["bge-m3"], ["bert-base"], ["bert-base", "gpt2-xl"], ["llama-3-70b", "bge-m3", "llama-3-8b"]])
def test_another_model_is_asked_what_is_usual_of_it(path, monkeypatch):
    """From text to vectors and back: no output of vectors, no prompt beyond the positions, no error."""
    test = opened(monkeypatch, "ask", asks_for_serving("llama-3.1-8b", {"prompt": 1024, "output": 256, "weights": "bf16"}))
    for model in path:
        box(test, "the model").select(model).run()
        assert not test.exception
        given = case_of(test)["tables"]["serving"]
        usual = question.usual_serving({"model": {"name": model}})
        assert {name: given.get(name) for name in ("prompt", "output")} == {n: usual.get(n) for n in ("prompt", "output")}
        assert any(label.startswith("Output") for label in numbers(test)) == ("output" in usual)
        assert "Cannot be" not in html(test)


def test_vectors_asked_by_a_link_have_no_output_and_clients_no_rate(monkeypatch):
    given = {"prompt": 256, "output": 256, "weights": "bf16", "requests_per_s": 2}
    test = opened(monkeypatch, "ask", asks_for_serving("bge-m3", given))
    assert "Cannot be" not in html(test)
    assert not any(label.startswith("Output") for label in numbers(test))
    assert not any("distribution" in c.value for c in test.caption)
    test = opened(monkeypatch, "ask", asks_for_serving("gpt2", {"prompt": 256, "output": 64, "clients": 4}))
    assert not any("distribution" in c.value for c in test.caption)
    assert any("4" in c.value and "Clients" in c.value for c in test.caption)


OPERATORS = [
    ("gpt-oss-20b", "a100-sxm4-80gb", 4, {"clients": 16}), ("llama-3.2-1b", "v100-sxm2-32gb", 2, {"clients": 8}),
    ("qwen3-30b-a3b", "l40s", 4, {"clients": 16}), ("gpt2", "rtx-4090-24gb", 3, {"requests_per_s": 2.0}),
]  # fmt: skip
"""Weights as stored, a GPU without bf16, a mixture, a number of GPUs that no head count divides."""


@pytest.mark.parametrize(("model", "card", "gpus", "load"), OPERATORS)
def test_a_deployment_on_the_page_is_that_of_planner_serve(model, card, gpus, load):
    """The cut, the weights and the engine that the command line takes where nothing is given, not others of the page's own."""
    tables = {"job": SMALL["job"], "model": {"name": model}, "cluster": {"accelerator": card, "num_gpus": gpus}}
    asked, _ = quick_serving(model, f"{gpus}x{card}", load)
    line = asked.cases[0].tables
    one = deployment({**tables, "serving": question.usual_serving({**tables, "serving": load})})
    other = planner.serve(
        **{name: line[name] for name in ("model", "cluster")}, serving={**line["serving"], **line.get("load", {})}
    )
    assert (one.serving.tp, one.serving.pp, one.serving.dp, one.serving.ep, one.serving.weights, one.engine.name) == (
        other.serving.tp,
        other.serving.pp,
        other.serving.dp,
        other.serving.ep,
        other.serving.weights,
        other.engine.name,
    )
    assert (one.total_bytes, one.load, one.expense) == (other.total_bytes, other.load, other.expense)


def test_limits_of_latency_count_the_requests_that_planner_serve_counts(monkeypatch):
    """planner serve llama-2-7b --on 8xa100-sxm4-80gb --rate 8 --prompt 1024 --output 256 --ttft 60ms --tpot 20ms"""
    load = {"requests_per_s": 8.0, "prompt": 1024, "output": 256}
    cluster = {"accelerator": "a100-sxm4-80gb", "num_gpus": 8}
    test = opened(monkeypatch, "serving", scenario(model={"name": "llama-2-7b"}, cluster=cluster, serving=load))
    assert "data-figure='within'" not in html(test)
    for name, value in (("ttft_target_s", 0.06), ("tpot_target_s", 0.02)):
        next(n for n in test.number_input if n.key.endswith(f"serving.{name}")).set_value(value).run()
    assert not test.exception
    limits = {"ttft_target_s": 0.06, "tpot_target_s": 0.02}
    asked, _ = quick_serving("llama-2-7b", "8xa100-sxm4-80gb", {**load, **limits})
    line = asked.cases[0].tables
    other = planner.serve(**{n: line[n] for n in ("model", "cluster")}, serving={**line["serving"], **line.get("load", {})})
    assert 0.0 < other.load.within_targets < 1.0
    assert f"data-figure='within'>{other.load.within_targets:.1%}" in html(test)
    next(g for g in test.button_group if "serving.mode" in g.key).set_value("batch").run()
    assert not test.exception
    assert not set(case_of(test)["tables"]["serving"]) & set(limits)


# ---- fields of numbers


def fields(test):
    return {one.key.rpartition(".")[2]: one.value for one in test.number_input if one.key}


@pytest.mark.parametrize("limits", [(2, 1, 30), (0.0005, 1e-9, 1e9)])
def test_any_limit_of_latency_that_a_scenario_may_hold_stands_in_its_field(monkeypatch, limits):
    names = ("ttft_target_s", "tpot_target_s", "e2e_target_s")
    asked = {"requests_per_s": 0.001, "prompt": 1024, "output": 256, **dict(zip(names, limits, strict=True))}
    shown = fields(opened(monkeypatch, "serving", scenario(serving=asked)))
    assert [shown[name] for name in names] == [*map(float, limits)]


NUMBERS = [
    ("run", {"run": {"preemption_mtbf_s": 7200}, "cost": {"electricity_usd_per_kwh": 1}}, {"preemption_mtbf_s": 7200.0}),
    ("run", {"run": {"preemption_mtbf_s": 0.5}, "cost": {"electricity_usd_per_kwh": 50.0}}, {"electricity_usd_per_kwh": 50.0}),
    ("compare", {"cluster": {**SMALL["cluster"], "num_gpus": 100_000}}, {"gpus": 100_000}),
    ("ask", {"job": {"seq_len": 1024, "global_batch_size": 8, "num_steps": 10**17}}, {"tokens": 1024 * 8 * 1e11}),
    ("ask", {"serving": {"requests_per_s": 0.001, "prompt": 2**20, "output": 1}}, {"requests_per_s": 0.001, "prompt": 2**20}),
    ("ask", {"serving": {"requests_per_s": 10**6, "prompt": 1, "output": 2**17}}, {"requests_per_s": 1e6, "output": 2**17}),
]  # fmt: skip
"""(page, tables, what stands in its fields): whole numbers where fractions are usual, and what is beyond what the page offers."""


@pytest.mark.parametrize(("page", "tables", "values"), NUMBERS)
def test_any_number_that_a_scenario_may_hold_stands_in_its_field(monkeypatch, page, tables, values):
    given = {**scenario(**tables), **({"ask": {"serve": True}} if "serving" in tables else {})}
    shown = fields(opened(monkeypatch, page, given))
    assert {name: shown[name] for name in values} == values


@pytest.mark.parametrize(("page", "names"), [("ask", ("limit.days", "limit.usd")), ("search", ("deadline", "budget"))])
def test_any_limit_of_time_and_money_stands_in_its_field(monkeypatch, page, names):
    for days, usd in ((1, 1), (1e-9, 1e17)):
        test = opened(monkeypatch, page, {**scenario(), "ask": {"days": days, "usd": usd}})
        shown = [next(one.value for one in test.number_input if f"{page}.{name}" in one.key) for name in names]
        assert shown == [float(days), float(usd)]


def drawn():
    """A field of each value, whole and not, within its limits and beyond them."""
    from planner.web.controls import number_field

    for i, value in enumerate((None, 0, 1, 30, 2**53, 10**18, 0.0, 5e-324, 0.0005, 1.5, 1e300)):
        for whole in (False, True):
            for most in (None, 10, 10**15):
                number_field("x", value, least=1, most=most, step=1, whole=whole, key=f"{i}.{whole}.{most}")


def test_a_field_takes_any_number():
    test = AppTest.from_function(drawn, default_timeout=PATIENCE_S).run()
    assert not test.exception
    assert len(test.number_input) == 66


def test_every_field_of_a_number_takes_any_number():
    """No page draws one by itself: Streamlit refuses a value beyond its limits, and one of another kind than they are."""
    pages = sorted((ROOT / "planner/web").rglob("*.py"))
    assert [path.name for path in pages if ".number_input(" in path.read_text(encoding="utf-8")] == ["controls.py"]


@pytest.mark.parametrize("moved", ["tp", "pp", "dp", "ep"])
@pytest.mark.parametrize("gpus", [1, 2, 3, 6, 8, 16, 24])
def test_a_slider_of_the_cut_stays_and_the_others_fill_the_gpus(gpus, moved):
    tables = {**SMALL, "model": {"name": "mixtral-8x7b"}, "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": gpus}}
    for value in (d for d in range(1, gpus + 1) if gpus % d == 0):
        for tp in (d for d in (1, 2, 4) if gpus % d == 0):
            cut = filled(tables, {"tp": tp, "pp": 1, "ep": 1, "dp": gpus // tp} | {moved: value}, moved)
            assert cut[moved] == value
            assert inputs.replica_gpus(cut) * cut["dp"] == gpus


@pytest.mark.parametrize(("moved", "value"), [("tp", 1), ("tp", 2), ("tp", 4), ("dp", 1), ("dp", 2), ("pp", 2), ("ep", 2)])
def test_a_cut_leaves_the_pool_of_prompts_its_gpus(moved, value):
    pool = {"replicas": 2, "tp": 2}
    serving = {"tp": 1, "dp": 4, "prefill_pool": pool, "requests_per_s": 1.0, "prompt": 64, "output": 64}
    tables = {"model": {"name": "mixtral-8x7b"}, "cluster": {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}, "serving": serving}
    cut = filled(tables, {"tp": 1, "pp": 1, "ep": 1, "dp": 4} | {moved: value}, moved)
    assert cut[moved] == value
    assert planner.serve(**{**tables, "serving": {**serving, **cut}}).num_gpus == 8


def test_other_gpus_are_cut_anew_and_a_cut_that_fills_them_stays():
    tables = {**SMALL, "serving": {"prompt": 8, "output": 8, "tp": 2, "dp": 1}}
    inputs.settle_cut(tables)
    assert tables["serving"]["tp"] == 2
    tables["cluster"] = {**SMALL["cluster"], "num_gpus": 3}
    inputs.settle_cut(tables)
    assert set(tables["serving"]) == {"prompt", "output"}


def test_a_saturated_maker_of_vectors_has_no_first_token():
    """What has no percentiles is the whole request: no token comes of an encoder."""
    from planner.web.pages.serving import card as card_of
    from planner.web.pages.serving import deployment, saturated

    tables = {**SMALL, "model": {"name": "bge-m3"}, "cluster": {"accelerator": "l4", "num_gpus": 1}}
    most = deployment({**tables, "serving": {"prompt": 256, "requests_per_s": 1.0}}).load.capacity_requests_per_s
    found = deployment({**tables, "serving": {"prompt": 256, "requests_per_s": 0.99 * most}})
    assert saturated(found)
    assert "First token" not in card_of(found, "")
    assert "Whole request" in card_of(found, "")


def test_clients_get_a_curve_over_clients_and_rates_one_over_rates():
    """What was asked for is on the axis: each client's answers take longer the more of them wait."""
    from planner.web.pages.serving import figures

    for asked, axis in (({"clients": 8}, "clients"), ({"requests_per_s": 2.0, "num_requests": 2000}, "rate")):
        cards = {"accelerator": "rtx-4090-24gb", "num_gpus": 1}
        tables = {"model": {"name": "gpt2"}, "cluster": cards, "serving": {"prompt": 256, "output": 64, **asked}}
        found = planner.serve(**tables)
        (figure,) = figures(found, tables)
        assert figure.name == f"percentiles-{axis}"
        medians = [row["y"] for row in figure.table.to_dict(orient="records") if row["group"] == "p50"]
        assert medians == sorted(medians)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_ready_made_question_can_be_asked(name):
    given = presets.preset(name)
    for case in given["cases"]:
        plan = planner.plan(
            **{k: v for k, v in case["tables"].items() if k in planner.scenarios.scenario.PLAN_TABLES}, explain=False
        )
        assert isinstance(plan, Plan)
    assert question.asked_of(given, given["cases"][0]["tables"])[1]["model"]


def test_operators_lie_under_the_roof_and_their_shares_under_one():
    roof, points = row_points(answered().known)
    assert points
    assert sum(p.share for p in points) <= 1.0
    for p in points:
        assert p.rate_flops_per_s <= min(roof.peak_flops_per_s, p.intensity * roof.bytes_per_s) * 1.001


# ---- whatever the command line can do


def test_the_page_does_or_names_every_command():
    from planner.cli.main import COMMANDS

    assert set(commands.ON_PAGE) | set(commands.ELSEWHERE) == set(COMMANDS)
    assert not set(commands.ON_PAGE) & set(commands.ELSEWHERE)
    assert set(commands.ON_PAGE.values()) <= {*main.PAGES, "sidebar"}


def test_the_page_has_or_names_every_option_of_the_commands_that_it_does():
    """Command by command: an option is a control of the page, or stands in a command that the page names."""
    from planner.cli.main import Doors

    taken = {}
    for name in commands.ON_PAGE:
        command = Doors(name="planner").get_command(None, name)
        parts = {f"{name} {part}": one for part, one in getattr(command, "commands", {}).items()} or {name: command}
        taken |= {part: {opt for p in one.params for opt in p.opts if opt.startswith("--")} for part, one in parts.items()}
    named = {name: set() for name in taken}
    for one in commands.OPTIONS_ELSEWHERE.values():
        words = one.command.split()
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in taken else words[1]
        assert {word for word in words if word.startswith("--")} <= taken[name], one.command
        assert set(one.options) <= taken[name], one.command
        for other in (name, *one.also):
            assert set(one.options) & taken[other], (other, one.command)
            named[other] |= set(one.options) & taken[other]
    assert named.keys() == commands.ON_CONTROLS.keys()
    shown = {name: set(options.split()) for name, options in commands.ON_CONTROLS.items()}
    assert [(name, taken[name] - shown[name] - named[name]) for name in taken if taken[name] - shown[name] - named[name]] == []
    assert [name for name in taken if shown[name] - taken[name] or shown[name] & named[name]] == []


# ---- pictures


def test_a_picture_keeps_its_commonest_colours():
    """Flat areas of a page are no tint of what they were."""
    import numpy as np
    from PIL import Image

    spec = importlib.util.spec_from_file_location("screenshots", ROOT / "benchmarks" / "screenshots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    pixels[:30] = (255, 255, 255)
    pixels[30:40] = (243, 246, 249)
    found = np.asarray(module.few_colours(Image.fromarray(pixels)).convert("RGB"))
    assert (found[:40] == pixels[:40]).all()
    assert np.abs(found.astype(int) - pixels).mean() < 40


class Left(background.Task):
    """Cancelled once all layouts are searched."""

    wanted = property(lambda self: errands.BUDGETS not in self.found)


def test_a_long_question_is_worked_on_in_another_process_and_stops_when_nobody_wants_it():
    tables = {"model": {"name": "gpt2"}, "job": {"seq_len": 1024, "global_batch_size": 8, "num_tokens": 10**6}}
    wish, names = Wish(), ("rtx-4090-24gb", "h100-sxm5-80gb")
    task = background.Task(key="x", work=lambda _: None, patient=True)  # nobody looks while it works
    worker.work(task, errands.ways, tables, names, wish, False)
    assert [one.accelerator for one in task.found] == list(names)
    there, here = task.found[0].plan, way(tables, names[0], wish).plan
    assert (there.step_time_s, there.peak_total_bytes, there.layout) == (here.step_time_s, here.peak_total_bytes, here.layout)
    assert [note.key for note in there.notes] == [note.key for note in here.notes]  # what finds its translation came along
    assert (task.done, task.size) == (2, 2)
    unwanted = background.Task(key="y", work=lambda _: None, seen=-1e9)
    worker.work(unwanted, errands.ways, tables, names, wish, False)
    assert (len(unwanted.found), unwanted.cancelled) == (1, True)
    with pytest.raises(PlannerError, match="no-such-field"):
        worker.work(task, errands.limit, tables, "no-such-field")
    worker.work(task, errands.search, as_question(**SMALL, top=4), {})
    assert task.found[-1] == errands.BUDGETS  # said while a run of each row is simulated, when all layouts are searched
    assert (task.done, task.size) == (len(task.result) - 1, len(task.result))
    for kind in (Left, background.Task):  # cancelled among the budgets, and before anything was found
        left = kind(key="z", work=lambda _: None, cancelled=True)
        worker.work(left, errands.search, as_question(**SMALL, top=4), {})
        assert left.result["budget_usd"].isna().all()  # no run is simulated any more
        assert (left.result.attrs["complete"], left.found.count(errands.BUDGETS) <= 1) == (False, True)
    worker._IDLE[-1].kill()
    with pytest.raises(PlannerError, match="ask again"):
        worker.work(task, errands.ways, tables, names, wish, False)


def test_a_sweep_of_a_part_of_a_layout_says_so(monkeypatch):
    test = opened(monkeypatch, "explore", scenario())
    offered = box(test, "Field").options
    assert len(offered) == len(explore.USUAL)
    assert not any("." in name or "_" in name for name in offered)  # words; a field's own name can be typed
    box(test, "Field").set_value("layout.micro_batch_size").run()
    test.button(key="explore.go").click().run()
    key = next(key for key in background._TASKS if key.startswith("sweep Variation(key='layout.micro_batch_size'"))
    end = time.monotonic() + PATIENCE_S
    while not background.known(key).finished and time.monotonic() < end:
        time.sleep(0.05)
    test.run()
    assert not test.exception
    assert any("not chosen; the tab Layout gives more of it" in caption.value for caption in test.caption)
    assert "<h2 class='finding'>Seconds per step over micro-batch (sequences): a " in html(test)


def test_the_most_tokens_of_a_deadline_and_a_budget_are_those_of_the_command_line(monkeypatch):
    case = Case(label="a", tables=json.loads(json.dumps(SMALL)), where="a")
    means = Means(usd=40.0, seconds=2 * DAY_S)
    wanted = affordable(case, means)
    test = opened(monkeypatch, "explore", {**scenario(), "ask": {"days": 2.0, "usd": 40.0}})
    box(test, "Of").set_value(explore.TOKENS).run()
    assert [n.value for n in test.number_input if n.key in ("explore.days", "explore.usd")] == [2.0, 40.0]
    test.button(key="explore.find").click().run()
    key = next(key for key in background._TASKS if key.startswith(f"afford {means}"))
    end = time.monotonic() + PATIENCE_S
    while not background.known(key).finished and time.monotonic() < end:
        time.sleep(0.05)
    test.run()
    assert not test.exception
    assert test.success[0].value == f"Most tokens: {count(wanted.num_tokens)}"
    usd = show.dollars(wanted.outlook.bill.budget_usd.expected).lstrip("$")
    assert any(usd in caption.value for caption in test.caption)


def test_an_empty_list_is_said_in_the_page_s_language() -> None:
    """Streamlit's own words stand in a list where nothing is chosen and no placeholder is given; they are English."""
    without = [
        f"{path.name}:{call.lineno}"
        for path in (ROOT / "planner" / "web").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "multiselect"
        and "placeholder" not in {word.arg for word in call.keywords}
    ]
    assert not without


def test_a_spot_run_without_preemptions_is_answered_after_one_click(monkeypatch):
    job = {**SMALL["job"], "num_tokens": 10**8}
    test = opened(monkeypatch, "run", scenario(price={"term": "spot"}, job=job))
    assert "spot nodes get preempted" in "".join(block.value for block in test.error)
    next(b for b in test.button if b.key == "run.once_a_day.0").click().run()
    assert not test.exception
    assert not test.error
    assert test.session_state["scenario"]["cases"][0]["tables"]["run"]["preemption_mtbf_s"] == 86400.0
    assert "data-figure='total'" in html(test)


def test_one_configuration_costs_what_it_costs_and_one_gpu_is_one(monkeypatch):
    test = opened(monkeypatch, "compare", scenario(job={**SMALL["job"], "num_tokens": 10**8}))
    told = "".join(block.value for block in test.markdown) + html(test)
    assert "costs $" in told
    assert "costs least" not in told
