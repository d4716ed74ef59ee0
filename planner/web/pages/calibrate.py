"""Calibrate: a record of measurements becomes a GPU that the other pages can use."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from planner.calibration.calibrate import Calibration, Fit
from planner.calibration.comparison import Comparison, Row, compared, summary
from planner.calibration.records import Record, record_of
from planner.common.errors import PlannerError
from planner.common.units import GB, GIB, TERA
from planner.hardware.cluster import load_accelerator
from planner.web import charts, show, state
from planner.web.answers import Answer, answer, calibrated, fingerprint, keep_profile, profile_texts
from planner.web.download import file_name, take, zipped
from planner.web.figure import Figure
from planner.web.guard import UPLOAD_MB, markdown, require_safe, short_text
from planner.web.measuring import SWITCH, Measurement, allowed
from planner.web.messages import said
from planner.web.text import about, t

BUDGETS = {"60s": 60.0, "2m": 120.0, "5m": 300.0}
"""How long to measure, as ``--budget`` takes it: seconds."""


def page() -> None:
    """Upload or measure, then what was fitted and how well it predicts."""
    show.header(t("calibrate.title"), t("calibrate.lead"))
    upload, measure = st.columns(2, gap="large")
    with upload:
        show.section(t("calibrate.upload"))
        file = st.file_uploader(t("calibrate.file", mb=UPLOAD_MB), type=["json"], key="calibrate.file")
        if file is not None and st.session_state.get("calibrate.seen") != file.file_id:
            st.session_state["calibrate.seen"] = file.file_id
            _read(file.getvalue(), file.name)
    with measure:
        show.section(t("calibrate.measure"))
        _measure()
    if "calibrate.error" in st.session_state:
        show.problem(st.session_state["calibrate.error"])
    for name in list(calibrated()):
        _profile(name)
    if not calibrated() and "calibrate.error" not in st.session_state:
        st.markdown(t("calibrate.empty"))


def _read(content: bytes, name: str) -> None:
    """Calibrate on an uploaded or measured record; keep the profile in the session."""
    st.session_state.pop("calibrate.error", None)
    try:
        with st.spinner(t("calibrate.fitting")):
            found, profile = fitted(content, name)
            before = uncalibrated(content, name, found)
    except PlannerError as error:
        st.session_state["calibrate.error"] = str(error)
        return
    assert found.calibration is not None
    keep_profile(profile, found.calibration)
    st.session_state.setdefault("comparisons", {})[profile] = found
    st.session_state.setdefault("before", {})[profile] = before


MOST_SAMPLES = 2000
"""Of a record, each of which takes the fit some milliseconds."""


def fitted(content: bytes, name: str) -> tuple[Comparison, str]:
    """(what the record's own calibration predicts of its steps, the profile's name). PlannerError says what is wrong."""
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PlannerError("{0}: not valid JSON: {1}.", short_text(name), short_text(error, 200)) from None
    if not isinstance(data, dict):
        raise PlannerError(
            "{0}: holds a {1}; a record of python -m kernels run is needed.", short_text(name), type(data).__name__
        )
    require_safe({k: v for k, v in data.items() if k not in ("samples", "command")}, short_text(name))
    record: Record = record_of(data, short_text(name))
    if len(record.samples) > MOST_SAMPLES:
        raise PlannerError(
            "{0}: holds {1:,} samples; the page fits at most {2:,}; use planner calibrate for all of them.",
            short_text(name),
            len(record.samples),
            MOST_SAMPLES,
        )
    for sample in record.samples:
        require_safe(sample.shape.get("model", {}), f"{short_text(name)}: {sample.family}")
    profile = profile_name(record, content)
    return compared(record, profile), profile


def uncalibrated(content: bytes, name: str, found: Comparison) -> Comparison | None:
    """The same steps by the catalog's profile of the device; None where the catalog has none, or has no such type of number."""
    record = record_of(json.loads(content.decode("utf-8")), short_text(name))
    profile = catalog_profile(found.calibration)
    try:
        return None if profile is None else compared(record, profile, accelerator=profile)
    except PlannerError:
        return None


def catalog_profile(made: Calibration | None) -> str | None:
    """What the catalog has for a calibrated device: its data sheet's profile; "cpu" for a CPU."""
    if made is None:
        return None
    return made.base or ("cpu" if made.node.links and made.node.links[0].kind == "shared_memory" else None)


def profile_name(record: Record, content: bytes) -> str:
    """A name that tells this record's profile from others: "my-amd-epyc-1f3a5c7d9e0b"."""
    return f"my-{file_name(record.device.name, 'x')[:-2]}-{fingerprint(content)[:12]}"


