"""Serving: how fast it answers, how much it carries, what a token costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, get_args

import pandas as pd
import streamlit as st

from planner.common.errors import PlannerError
from planner.common.message import join_messages
from planner.common.units import GIB
from planner.export.servers import SERVERS, export_deployment
from planner.layout_search.space import divisors
from planner.performance.memory import KINDS as TRAINED
from planner.performance.risk import chance
from planner.serving import FORMATS, Deployment, engine_names, load_engine, serve
from planner.serving.curves import client_curve, curve, load_curve
from planner.serving.cuts import CUT
from planner.serving.engine import engine_family, usual_engine
from planner.serving.memory import KINDS
from planner.serving.spec import USUAL_ENGINES, KvDtype
from planner.serving.weight_formats import format_named
from planner.web import charts, controls, inputs, show, state
from planner.web.answers import arguments, cluster_of, key_of, remembered
from planner.web.download import serving_toml, take, zipped
from planner.web.figure import Figure
from planner.web.guard import markdown, require_safe, short_text
from planner.web.messages import said
from planner.web.question import usual_serving
from planner.web.text import about, t

SATURATED = 0.95
"""Of the capacity: above it percentiles depend on how long it lasts, not on the deployment."""
MODES = ("rate", "clients", "batch")
"""What a deployment is asked about: requests that arrive, people who wait in turn, or one batch by itself."""
SHORTEST_S = 1e-6
"""Of a limit of latency that can be typed."""
LIMITS = ("ttft_target_s", "tpot_target_s", "e2e_target_s")
MODE_FIELDS = {"rate": "requests_per_s", "clients": "clients", "batch": "batch"}
CLIENTS = [2**i for i in range(13)]
MOST_LINES = 4
RATES = [
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    12.0,
    15.0,
    20.0,
    25.0,
    30.0,
    40.0,
    50.0,
    75.0,
    100.0,
    150.0,
    200.0,
    300.0,
    500.0,
]
LENGTHS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072]
POPULARITY = [0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0]
PLACED = ("random", "rebalanced", "sorted")
QUANTILES = ("p50", "p95", "p99")


def page() -> None:
    """The deployment of one configuration's model on its GPUs."""
    show.header(t("serving.title"), t("serving.lead"))
    scenario = state.current()
    case = min(int(st.session_state.get("case", 0)), len(scenario["cases"]) - 1)
    one = scenario["cases"][case]
    st.caption(t("serving.which", label=markdown(one["label"])))
    tables = one["tables"]
    tables["serving"] = asked_of(tables)
    try:
        found, error = deployment(tables), ""
    except PlannerError as refused:
        found, error = None, str(refused)
    _controls(case, tables, found)
    if found is None:
        show.problem(error)
        return
    st.html(card(found, one["label"]))
    for words in (*found.reasons, *found.warnings, *found.notes):
        st.caption(markdown(said(words), 400))
    charts.show(memory_figure(found, one["label"]), key="serving")
    if found.fits:
        if not found.serving.embeds:
            _pareto(found, tables)
        if st.toggle(t("serving.over_rates"), key="serving.over_rates", help=t("serving.over_rates_help")):
            charts.show(*figures(found, tables), key="serving.rates")
    if not found.fits and found.nearest:
        st.info(t("serving.nearest", change=markdown(str(dict(found.nearest)), 300)))
    left, right = st.columns(2)
    with left:
        title = state.title_of(scenario)
        take(t("serving.save"), lambda: serving_toml(title, one), "serving.toml", "application/toml", "serving.save")
    with right:
        _launch(found)


def asked_of(tables: state.Tables) -> dict[str, Any]:
    """What the page asks: what is given, and the usual for the rest; a rate where nothing is given."""
    asked = usual_serving(tables)
    given = tables.get("serving") or {}
    return {name: value for name, value in asked.items() if name != "requests_per_s" or not given or name in given}


def _launch(found: Deployment) -> None:
    """Launch files of the engine (planner export)."""
    family = engine_family(found.engine)
    if family not in SERVERS or not found.fits:
        return
    try:
        archive = zipped(export_deployment(found, family))
    except PlannerError as error:
        st.caption(t("search.no_launch", stack=family, why=markdown(said(str(error)), 300)))
        return
    name = t("download.launch", stack=family)
    take(name, lambda: archive, f"{family}.zip", "application/zip", "serving.launch")


def mode_of(given: Mapping[str, Any]) -> str:
    """What the deployment is asked about."""
    return "clients" if given.get("clients") else "rate" if given.get("requests_per_s") else "batch"


