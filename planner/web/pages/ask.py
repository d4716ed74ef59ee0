"""Ask: a question in a sentence, a verdict, every GPU below it with its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from planner.common.errors import PlannerError
from planner.common.message import join_messages
from planner.common.units import DAY_S, GIB, HOUR_S
from planner.model.catalog import model_names
from planner.performance.risk import chance
from planner.prices.market import rented_accelerators
from planner.reports.answer import elsewhere_words
from planner.studies.ways import DEAR, LATE, NO_ROOM, TOO_MUCH, UNSURE, Way, Wish
from planner.training.plan import Plan
from planner.web import background, inputs, inputs_job, presets, question, show, state
from planner.web.answers import Answer, Run, answer, other_framework, whole_run
from planner.web.background import Task
from planner.web.controls import key_of, number_field, with_value
from planner.web.guard import markdown, short_text
from planner.web.messages import priced, said
from planner.web.pages.serving import deployment
from planner.web.text import about, language, t

CHOOSE = "choose"


def page() -> None:
    """The sentence, the verdict, the list."""
    show.header(t("ask.title"), t("ask.lead"))
    _presets()
    case = min(int(st.session_state.get("case", 0)), len(state.current()["cases"]) - 1)
    with st.container(border=True, key="sentence"):
        _sentence(case)
    scenario = state.current()
    tables = scenario["cases"][case]["tables"]
    _verdict(case, scenario, tables)
    _list(case)


def _presets() -> None:
    with st.container(horizontal=True, key="presets", gap="small"):
        for name in presets.PRESETS:
            if st.button(t(f"preset.{name}"), key=f"preset.{name}.{language()}", type="tertiary", icon=":material/lightbulb:"):
                st.session_state["case"] = 0
                state.replace(presets.preset(name))
                st.rerun()


# ---- the sentence


def _sentence(case: int) -> None:
    tables = state.current()["cases"][case]["tables"]
    first, second, third, fourth = st.columns([3, 4, 4, 2], gap="small")
    with first:
        _kind(case, tables)
    with second:
        _model(case, tables)
    with third:
        _card(case, tables)
    with fourth:
        _count(case, tables)
    first, second, third, fourth = st.columns([3, 4, 4, 2], gap="small", vertical_alignment="bottom")
    serving = state.current().get("ask", {}).get("serve", False)
    if serving:
        tables["serving"] = question.usual_serving(tables)
    with first:
        _rate(case, tables) if serving else _amount(case, tables)
    with second:
        if not serving:
            _limit("days", t("ask.by"), t("ask.by_help"))
        else:
            _tokens(case, tables, "prompt")
    with third:
        if not serving:
            _limit("usd", t("ask.under"), t("ask.under_help"))
        else:
            _tokens(case, tables, "output")
    with fourth:
        inputs.pasted_config(case, short=True)


def _ask() -> dict[str, Any]:
    found: dict[str, Any] = state.current().setdefault("ask", {})
    return found


def _set(name: str, value: Any) -> None:
    given = _ask()
    if value:
        given[name] = value
    else:
        given.pop(name, None)


def _anew(case: int, tables: state.Tables, kind: str) -> None:
    """The usual job of a kind for the model and GPUs at hand; what is as long as before stays so."""
    job = tables.setdefault("job", {})
    length = {name: job[name] for name in inputs_job.LENGTHS if name in job}
    name, card, gpus = str(tables["model"].get("name", "")), inputs.card_of(tables), inputs.num_gpus(tables)
    if set(tables["model"]) == {"name"} and kind in ("pretrain", "finetune", "lora", "qlora"):
        try:
            tables["job"] = {**question.usual_job(name, card, gpus, kind), **length}
        except PlannerError:
            inputs_job.of_kind(job, kind, inputs.load_or_none(tables))
    else:
        inputs_job.of_kind(job, kind, inputs.load_or_none(tables))
    if not length:
        tables["job"]["num_tokens"] = LENGTH[kind]
    tables.pop("framework", None)
    inputs.changed(case)


LENGTH = {"pretrain": 10**11, "finetune": 10**8, "lora": 10**8, "qlora": 10**8, "distil": 10**9}
"""Tokens where no length is given: what a first question starts from."""


def _kind(case: int, tables: state.Tables) -> None:
    key = key_of(case, "ask.kind")
    now = question.kind_of(state.current(), tables)

    def store() -> None:
        chosen = st.session_state[key]
        _set("serve", chosen == "serve")
        if chosen == "serve":
            tables["serving"] = question.usual_serving(tables)
        else:
            _anew(case, tables, chosen)
        st.session_state["revision"] += 1

    kinds = question.KINDS if now in question.KINDS else (now, *question.KINDS)
    at = kinds.index(now)
    st.selectbox(t("ask.want"), kinds, at, key=key, on_change=store, format_func=lambda k: t(f"ask.kind_{k.replace('-', '_')}"))


def _model(case: int, tables: state.Tables) -> None:
    given = tables["model"]
    own = t("in.pasted", name=short_text(given.get("name", given.get("base", "")))) if set(given) != {"name"} else ""
    key = key_of(case, f"ask.model.{own}")

    def store() -> None:
        if st.session_state[key] != own:
            question.take_model(tables, {"name": st.session_state[key]})
            inputs.changed(case)

    names = [*([own] if own else []), *with_value(model_names(), given["name"] if not own else model_names()[0])]
    st.selectbox(t("ask.model"), names, names.index(own or given["name"]), key=key, on_change=store, help=t("in.model_help"))


def _card(case: int, tables: state.Tables) -> None:
    now = CHOOSE if _ask().get("choose") else inputs.card_of(tables)
    key = key_of(case, "ask.card")

    def store() -> None:
        chosen = st.session_state[key]
        _set("choose", chosen == CHOOSE)
        if chosen != CHOOSE:
            inputs.on_cards(tables, chosen, inputs.num_gpus(tables))
            inputs.changed(case)
        st.session_state["revision"] += 1

    options = [CHOOSE, *(name for name in inputs.all_cards() if name != CHOOSE)]
    values = options if now in options else [now, *options]
    label = inputs.card_labels()
    st.selectbox(
        t("ask.on"),
        values,
        index=values.index(now),
        key=key,
        on_change=store,
        format_func=lambda name: t("ask.choose") if name == CHOOSE else label(name),
    )


def _count(case: int, tables: state.Tables) -> None:
    key = key_of(case, "ask.gpus")
    now = inputs.num_gpus(tables)

    def store() -> None:
        tables["cluster"].pop("num_nodes", None)
        tables["cluster"]["num_gpus"] = int(st.session_state[key])
        inputs.changed(case)

    more = {"key": key, "on_change": store, "disabled": bool(_ask().get("choose"))}
    number_field(t("in.gpus"), now, least=1, most=inputs.MOST_GPUS, step=1, whole=True, **more)


def _amount(case: int, tables: state.Tables) -> None:
    """How long the run is, in millions of tokens; other lengths are set under Training."""
    job = tables.get("job", {})
    key = key_of(case, "ask.tokens")
    tokens = run_tokens(job)
    now: Any = None if tokens is None else tokens / 1e6

    def store() -> None:
        for name in inputs_job.LENGTHS:
            job.pop(name, None)
        job.pop("num_epochs", None)
        if st.session_state[key]:
            job["num_tokens"] = max(round(st.session_state[key] * 1e6), 1)

    number_field(t("ask.tokens"), now, least=0.0, most=1e12, step=100.0, key=key, on_change=store)


def run_tokens(job: Mapping[str, Any]) -> float | None:
    """Tokens of the run that a job's fields ask for."""
    epochs = job.get("num_epochs", 1)
    if "num_tokens" in job:
        return float(job["num_tokens"] * epochs)
    if "num_samples" in job:
        return float(job["num_samples"] * job.get("seq_len", 0) * epochs)
    if "num_steps" in job:
        return float(job["num_steps"] * job.get("global_batch_size", 0) * job.get("seq_len", 0))
    return None