def _measure() -> None:
    """Start ``python -m kernels`` on this server's own GPU, or honestly on its CPU."""
    if importlib.util.find_spec("kernels") is None or importlib.util.find_spec("torch") is None:
        st.info(t("calibrate.no_torch"))
        return
    if not allowed():
        st.info(t("calibrate.not_here", switch=SWITCH))
        return
    gpu = shutil.which("nvidia-smi") is not None
    st.markdown(t("calibrate.gpu_found") if gpu else t("calibrate.no_gpu"))
    running: Measurement | None = st.session_state.get("measurement")
    if running is not None and not running.finished:
        _waiting()
        return
    if running is not None:
        st.session_state.pop("measurement")
        _measured(running)
    budget = st.select_slider(
        t("calibrate.budget"), list(BUDGETS), key="calibrate.budget", format_func=lambda name: show.duration(BUDGETS[name])
    )
    if st.button(t("calibrate.start_gpu" if gpu else "calibrate.start_cpu"), key="calibrate.start", icon=":material/speed:"):
        made = Measurement(device="cuda" if gpu else "cpu", budget=budget)
        if not made.start():
            st.warning(t("calibrate.busy"))
            return
        st.session_state["measurement"] = made
        st.rerun()


def _measured(done: Measurement) -> None:
    """What became of a measurement."""
    if done.cancelled:
        st.info(t("calibrate.cancelled"))
    elif done.error:
        show.problem(done.error)
    else:
        _read(done.record, "record.json")


@st.fragment(run_every=1.0)
def _waiting() -> None:
    """How long it has been measuring; the whole page once it has ended."""
    running: Measurement = st.session_state["measurement"]
    if running.finished:
        st.rerun(scope="app")
    st.status(t("calibrate.running", seconds=f"{time.monotonic() - running.started:.0f}", budget=running.budget))
    if st.button(t("calibrate.cancel"), key="calibrate.cancel", icon=":material/cancel:"):
        running.cancelled = True


def _profile(name: str) -> None:
    """One calibrated device: what was measured, how far off the planner is there, what changes with it; its files."""
    found: Comparison | None = st.session_state.get("comparisons", {}).get(name)
    before: Comparison | None = st.session_state.get("before", {}).get(name)
    made = calibrated()[name]
    st.divider()
    st.html(f"<h2>{escape(about(t('calibrate.profile'), short_text(name)))}</h2>")
    st.caption(markdown(made.source, 300))
    if found is not None:  # else read from a file, or made in another session: its record is not here
        show.section(t("calibrate.how_far"))
        st.markdown(markdown(verdict(found, before), 900))
        charts.show(*[_predicted(*one) for one in by_metric(found.rows)], key=f"off.{name}")
    show.section(t("calibrate.what_changes"))
    _changes(name, made)
    if found is not None:
        show.section(t("calibrate.what_measured"))
        st.html(measured_table(made))
        with st.expander(t("calibrate.curves")):
            charts.show(*curve_figures(made.fits), key=f"calibrate.{name}")
        if found.refused:
            with st.expander(t("calibrate.refused", count=len(found.refused))):
                for refusal in found.refused:
                    st.caption(markdown(about(refusal.id, said(refusal.reason)), 300))
    take(t("calibrate.files"), lambda: profile_files(made, name), f"{name}.zip", "application/zip", f"files.{name}")


# ---- how far off


def verdict(found: Comparison, before: Comparison | None) -> str:
    """ "Step time: was 38 % off with the catalog's constants, is 5 % off with yours (median of 11 steps, 10 inside ...)."."""
    now, then = summary(found.rows), summary(before.rows) if before is not None else {}
    parts = []
    for metric, figures in now.items():
        rows = f"{figures['rows']:.0f}"
        inside = f"{figures['rows'] * figures['inside_interval']:.0f}"
        is_off = percent(figures["median"])
        name = t(f"metric.{metric}")
        if metric == "saved_bytes":  # counted from the rows of the operators: no constant moves them
            parts.append(t("calibrate.counted", metric=name, off=is_off, rows=rows))
        elif metric in then:
            was = percent(then[metric]["median"])
            parts.append(t("calibrate.was_is", metric=name, was=was, off=is_off, rows=rows, inside=inside))
        else:
            parts.append(t("calibrate.is_off", metric=name, off=is_off, rows=rows, inside=inside))
    return t("show.next").join(f"{part[0].upper()}{part[1:]}" for part in parts)


