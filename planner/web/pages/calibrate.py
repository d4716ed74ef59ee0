"""Calibrate: a record of measurements becomes a GPU that the other pages can use."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from planner.calibration.calibrate import Calibration, Fit
from planner.calibration.comparison import Comparison, Row, compared
from planner.calibration.records import Record, record_of
from planner.common.errors import PlannerError
from planner.common.units import GB, GIB, TERA
from planner.web import charts, show, state
from planner.web.answers import calibrated, fingerprint, keep_profile, profile_texts
from planner.web.download import file_name, take, zipped
from planner.web.figure import Figure
from planner.web.guard import UPLOAD_MB, markdown, require_safe, short_text
from planner.web.measuring import SWITCH, Measurement, allowed
from planner.web.messages import said
from planner.web.text import t

BUDGETS = ("60s", "2m", "5m")


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
        st.info(t("calibrate.empty"))


def _read(content: bytes, name: str) -> None:
    """Calibrate on an uploaded or measured record; keep the profile in the session."""
    st.session_state.pop("calibrate.error", None)
    try:
        with st.spinner(t("calibrate.fitting")):
            found, profile = fitted(content, name)
    except PlannerError as error:
        st.session_state["calibrate.error"] = str(error)
        return
    assert found.calibration is not None
    keep_profile(profile, found.calibration)
    st.session_state.setdefault("comparisons", {})[profile] = found


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
    for sample in record.samples:
        require_safe(sample.shape.get("model", {}), f"{short_text(name)}: {sample.family}")
    profile = profile_name(record, content)
    return compared(record, profile), profile


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
    budget = st.select_slider(t("calibrate.budget"), BUDGETS, key="calibrate.budget")
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
    """One calibrated device: use it, its curves, its errors, its files."""
    found: Comparison | None = st.session_state.get("comparisons", {}).get(name)
    made = calibrated()[name]
    st.divider()
    st.html(f"<h2>{t('calibrate.profile')} {short_text(name)}</h2>")
    st.caption(markdown(made.source, 300))
    cases = state.current()["cases"]
    left, right = st.columns(2)
    for i, case in enumerate(cases):
        if left.button(t("calibrate.use", label=markdown(case["label"])), key=f"use.{name}.{i}", width="stretch"):
            scenario = state.current()
            tables = scenario["cases"][i]["tables"]
            tables["cluster"] = {"node": name, "num_gpus": made.node.num_gpus}
            tables["framework"] = {"name": name}
            for table in ("price", "layout"):
                tables.pop(table, None)
            state.disclaim(scenario, i, "layout")
            state.rename(scenario, i)
            state.replace(scenario)
            st.session_state["case"] = i
            st.switch_page(st.session_state["pages"]["compare"])
    with right:
        take(t("calibrate.files"), lambda: profile_files(made, name), f"{name}.zip", "application/zip", f"files.{name}")
    if found is None:  # read from a file, or made in another session: its record is not here
        return
    charts.show(*figures(made.fits, found.rows), key=f"calibrate.{name}")
    _fits(made, found)


def figures(fits: Sequence[Fit], rows: Sequence[Row]) -> list[Figure]:
    """Fitted curves over the samples, and steps predicted against measured."""
    found = []
    for name, axis, x, unit, column in (
        ("flops", "tflops_axis", "flops_axis", TERA, 0),
        ("bandwidth", "gb_s_axis", "bytes_axis", GB, 1),
    ):
        group = [fit for fit in fits if fit.points and (fit.name == "memory") == (name == "bandwidth")]
        points = [
            {"group": fit.name, "x": p[column], "y": p[column] / p[2] / unit, "fitted": p[column] / p[3] / unit, "note": note(p)}
            for fit in group
            for p in fit.points
            if p[column] > 0
        ]
        if points:
            worst = max(group, key=lambda fit: fit.median)
            samples = sum(fit.samples for fit in group)
            words = t("calibrate.curve_title", name=worst.name, error=f"{worst.median:.0%}", samples=samples)
            alt = t(f"calibrate.{name}_alt")
            found.append(charts.lines(f"curves-{name}", words, alt, points, x=x, y=axis, logarithmic=True, samples=True))
    for metric, unit, key in (("step_time_s", 1.0, "seconds"), ("peak_allocated_bytes", GIB, "gib"), ("saved_bytes", GIB, "gib")):
        some = [row for row in rows if row.metric == metric]
        if some:
            found.append(_predicted(some, metric, unit, key))
    return found


def note(point: tuple[float, float, float, float]) -> str:
    """A sample's measured and fitted time."""
    return f"{t('calibrate.measured')} {show.duration(point[2])}, {t('calibrate.fitted')} {show.duration(point[3])}"


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


def _fits(made: Calibration, found: Comparison) -> None:
    rows: list[dict[str, Any]] = [
        {
            t("calibrate.fit"): fit.name,
            t("calibrate.samples"): fit.samples,
            t("calibrate.median"): f"{fit.median:.1%}",
            t("calibrate.worst"): f"{fit.worst:.1%}",
        }
        for fit in made.fits
    ]
    st.dataframe(rows, hide_index=True, alt=t("calibrate.fit"))
    if found.refused:
        with st.expander(t("calibrate.refused", count=len(found.refused))):
            for refusal in found.refused:
                st.caption(markdown(f"{refusal.id}: {said(refusal.reason)}", 300))


def profile_files(made: Calibration, name: str) -> bytes:
    """The three profiles as the command line writes them, in an archive."""
    return zipped(profile_texts(made, name))