def _limit(name: str, label: str, text: str) -> None:
    key = f"ask.limit.{name}.{st.session_state['revision']}"
    number_field(
        label,
        _ask().get(name),
        least=0.0,
        most=1e12,
        step=1.0 if name == "days" else 100.0,
        key=key,
        help=text,
        placeholder=t("ask.no_limit"),
        on_change=lambda: _set(name, st.session_state[key]),
    )


def _serving(case: int, name: str, label: str, least: float, most: float, step: float) -> None:
    serving = state.current()["cases"][case]["tables"]["serving"]
    key = key_of(case, f"ask.serving.{name}")
    whole = name != "requests_per_s"
    if name not in serving:  # vectors have no output
        return
    if not isinstance(serving[name], int | float):
        st.caption(about(label, t("ask.spread")))
        return

    def store() -> None:
        serving[name] = int(st.session_state[key]) if whole else st.session_state[key]

    number_field(label, serving[name], least=least, most=most, step=step, whole=whole, key=key, on_change=store)


def _rate(case: int, tables: state.Tables) -> None:
    if clients := tables["serving"].get("clients"):
        st.caption(about(t("serving.clients"), f"{clients:,}"))
        return
    _serving(case, "requests_per_s", t("serving.rate"), 0.01, 10_000.0, 1.0)