def percent(error: float) -> str:
    """An error with no more digits than it is worth.

    >>> percent(0.3849), percent(0.0496), percent(0.0004)
    ('38%', '5.0%', '0.0%')
    """
    return f"{error:.0%}" if error >= 0.1 else f"{error:.1%}"


def by_metric(rows: Sequence[Row]) -> list[tuple[list[Row], str, float, str]]:
    """(its rows, metric, unit, axis) of the figures that a record measures."""
    known = (("step_time_s", 1.0, "seconds"), ("peak_allocated_bytes", GIB, "gib"))
    found = [([row for row in rows if row.metric == metric], metric, unit, key) for metric, unit, key in known]
    return [one for one in found if one[0]]


# ---- what changes


def _changes(name: str, made: Calibration) -> None:
    """Each configuration as it is asked now, on this device by the catalog, and on it as measured; a button takes it."""
    cases = state.current()["cases"]
    shown = catalog_profile(made)
    st.html(changes_table([(case["label"], columns_of(case["tables"], name, made, shown)) for case in cases], shown is not None))
    with st.container(horizontal=True, key=f"uses.{name}"):
        for i, case in enumerate(cases):
            if st.button(t("calibrate.use", label=markdown(case["label"])), key=f"use.{name}.{i}"):
                _use(i, name, made)


def _use(case: int, name: str, made: Calibration) -> None:
    scenario = state.current()
    scenario["cases"][case]["tables"] = on_device(scenario["cases"][case]["tables"], name, name, made.node.num_gpus)
    state.disclaim(scenario, case, "layout")
    state.rename(scenario, case)
    state.replace(scenario)
    st.session_state["case"] = case
    st.switch_page(st.session_state["pages"]["compare"])


def on_device(tables: Mapping[str, Mapping[str, Any]], device: str, stack: str, num_gpus: int) -> state.Tables:
    """The question on a device with a framework; layout and price, which belong to other GPUs, are left to be found anew."""
    found = {name: dict(table) for name, table in tables.items() if name not in ("price", "layout")}
    place = {"node": device} if device in calibrated() else {"accelerator": device}
    return {**found, "cluster": {**place, "num_gpus": num_gpus}, "framework": {"name": stack}}


def columns_of(tables: state.Tables, name: str, made: Calibration, catalog: str | None) -> list[Answer]:
    """The plans of one configuration: now, on this device by the catalog (where it has one), on it as measured."""
    places = [] if catalog is None else [(catalog, "kernels")]
    others = [answer("", on_device(tables, *place, made.node.num_gpus)) for place in (*places, (name, name))]
    return [answer("", tables), *others]


def changes_table(rows: Sequence[tuple[str, list[Answer]]], catalog: bool) -> str:
    """Configurations down; memory, step and tokens a second now, by the catalog, as measured."""
    names = ["calibrate.now", *(["calibrate.by_catalog"] if catalog else []), "calibrate.as_measured"]
    head = "".join(f"<th scope='col'>{escape(t(name))}</th>" for name in names)
    body = "".join(
        f"<tr><th scope='row'>{escape(short_text(label, 40))}</th>{''.join(_change(one) for one in answers)}</tr>"
        for label, answers in rows
    )
    caption = escape(t("calibrate.what_changes"))
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{caption}'><table class='figures'>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _change(one: Answer) -> str:
    if one.plan is None:
        return f"<td>–<small>{escape(short_text(said(one.error), 160))}</small></td>"
    plan = one.plan
    need = t("calibrate.need", need=show.gib(plan.peak_total_bytes), room=show.gib(plan.usable_bytes))
    if not plan.fits:
        words = f"{plan.num_gpus} x {short_text(plan.cluster.accelerator.name)}{t('show.semicolon')}{need}"
        return f"<td>{escape(t('serving.does_not_fit'))}<small>{escape(words)}</small></td>"
    span = show.between(plan.intervals["step_time_s"], show.duration)
    words = t("calibrate.step_note", span=span, tokens=show.number(plan.tokens_per_s), need=need)
    return f"<td>{escape(show.duration(plan.step_time_s))}<small>{escape(words)}</small></td>"


# ---- what was measured