def _controls(case: int, tables: state.Tables, found: Deployment | None) -> None:
    """What is asked; where nobody says, what the planner chose."""
    given, model, cluster = tables["serving"], inputs.load_or_none(tables), cluster_of(tables)
    left, middle, right = st.columns(3, gap="medium")
    with left:
        usual = USUAL_ENGINES[0] if cluster is None else usual_engine(cluster.accelerator, model, given.get("weights"))
        engine = load_engine(given.get("engine", usual)).name
        weights = format_named(given.get("weights", "bf16")) if found is None else found.serving.weights
        controls.choice(case, "serving", "engine", t("serving.engine"), engine_names(), engine)
        controls.choice(case, "serving", "weights", t("serving.weights"), FORMATS, weights, tag=f".{weights}")
        controls.choice(case, "serving", "kv_dtype", t("serving.kv_dtype"), get_args(KvDtype), given.get("kv_dtype", "auto"))
    with middle:
        _cut(case, tables, found)
    with right:
        _mode(case, given)
        for name in ("prompt", "output"):
            if isinstance(given.get(name), int):
                controls.slider(case, "serving", name, t(f"serving.{name}"), LENGTHS, given[name])
    if mode_of(given) != "batch":
        _limits(case, given)


def _limits(case: int, given: Mapping[str, Any]) -> None:
    """The latencies that a request must keep to be counted (``planner serve --ttft --tpot``); empty: none."""
    names = LIMITS[2:] if given.get("embeds") else LIMITS
    for column, name in zip(st.columns(len(LIMITS), gap="medium"), names, strict=False):
        with column:
            told = {"least": SHORTEST_S, "step": 0.01, "placeholder": t("ask.no_limit")}
            controls.number(case, "serving", name, t(f"serving.{name}"), given.get(name), **told)


def _cut(case: int, tables: state.Tables, found: Deployment | None) -> None:
    """How the GPUs share the work: as the planner cuts it until somebody moves a slider."""
    given, gpus, model = tables["serving"], max(inputs.cut_gpus(tables), 1), inputs.load_or_none(tables)
    cut = {name: given.get(name, 1) if found is None else getattr(found.serving, name) for name in CUT}
    own = bool(set(CUT) & set(given))
    tag = f".{gpus}.{sorted(cut.items())}"

    def touched() -> None:
        given.update(cut)

    def settled(moved: str) -> None:
        given.update(filled(tables, {name: given[name] for name in CUT}, moved))
        given.pop("expert_placement", None)  # other experts on other ranks: the usual one again

    sizes = [d for d in divisors(gpus) if d <= 64]
    experts = [d for d in divisors(model.num_experts) if d <= gpus] if model and model.num_experts else [1]
    options = {"tp": ("in.tp", sizes), "pp": ("in.pp", sizes), "dp": ("serving.replicas", sizes), "ep": ("in.ep", experts)}
    for name, (label, values) in options.items():
        after = partial(settled, name)
        controls.slider(case, "serving", name, t(label), values, cut[name], tag=tag, before=touched, after=after)
    if cut["ep"] > 1 and "expert_load" not in given:
        _popularity(case, tables)
    if own and gpus > 1 and st.button(t("in.back"), key=controls.key_of(case, "serving.automatic"), help=t("serving.back_help")):
        for name in CUT:
            given.pop(name, None)
        st.rerun()


GIVE_WAY = {"tp": ("ep", "pp"), "pp": ("ep", "tp"), "ep": ("pp", "tp")}