def _tokens(case: int, tables: state.Tables, name: str) -> None:
    del tables
    _serving(case, name, t(f"serving.{name}"), 1, 131_072, 128)


# ---- the verdict


def _verdict(case: int, scenario: state.Scenario, tables: state.Tables) -> None:
    if scenario.get("ask", {}).get("choose"):
        _best(case, scenario, tables)
    elif scenario.get("ask", {}).get("serve"):
        _served(case, tables)
    else:
        _trained(case, scenario, tables)


def gpus_of(plan: Plan) -> str:
    """ "2 x rtx-4090-24gb"."""
    return f"{plan.num_gpus} x {plan.cluster.accelerator.name}"


def of_one(key: str, number: int) -> str:
    """The text of ``key``, or its singular."""
    return f"{key}_one" if number == 1 else key


def _say(colour: str, word: str, sentence: str, notes: list[str]) -> None:
    small = "".join(f"<small>{escape(note)}</small>" for note in notes if note)
    st.html(
        f"<p class='answer' role='status'><span class='verdict {colour}' data-figure='answer'>{escape(word)}</span>"
        f"{sentence}{small}</p>"
    )


def _figure(name: str, words: str) -> str:
    return f"<span data-figure='{name}'>{escape(words)}</span>"


def _trained(case: int, scenario: state.Scenario, tables: state.Tables) -> None:
    one = answer(scenario["cases"][case]["label"], tables)
    if one.plan is None:
        _say("error", t("show.impossible"), "", [said(one.error)])
        return
    colour, word, sentence, notes = verdict(one, scenario)
    _say(colour, word, sentence, notes)
    _onward("compare" if one.plan.fits else "memory")


def verdict(one: Answer, scenario: state.Scenario) -> tuple[str, str, str, list[str]]:
    """(class of the colour, the first word, the sentence as HTML, notes) on one plan and the limits of the question."""
    plan = one.known
    memory = _figure("gib", show.gib(plan.peak_total_bytes))
    if not plan.fits:
        words = escape(
            t(of_one("ask.not", plan.num_gpus), gpus=gpus_of(plan), room=show.gib(plan.usable_bytes), need="{}")
        ).replace("{}", memory)
        return "no", t("ask.no"), words, [show.parts(*show.reasons(one))]
    sure = chance(plan.fit_probability)
    parts = [
        escape(
            t(of_one("ask.yes_holds", plan.num_gpus), gpus=gpus_of(plan), room=show.gib(plan.usable_bytes), sure=sure, need="{}")
        ).replace("{}", memory),
        escape(t("ask.speed", tokens="{}")).replace("{}", _figure("tokens", show.number(plan.tokens_per_s))),
    ]
    late = over = ""
    if plan.run_s is None:
        notes = [t("ask.no_length")]
    else:
        limits = question.wish_of(scenario)
        whole, budget, note = _budget(one)
        parts, notes = [*parts, *budget, *_undisturbed(plan)], [note]
        late, over = _over(plan, limits), _over_budget(whole, limits)
    other = other_framework(one.tables, plan)
    if other is not None:
        notes.append(t("ask.elsewhere", words=said(elsewhere_words(other))))
    if plan.price is not None and (old := show.staleness(plan.price)):
        notes.append(t("ask.price", what=about(priced(plan.price), old)))
    sentence = t("show.comma").join(parts) + t("ask.stop")
    if late:
        return "no", t("ask.no"), sentence, [late, *notes]
    if not plan.recommended:
        return "perhaps", t("ask.perhaps"), sentence, [t("ask.risky", sure=sure), *notes]
    if over:
        return "perhaps", t("ask.perhaps"), sentence, [over, *notes]
    return "yes", t("ask.yes"), sentence, notes


