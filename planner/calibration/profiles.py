"""A calibration as profiles on disk: accelerator, node and framework in TOML, each value with its source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.calibration.calibrate import Calibration
from planner.common.errors import PlannerError
from planner.common.files import require_folder, write_texts
from planner.common.spec import Spec
from planner.hardware.curves import load_curves
from planner.workload.framework import load_framework

DERIVED = (
    "provenance",
    "kernel_curves",
    "name",
    "curves",
    "aliases",
    "peak_flops_per_s",
    "links",
    "features",
    "measured_kernels",
)


def write_profiles(calibration: Calibration, path: Path) -> tuple[Path, Path, Path]:
    """Write ``path`` (accelerator) and beside it ``-node`` and ``-framework``; all three or, on an error, none is new.

    Each is used by its path in a scenario (cluster.accelerator, cluster.node, framework.name), or by its name once it lies in
    ``hardware_profiles/accelerators``, ``hardware_profiles/nodes`` and ``planner/catalog/frameworks``.
    """
    node_path, framework_path = (path.with_name(f"{path.stem}-{what}.toml") for what in ("node", "framework"))
    node = calibration.node.replaced(name=node_path.stem, accelerator=str(path.resolve()))
    framework = calibration.framework.replaced(name=framework_path.stem)
    texts = {
        path: _accelerator(calibration),
        node_path: _node(calibration, node),
        framework_path: _framework(calibration, framework),
    }
    write_texts(texts)
    return path, node_path, framework_path


def check_target(path: Path) -> None:
    """Refuse a target before anything is computed."""
    if path.suffix != ".toml":
        raise PlannerError("-o {0}: give a path that ends in .toml.", path)
    require_folder(path, "-o")


def _accelerator(calibration: Calibration) -> str:
    spec, source = calibration.accelerator, calibration.source
    fields: dict[str, Any] = {"name": spec.name, "curves": spec.curves, **_plain(spec)}
    fields["notes"] = f"calibrated on {source}"
    for name in ("memory_bytes", "memory_bandwidth_bytes_per_s", "host_link_bytes_per_s"):
        fields[name] = _sourced(spec, name, source)
    peaks: dict[str, Any] = {d: _sourced(spec, f"peak_flops_per_s.{d}", source, v) for d, v in spec.peak_flops_per_s.items()}
    start = load_curves(spec.curves)
    curves = {
        name: {"value": value, **_origin(calibration, name, start)}
        for name, value in (spec.kernel_curves or {}).items()
        if value is not None
    }
    kept = {json.dumps(name): seconds for name, seconds in spec.measured_kernels.items()}
    tables = {"peak_flops_per_s": peaks, "kernel_curves": curves, **({"measured_kernels": kept} if kept else {})}
    return _toml(fields, tables, f"calibrated on {source}")


def _origin(calibration: Calibration, name: str, start: Spec) -> dict[str, str]:
    """Fitted to the record, or as the base profile has it."""
    if name in calibration.measured:
        return {"kind": "measured", "source": f"fitted to {calibration.source}"}
    if name in start.provenance:
        found = start.provenance[name]
        return {"kind": found.kind, "source": found.source}
    return {"kind": "assumed", "source": "the planner's default: the record holds no samples for it"}


def _sourced(spec: Spec, name: str, source: str, value: Any = None) -> dict[str, Any]:
    """A value with the base profile's provenance, or measured in this record where there is no base."""
    number = getattr(spec, name) if value is None else value
    if name in spec.provenance and name != "memory_bytes":
        found = spec.provenance[name]
        return {"value": number, "kind": found.kind, "source": found.source}
    return {"value": number, "kind": "measured", "source": source}


def _node(calibration: Calibration, node: Any) -> str:
    links = []
    for link in node.links:
        fields = link.model_dump(exclude={"provenance", "collectives"}, exclude_none=True)
        links.append((fields, {name: fit.model_dump() for name, fit in link.collectives.items()}))
    head = {"name": node.name, "accelerator": node.accelerator, "num_gpus": node.num_gpus}
    lines = [f"# calibrated on {calibration.source}", *_lines(head)]
    for fields, collectives in links:
        lines += ["", "[[links]]", *_lines(fields)]
        for name, fit in collectives.items():
            lines += [f"[links.collectives.{name}]", *_lines(fit)]
    return "\n".join(lines) + "\n"


def _framework(calibration: Calibration, framework: Any) -> str:
    catalog = load_framework("kernels")
    fields: dict[str, Any] = {}
    for name, value in framework.model_dump(exclude={"provenance"}).items():
        changed = name in ("host_s_per_kernel", "host_s_per_group", "fragmentation", "context_bytes") and value != getattr(
            catalog, name
        )
        if changed:
            fields[name] = {"value": value, "kind": "measured", "source": calibration.source}
        elif name in catalog.provenance:
            found = catalog.provenance[name]
            fields[name] = {"value": value, "kind": found.kind, "source": found.source}
        elif value is not None:  # TOML has no null: what is not given is not written
            fields[name] = sorted(value) if isinstance(value, frozenset) else value
    return _toml(fields, {}, f"the kernels framework, calibrated on {calibration.source}")


def _plain(spec: Spec) -> dict[str, Any]:
    """Set fields that are no table."""
    values = spec.model_dump(exclude=set(DERIVED), exclude_unset=True)
    return {k: v for k, v in values.items() if v not in ("", None)}


def _toml(fields: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], comment: str) -> str:
    lines = [f"# {comment}", *_lines(fields)]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(fields: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in fields.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)