def filled(tables: state.Tables, cut: dict[str, int], moved: str) -> dict[str, int]:
    """The cut with all GPUs used: what was moved stays, the others give way as far as they must."""
    gpus, model, cluster = max(inputs.cut_gpus(tables), 1), inputs.load_or_none(tables), cluster_of(tables)
    if moved == "dp":
        heads, replica = model.num_heads if model else 1, gpus // cut["dp"]
        wide = min(replica, cluster.node.num_gpus if cluster else replica)
        tp = max(d for d in divisors(replica) if d <= wide and heads % d == 0)
        return {**cut, "tp": tp, "pp": replica // tp, "ep": 1}
    for name in GIVE_WAY[moved]:
        fitting = [d for d in divisors(gpus) if d <= cut[name] and gpus % inputs.replica_gpus({**cut, name: d}) == 0]
        cut = {**cut, name: max(fitting, default=1)}
    return {**cut, "dp": max(gpus // inputs.replica_gpus(cut), 1)}


def _popularity(case: int, tables: state.Tables) -> None:
    """How unlike the experts are in decoding, and how those that are asked for most come to ranks."""
    given = tables["serving"]
    zipf = given.get("expert_zipf", 0.0)
    label = t("serving.expert_zipf")
    helped = t("serving.expert_zipf_help")
    controls.slider(case, "serving", "expert_zipf", label, POPULARITY, zipf, before=lambda: _unplaced(tables), help=helped)
    if zipf > 0:
        placed = given.get("expert_placement", PLACED[0])
        controls.choice(
            case, "serving", "expert_placement", t("serving.placement"), PLACED, placed, lambda v: t(f"serving.placed_{v}")
        )


def _unplaced(tables: state.Tables) -> None:
    """Other experts on other ranks: their placement is the usual one again."""
    tables["serving"].pop("expert_placement", None)


def _mode(case: int, given: dict[str, Any]) -> None:
    now = mode_of(given)
    key = controls.key_of(case, "serving.mode")

    def store() -> None:
        chosen = st.session_state[key]
        for name in (*MODE_FIELDS.values(), *(LIMITS if chosen == "batch" else ())):
            given.pop(name, None)
        given[MODE_FIELDS[chosen]] = {"rate": 2.0, "clients": 16, "batch": 8}[chosen]
        st.session_state["revision"] += 1

    st.segmented_control(
        t("serving.mode"),
        MODES,
        default=now,
        format_func=lambda n: t(f"serving.mode_{n}"),
        key=key,
        on_change=store,
        required=True,
    )
    if now == "rate":
        controls.slider(case, "serving", "requests_per_s", t("serving.rate"), RATES, float(given["requests_per_s"]))
    elif now == "clients":
        controls.slider(case, "serving", "clients", t("serving.clients"), CLIENTS, int(given["clients"]))
    else:
        controls.slider(case, "serving", "batch", t("serving.batch"), [2**i for i in range(11)], int(given.get("batch", 1)))


@remembered
def _serve(key: str, given: Mapping[str, Any], _arguments: Mapping[str, Any]) -> tuple[Deployment | None, str]:
    try:
        return serve(serving=given, **_arguments), ""
    except PlannerError as error:
        return None, str(error)


def deployment(tables: state.Tables) -> Deployment:
    """What the configuration's model on its GPUs does; PlannerError says what cannot be."""
    require_safe(tables["serving"], "serving")
    given = arguments(tables)
    some = {name: given[name] for name in ("model", "cluster", "price") if name in given}
    found, error = _serve(key_of(tables), tables["serving"], some)
    if found is None:
        raise PlannerError(error)
    assert isinstance(found, Deployment)
    return found


@remembered
def _curves(key: str, closed: bool, _found: Deployment) -> tuple[pd.DataFrame | None, str]:
    """Over clients of a closed loop, or over request rates."""
    try:
        return client_curve(_found) if closed else load_curve(_found), ""
    except PlannerError as error:
        return None, str(error)


def saturated(found: Deployment) -> bool:
    """Whether requests come so fast that latencies are a matter of how long that lasts."""
    load = found.load
    return load is not None and load.clients is None and load.stable and load.utilisation > SATURATED


def card(found: Deployment, label: str) -> str:
    """Headline figures of the operating point that was asked for, and of no other, as HTML."""
    kind = "show.fits" if found.certainty == "fits" else "show.probably_fits"
    need = found.loaded_total_bytes
    words = t(kind, free=show.gib(found.limit_bytes - need), sure=chance(found.fit_probability))
    usable = t("show.of_usable", usable=show.gib(found.limit_bytes))
    rows: list[show.Item] = [
        (
            "serving-gib",
            t("show.memory"),
            show.gib(need),
            show.parts(usable, t("serving.at_once", batch=f"{found.loaded_batch:,}")),
        )
    ]
    rows += _under_load(found) if found.load is not None else _of_batch(found)
    rows.append(
        ("most", t("serving.max_batch"), f"{found.max_batch:,}", t("serving.max_context", tokens=f"{found.max_context:,}"))
    )
    colour = "no" if not found.fits else "yes" if found.certainty == "fits" else "perhaps"
    verdict = words if found.fits else t("serving.does_not_fit")
    if found.load is not None and found.load.clients is None and not found.load.stable:
        colour, verdict = "no", t("serving.unstable")
    elif saturated(found):
        colour, verdict = "perhaps", t("serving.saturated")
    sub = " · ".join((short_text(found.model.name), found.cluster.name, f"{found.engine.name} {found.serving.weights}"))
    name = escape(short_text(label), quote=True)
    return (
        f"<section class='card wide' aria-label='{name}'><h2>{name}</h2><p class='sub'>{escape(sub)}</p>"
        f"<span class='verdict {colour}' data-figure='fits'>{escape(verdict)}</span><dl>{show.items(rows)}</dl></section>"
    )


def _of_batch(found: Deployment) -> list[show.Item]:
    """One batch by itself, started together."""
    if found.serving.embeds:
        sure = found.intervals
        return [
            ("ttft", t("serving.vector"), show.duration(found.ttft_s), show.between(sure.get("ttft_s"), show.duration)),
            _vectors(found, found.requests_per_s, show.between(sure.get("requests_per_s"), show.number)),
            _usd_of_input(found),
        ]
    sure, usd = found.intervals, found.expense.usd_per_million_tokens if found.expense else None
    return [
        ("ttft", t("serving.ttft"), show.duration(found.ttft_s), show.between(sure.get("ttft_s"), show.duration)),
        ("tpot", t("serving.tpot"), show.duration(found.tpot_s), show.between(sure.get("tpot_s"), show.duration)),
        (
            "rate",
            t("serving.throughput"),
            show.number(found.output_tokens_per_s),
            show.between(sure.get("output_tokens_per_s"), show.number),
        ),
        ("usd", t("serving.usd"), show.dollars(usd), show.between(sure.get("usd_per_million_tokens"), show.dollars)),
    ]


def _vectors(found: Deployment, rate: float | None, span: str) -> show.Item:
    return ("rate", t("serving.vectors"), show.number(rate), span)


def _usd_of_input(found: Deployment) -> show.Item:
    name = "usd_per_million_input_tokens"
    usd = getattr(found.expense, name) if found.expense else None
    return ("usd", t("serving.usd_in"), show.dollars(usd), show.between(found.intervals.get(name), show.dollars))


def _under_load(found: Deployment) -> list[show.Item]:
    """At the rate, or with the clients, that was asked for."""
    load = found.load
    assert load is not None
    vectors = found.serving.embeds
    share = t("serving.utilised", share=f"{load.utilisation:.0%}")
    most = t("serving.capacity", rate=f"{load.capacity_requests_per_s:.3g}")
    if load.clients is not None:
        rows: list[show.Item] = [
            (
                "load",
                t("serving.with_clients", clients=f"{load.clients:,}"),
                t("serving.per_s", rate=f"{load.requests_per_s:.3g}"),
                "",
            )
        ]
    else:
        if load.mean_batch is not None:
            most = show.parts(t("serving.together", batch=f"{load.mean_batch:,.3g}"), most)
        rows = [("load", t("serving.at_rate", rate=f"{load.requests_per_s:g}"), share, most)]
    if load.ttft_s is None or load.tpot_s is None or load.e2e_s is None or saturated(found):
        name = "e2e" if vectors else "ttft"
        return [*rows, (f"-{name}", t(f"serving.{name}"), "–", t("serving.no_percentiles"))]
    sure = found.intervals
    latencies = (("ttft", load.ttft_s), ("tpot", load.tpot_s), ("e2e", load.e2e_s))
    for name, values in latencies[2:] if vectors else latencies:
        span = show.between(sure.get(f"load.{name}_s.p95"), show.duration)
        spread = t("show.comma").join(f"{q} {show.duration(values[q])}" for q in ("p50", "p99"))
        note = show.parts(span, spread)
        rows.append((name, f"{t(f'serving.{name}')}{t('show.comma')}p95", show.duration(values["p95"]), note))
    if load.within_targets is not None:
        useful = t("serving.goodput", rate=f"{load.goodput_requests_per_s:.3g}")
        rows.append(("within", t("serving.within"), f"{load.within_targets:.1%}", useful))
    if vectors:
        return [*rows, _vectors(found, load.requests_per_s, ""), _usd_of_input(found)]
    usd = found.expense.usd_per_million_tokens if found.expense else None
    return [
        *rows,
        ("rate", t("serving.throughput"), show.number(load.output_tokens_per_s), ""),
        ("usd", t("serving.usd"), show.dollars(usd), show.between(sure.get("usd_per_million_tokens"), show.dollars)),
    ]


def memory_figure(found: Deployment, label: str) -> Figure:
    """Bytes of the fullest GPU by kind against the limit, with the requests that are at work at once."""
    used = found.loaded_bytes
    parts = [(t(f"serving.kind_{kind}"), used[kind] / GIB) for kind in KINDS]
    need = show.gib(found.loaded_total_bytes)
    title = t("serving.memory_title", gib=need, batch=f"{found.loaded_batch:,}", weights=show.gib(used["weights"]))
    rows = [(label, parts, need, found.limit_bytes / GIB)]
    return charts.stacked("serving-memory", "memory", title, t("compare.memory_alt"), rows, colours())


def colours() -> list[str]:
    """Of what serving uses memory for: the colours of the same kinds in training."""
    same = {"weights": "parameters"}
    return [charts.CACHE if kind == "kv_cache" else charts.KINDS[TRAINED.index(same.get(kind, kind))] for kind in KINDS]


def figures(found: Deployment, tables: state.Tables) -> Sequence[Figure]:
    """Percentiles against request rate, or against the clients where these were asked for."""
    closed = found.load is not None and found.load.clients is not None
    # the curve does not depend on the rate asked for
    key = key_of({**tables, "serving": {k: v for k, v in tables["serving"].items() if k not in ("requests_per_s", "clients")}})
    load, error = _curves(key, closed, found)
    if load is not None and len(load):
        return [_of_clients(load) if closed else _percentiles(load, found)]
    if error:
        st.caption(markdown(said(error), 300))
    return []


def _pareto(found: Deployment, tables: state.Tables) -> None:
    """Tokens per second of a GPU against milliseconds of a token, a line for each GPU that is named."""
    here = inputs.card_of(tables)
    others = [name for name in inputs.all_cards() if name not in (here, "cpu")]
    names = st.multiselect(
        t("serving.beside"),
        others,
        key="serving.beside",
        max_selections=MOST_LINES,
        format_func=inputs.card_labels(),
        placeholder=t("in.any_of"),
    )
    lines, refused = [(here, _line(key_of(tables), found))], []
    for name in names:
        asked = {k: dict(v) for k, v in tables.items() if k != "price" or "usd_per_gpu_hour" not in v}
        inputs.on_cards(asked, name, inputs.num_gpus(tables))
        try:
            other = deployment(asked)
        except PlannerError as error:
            refused.append(about(name, said(str(error))))
            continue
        if other.fits:
            lines.append((name, _line(key_of(asked), other)))
        else:
            refused.append(about(name, said(join_messages("; ", other.reasons))))
    charts.show(pareto_figure(found, lines), key="serving.pareto")
    for words in refused:
        st.caption(markdown(words, 300))


@remembered
def _line(key: str, _found: Deployment) -> pd.DataFrame:
    return curve(_found)


def pareto_figure(found: Deployment, lines: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """One line a GPU, one point a batch size."""
    rows = [
        {
            "x": row["output_tokens_per_s"] / found.num_gpus,
            "y": row["tpot_s"] * 1e3,
            "group": name,
            "note": t("serving.batch_of", batch=int(row["batch"]))
            + ("" if row["usd_per_million_tokens"] is None else t("show.comma") + show.dollars(row["usd_per_million_tokens"])),
        }
        for name, table in lines
        for row in table.to_dict(orient="records")
    ]
    table = lines[0][1]
    last = table.iloc[-1]
    title = t(
        "serving.curve_title",
        tokens=show.number(float(last["output_tokens_per_s"])),
        batch=int(last["batch"]),
        tpot=show.duration(float(last["tpot_s"])),
        alone=show.duration(float(table.iloc[0]["tpot_s"])),
    )
    return charts.lines("latency-throughput", title, t("serving.curve_alt"), rows, x="tokens_gpu_axis", y="tpot_axis")


def _of_clients(load: pd.DataFrame) -> Figure:
    """Answers take longer the more clients wait; the title says where twice as many get less than a tenth more done."""
    rows = [
        {"x": row["clients"], "y": row[f"e2e_s_{q}"], "group": q, "note": f"TTFT {show.duration(row[f'ttft_s_{q}'])}"}
        for row in load.to_dict(orient="records")
        for q in QUANTILES
    ]
    rates = load["requests_per_s"].tolist()
    full = next((i for i in range(len(rates) - 1) if rates[i + 1] < 1.1 * rates[i]), len(rates) - 1)
    title = t("serving.clients_title", clients=f"{int(load['clients'].iloc[full]):,}", rate=f"{rates[full]:.3g}")
    return charts.lines("percentiles-clients", title, t("serving.clients_alt"), rows, x="clients_axis", y="e2e_axis")


def _percentiles(load: pd.DataFrame, found: Deployment) -> Figure:
    rows = [
        {"x": row["requests_per_s"], "y": row[f"e2e_s_{q}"], "group": q, "note": f"TTFT {show.duration(row[f'ttft_s_{q}'])}"}
        for row in load[load["stable"]].to_dict(orient="records")
        for q in QUANTILES
    ]
    capacity = found.load.capacity_requests_per_s if found.load else float(load["requests_per_s"].max())
    title = t("serving.load_title", rate=f"{capacity:.3g}")
    return charts.lines("percentiles-rate", title, t("serving.load_alt"), rows, x="rate_axis", y="e2e_axis")