def _undisturbed(plan: Plan) -> list[str]:
    """The run and its dollars as modelled, as HTML."""
    found = [escape(t("ask.undisturbed", time="{}")).replace("{}", _figure("run", show.duration(plan.run_s)))]
    if plan.cost_usd is not None:
        span = show.between(plan.intervals.get("cost_usd"), show.dollars)
        found.append(escape(show.ranged("{}", span)).replace("{}", _figure("cost", show.dollars(plan.cost_usd))))
    return found


def _over(plan: Plan, limits: Wish) -> str:
    """That even the undisturbed run takes longer or costs more than is allowed."""
    if limits.deadline_s is not None and plan.run_s is not None and plan.run_s > limits.deadline_s:
        return t("ask.late", time=show.duration(plan.run_s), limit=show.duration(limits.deadline_s))
    if limits.budget_usd is not None and (plan.cost_usd or 0.0) > limits.budget_usd:
        return t("ask.dear", usd=show.dollars(plan.cost_usd), limit=show.dollars(limits.budget_usd))
    return ""


def _budget(one: Answer) -> tuple[Run, list[str], str]:
    """(the run with interruptions and as published runs went, as the page Whole run and ``planner plan`` have it; its dollars and
    time as HTML; what they stand for, or why there are none)."""
    run = whole_run(one.tables, one.known)
    if run.whole is None:
        return run, [], said(run.error)
    days = run.whole.budget_s
    time = show.ranged(show.duration(days.expected), show.between(days, show.duration))
    if run.bill is None:
        return run, [escape(t("ask.budget", budget="{}")).replace("{}", _figure("budget", time))], t("ask.budget_means")
    money = show.ranged(show.dollars(run.bill.budget_usd.expected), show.between(run.bill.budget_usd, show.dollars))
    words = escape(t("ask.budget", budget="{}")).replace("{}", _figure("budget", money))
    return run, [words, escape(time)], t("ask.budget_mean", mean=show.dollars(run.bill.budget_mean_usd))


def _over_budget(run: Run, limits: Wish) -> str:
    """That the budget is above what is allowed, though the undisturbed run is not."""
    if run.whole is not None and limits.deadline_s is not None and run.whole.budget_s.expected > limits.deadline_s:
        time = show.duration(run.whole.budget_s.expected)
        return t("ask.budget_over", budget=time, limit=show.duration(limits.deadline_s))
    if run.bill is not None and limits.budget_usd is not None and run.bill.budget_usd.expected > limits.budget_usd:
        usd = show.dollars(run.bill.budget_usd.expected)
        return t("ask.budget_over", budget=usd, limit=show.dollars(limits.budget_usd))
    return ""


def _served(case: int, tables: state.Tables) -> None:
    try:
        found = deployment(tables)
    except PlannerError as error:
        _say("error", t("show.impossible"), "", [said(str(error))])
        return
    _say(*_serving_words(found))
    _onward("serving")
    del case


def _serving_words(found: Any) -> tuple[str, str, str, list[str]]:
    gpus = f"{found.num_gpus} x {found.cluster.accelerator.name}"
    memory = _figure("gib", show.gib(found.loaded_total_bytes))
    room = show.gib(found.limit_bytes)
    if not found.fits:
        sentence = escape(t(of_one("ask.not", found.num_gpus), gpus=gpus, room=room, need="{}")).replace("{}", memory)
        return "no", t("ask.no"), sentence, [said(join_messages("; ", found.reasons))]
    sure = chance(found.fit_probability)
    parts = [escape(t(of_one("ask.yes_holds", found.num_gpus), gpus=gpus, room=room, sure=sure, need="{}")).replace("{}", memory)]
    load = found.load
    if load is not None:
        parts[0] += t("show.comma") + escape(t("serving.at_once", batch=f"{found.loaded_batch:,}"))
    notes: list[str] = []
    good = True
    if load is not None:
        good = load.stable and load.utilisation <= 0.95
        parts.append(
            t("ask.carries" if good else "ask.overloaded", rate=f"{load.requests_per_s:g}", share=f"{load.utilisation:.0%}")
        )
        if good and load.ttft_s is not None:
            parts.append(
                t("ask.vector", e2e=show.duration((load.e2e_s or {}).get("p95")))
                if found.serving.embeds
                else t("ask.first", ttft=show.duration(load.ttft_s["p95"]), tpot=show.duration((load.tpot_s or {}).get("p95")))
            )
    if found.price is not None:
        hourly = found.price.usd_per_gpu_hour * found.num_gpus
        parts.append(t("ask.hourly", usd=show.dollars(hourly)))
        if old := show.staleness(found.price):
            notes.append(t("ask.price", what=about(priced(found.price), old)))
    sentence = f"{parts[0]}{t('show.comma')}" + escape(t("show.comma").join(parts[1:])) + t("ask.stop")
    if not good:
        return "no", t("ask.no"), sentence, notes
    return (
        ("yes" if found.certainty == "fits" else "perhaps"),
        t("ask.yes" if found.certainty == "fits" else "ask.perhaps"),
        sentence,
        notes,
    )