def measured_table(made: Calibration) -> str:
    """Each kind of kernel: how many samples, the best rate seen beside the data sheet's, how well the curve gives them back."""
    head = "".join(
        f"<th scope='col'>{escape(t(f'calibrate.{name}'))}</th>" for name in ("samples", "best", "sheet", "median", "worst")
    )
    rows = "".join(
        f"<tr><th scope='row'>{escape(fit_name(fit))}</th><td>{fit.samples}</td><td>{escape(best_rate(fit))}</td>"
        f"<td>{escape(sheet_rate(fit, made))}</td><td>{percent(fit.median)}</td><td>{percent(fit.worst)}</td></tr>"
        for fit in made.fits
    )
    caption = escape(t("calibrate.what_measured"))
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{caption}'><table class='figures'>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


FITS = ("matrix multiply", "grouped matrix multiply", "host time of a group", "attention", "memory", "training steps used to fit")


def fit_name(fit: Fit) -> str:
    """What was fitted, in the language of the session; the type of number and the name of a collective stay."""
    kind, comma, rest = fit.name.partition(", ")
    return f"{t('fit.' + kind.replace(' ', '_'))}{t('show.comma') if comma else ''}{rest}" if kind in FITS else fit.name


def best_rate(fit: Fit) -> str:
    """The highest rate of a kernel's samples, in its unit."""
    column, unit, name = (1, GB, "GB/s") if fit.name == "memory" else (0, TERA, "TFLOP/s")
    rates = [point[column] / point[2] / unit for point in fit.points if point[2] > 0.0 and point[column] > 0.0]
    return f"{max(rates):,.3g} {name}" if rates else "–"


def sheet_rate(fit: Fit, made: Calibration) -> str:
    """What the catalog's data sheet says of the same, where there is one."""
    if made.base is None or not fit.points:
        return "–"
    card = load_accelerator(made.base)
    if fit.name == "memory":
        return f"{card.memory_bandwidth_bytes_per_s / GB:,.4g} GB/s"
    peaks = {str(dtype): rate for dtype, rate in card.peak_flops_per_s.items()}
    peak = peaks.get(fit.name.rpartition(", ")[2])
    return "–" if peak is None else f"{peak / TERA:,.4g} TFLOP/s"


def curve_figures(fits: Sequence[Fit]) -> list[Figure]:
    """Fitted curves over the samples."""
    found = []
    for name, axis, x, unit, column in (
        ("flops", "tflops_axis", "flops_axis", TERA, 0),
        ("bandwidth", "gb_s_axis", "bytes_axis", GB, 1),
    ):
        group = [fit for fit in fits if fit.points and (fit.name == "memory") == (name == "bandwidth")]
        points = [
            {
                "group": fit_name(fit),
                "x": p[column],
                "y": p[column] / p[2] / unit,
                "fitted": p[column] / p[3] / unit,
                "note": note(p),
            }
            for fit in group
            for p in fit.points
            if p[column] > 0
        ]
        if points:
            worst = max(group, key=lambda fit: fit.median)
            samples = sum(fit.samples for fit in group)
            words = t("calibrate.curve_title", name=fit_name(worst), error=percent(worst.median), samples=samples)
            alt = t(f"calibrate.{name}_alt")
            found.append(charts.lines(f"curves-{name}", words, alt, points, x=x, y=axis, logarithmic=True, samples=True))
    return found


def note(point: tuple[float, float, float, float]) -> str:
    """A sample's measured and fitted time."""
    return (
        f"{t('calibrate.measured')} {show.duration(point[2])}{t('show.comma')}{t('calibrate.fitted')} {show.duration(point[3])}"
    )


def _predicted(rows: Sequence[Row], metric: str, unit: float, key: str) -> Figure:
    points = [
        {
            "x": row.measured / unit,
            "y": row.predicted / unit,
            "low": row.measured / unit,
            "group": t(f"metric.{metric}"),
            "id": row.id,
            "error": f"{row.error:+.1%}",
            "interval": f"{row.lower / unit:.3g} – {row.upper / unit:.3g}",
        }
        for row in rows
    ]
    inside = sum(row.lower <= row.measured <= row.upper for row in rows)
    worst = max(rows, key=lambda row: abs(row.error))
    title = t(
        "calibrate.predicted_title", inside=inside, rows=len(rows), metric=t(f"metric.{metric}"), worst=f"{worst.error:+.0%}"
    )
    return charts.scatter(
        f"predicted-{metric}",
        title,
        t("calibrate.predicted_alt"),
        points,
        x=f"measured_{key}",
        y=f"predicted_{key}",
        tips=("id", "error", "interval"),
        logarithmic=True,
        diagonal=True,
    )


def profile_files(made: Calibration, name: str) -> bytes:
    """The three profiles as the command line writes them, in an archive."""
    return zipped(profile_texts(made, name))