def _best(case: int, scenario: state.Scenario, tables: state.Tables) -> None:
    """The cheapest that was found so far."""
    task = background.known(_key(scenario, tables))
    enough, _ = question.in_order(task.found if task is not None else [])
    if not enough:
        done = task is not None and task.finished
        _say("no" if done else "error", t("ask.no") if done else "…", escape(t("ask.none" if done else "ask.looking")), [])
        return
    best = enough[0]
    so_far = "" if task is not None and task.finished else t("ask.so_far")
    if best.deployment is not None:
        colour, _, sentence, notes = _serving_words(best.deployment)
    else:
        one = Answer(label="", tables=dict(best.tables), plan=best.plan)  # type: ignore[arg-type]
        colour, _, sentence, notes = verdict(one, scenario)
    _say(colour, t("ask.cheapest"), sentence, [so_far, *notes])
    if st.button(t("ask.take"), key="ask.take", type="primary", icon=":material/arrow_forward:"):
        take(case, best)


def _onward(name: str) -> None:
    page = st.session_state["pages"].get(name)
    if page is not None:
        st.page_link(page, label=t(f"ask.onward_{name}"), icon=":material/arrow_forward:")


# ---- the list


def _names() -> tuple[str, ...]:
    rented = rented_accelerators()
    return (*rented, *question.others()) if st.session_state.get("ask.all") else tuple(rented)


def _key(scenario: state.Scenario, tables: state.Tables) -> str:
    return f"{question.asked_of(scenario, tables)[0]}{len(_names())}"


def _list(case: int) -> None:
    """Every GPU, cheapest first; drawn again while it grows."""
    scenario = state.current()
    tables = scenario["cases"][case]["tables"]
    serving = question.kind_of(scenario, tables) == "serve"
    show.section(t("ask.every" if serving else "ask.every_run"))
    try:
        first = tables == state.default_scenario()["cases"][0]["tables"]  # what every visitor sees: found once, from the start
        task = question.ways(scenario, tables, _names(), patient=first)
    except PlannerError as error:
        show.problem(error)
        return
    if not st.session_state.get("ask.opened"):  # the table is half of what a browser loads: the verdict comes before it
        _opening()
    elif task.finished:
        _rows(case, task)
    else:
        _growing(case, task.key)
    st.checkbox(t("ask.also", count=len(question.others())), key="ask.all", help=t("ask.also_help"))


@st.fragment(run_every=0.5)
def _opening() -> None:
    """Room for the list; the list itself once the browser shows all else."""
    if st.session_state.get("ask.opened") == "once":
        st.session_state["ask.opened"] = "shown"
        st.rerun(scope="app")
    st.session_state["ask.opened"] = "once"
    st.progress(0.0, text=t("ask.looking"))


@st.fragment(run_every=1.0)
def _growing(case: int, key: str) -> None:
    task = background.known(key)
    if task is None or task.finished:
        st.rerun(scope="app")
        return
    before = background.place(task)
    words = t("search.waiting", place=before) if before else t("ask.progress", done=task.done, size=task.size)
    st.progress(min(task.done / max(task.size, 1), 1.0), text=words)
    choosing = state.current().get("ask", {}).get("choose")
    if choosing and task.found and st.session_state.get("ask.first") != key and question.in_order(task.found)[0]:
        st.session_state["ask.first"] = key  # the first way that was found makes the verdict
        st.rerun(scope="app")
    _rows(case, task)


def _rows(case: int, task: Task) -> None:
    enough, rest = question.in_order(list(task.found))
    if task.error:
        show.problem(task.error)
    if not enough:
        if task.finished:
            st.info(t("ask.none"))
    else:
        table = list_of(enough)
        columns = {
            t("ask.column_memory"): st.column_config.ProgressColumn(format="%.0f %%", min_value=0.0, max_value=100.0),
            **{t(f"ask.column_{name}"): st.column_config.NumberColumn(format=form) for name, form in FORMATS.items()},
        }
        event = st.dataframe(
            table,
            hide_index=True,
            on_select="rerun",
            selection_mode="single-row",
            column_config=columns,
            key=f"ask.list.{st.session_state['revision']}.{language()}",
            alt=t("ask.list_alt"),
            width="stretch",
            height=min(38 * (len(table) + 1), 560),
        )
        st.caption(t("ask.click"))
        picked = event["selection"]["rows"]
        if picked and picked[0] < len(enough):
            take(case, enough[picked[0]])
    if rest and task.finished:
        with st.expander(t("ask.left_out", count=len(rest))):
            for one in rest:
                st.caption(about(markdown(one.accelerator), markdown(why_not(one), 300)))


WHY = {NO_ROOM: "no_room", UNSURE: "unsure", LATE: "late_way", DEAR: "dear_way", TOO_MUCH: "too_much"}


def why_not(one: Way) -> str:
    """What a way fails in, in the language of the session."""
    return t(f"ask.{WHY[one.why]}") if one.why in WHY else said(one.why)


FORMATS = {
    **dict.fromkeys(("usd", "hourly"), "dollar"),
    **dict.fromkeys(("hours", "days", "ttft", "tokens"), "localized"),
    "free": "%.1f",
    "sure": "%.1f%%",
    "usage": "%.0f%%",
}
"""Columns of numbers: one unit each, so that a click on its head puts them in order."""


def list_of(enough: Sequence[Way]) -> pd.DataFrame:
    """A row for each way; times in hours where the shortest takes less than two days, else in days."""
    times = [one.plan.run_s for one in enough if one.plan is not None and one.plan.run_s is not None]
    return pd.DataFrame([_row(one, "hours" if min(times, default=0.0) < 2 * DAY_S else "days") for one in enough])


def _row(one: Way, unit: str) -> dict[str, Any]:
    need, room = one.need_bytes or 0.0, one.room_bytes or 1.0
    memory = {t("ask.column_memory"): 100.0 * need / room, t("ask.column_free"): (room - need) / GIB}
    row: dict[str, Any] = {t("ask.column_gpu"): f"{one.num_gpus} x {one.accelerator}"}  # then money and time: a phone shows three
    if one.deployment is not None:
        load = one.deployment.load
        row[t("ask.column_hourly")] = one.usd
        row[t("ask.column_ttft")] = None if load is None or load.ttft_s is None else _short(load.ttft_s["p95"])
        row[t("ask.column_usage")] = None if load is None else 100.0 * load.utilisation
        return row | memory
    assert one.plan is not None
    row[t("ask.column_usd" if one.plan.run_s is not None else "ask.column_hourly")] = one.usd
    if one.plan.run_s is not None:
        row[t(f"ask.column_{unit}")] = _short(one.plan.run_s / (HOUR_S if unit == "hours" else DAY_S))
    row |= memory
    row[t("ask.column_sure")] = show.percent(one.plan.fit_probability)
    row[t("ask.column_tokens")] = round(one.plan.tokens_per_s)
    return row


def _short(value: float) -> float:
    """To three digits.

    >>> _short(7.0567), _short(0.060132)
    (7.06, 0.0601)
    """
    return float(f"{value:.3g}")


def take(case: int, one: Way) -> None:
    """Put the configuration on these GPUs and show it."""
    scenario = state.current()
    tables = scenario["cases"][case]["tables"]
    for name in ("layout", "framework"):
        tables.pop(name, None)
    tables |= {name: dict(table) for name, table in one.tables.items()}
    if "usd_per_gpu_hour" in tables.get("price", {}):
        tables.pop("price")
    _set("choose", False)
    inputs.changed(case)
    state.replace(scenario)
    st.switch_page(st.session_state["pages"]["serving" if one.deployment is not None else "compare"])
