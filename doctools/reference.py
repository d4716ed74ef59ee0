"""The reference pages: command line, fields, JSON, catalog and Python, from the code itself."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
from typing import Any

import typer

import planner
from planner.cli.main import GROUPS, app, main
from planner.common.errors import CODES
from planner.hardware.cluster import accelerator_names, load_accelerator, load_node, node_names
from planner.model.catalog import load_model, model_names
from planner.model.parameters import parameters_active, parameters_total
from planner.reports.schema import fields_markdown
from planner.reports.text import count
from planner.scenarios.fields import TABLES, table_fields, unit_of
from planner.serving.engine import engine_names, load_engine
from planner.workload.framework import framework_names, load_framework

FIELDS = {
    "scenario": (
        "Scenario fields",
        ("cluster", "job", "job.adapter", "job.quantization", "job.teacher", "layout", "price", "run", "cost", "cost.own"),
    ),
    "model-fields": ("Model fields", ("model", "model.variants", "model.towers")),
    "serving-fields": ("Serving fields", ("serving", "load", "serving.prompt", "serving.speculative", "serving.prefill_pool")),
    "hardware-fields": ("Accelerator and node files", ("accelerator", "node", "node.links", "curves")),
    "software-fields": ("Framework and engine files", ("framework", "engine")),
}
"""Page -> (its title, its tables)."""
JSON = {
    "plan": ("plan", "llama-3-70b-h100"),
    "serve": ("serve", "llama-3.1-8b-h100"),
    "run": ("run", "llama-3-70b-h100"),
    "size": ("size", "gpt2", "--for", "lora", "--accelerator", "rtx-4090"),
    "models show": ("models", "show", "gpt2"),
}
"""Command -> the call whose answer shows its names."""
PYTHON = {
    "Plans": ("plan", "plan_many", "candidates", "evaluate", "Plan", "Evaluation"),
    "Questions": (
        "read_scenario",
        "Job",
        "Layout",
        "Layouts",
        "Adapter",
        "Quantization",
        "Teacher",
        "Framework",
        "Model",
        "Cluster",
        "Accelerator",
        "Node",
    ),
    "Searches": ("search", "sweep", "sizes", "on_equal_terms", "ratios", "tuning_choices"),
    "Whole runs": ("expected_run", "WholeRun", "Run", "bill_of", "Bill", "Costs"),
    "Serving": ("serve", "Serving", "Deployment"),
    "Models": ("load_model", "model_names", "derive", "Changes", "trainable_parameters"),
    "Hardware and prices": ("cluster", "load_accelerator", "accelerator_names", "load_node", "node_names", "find_price", "Price"),
    "Software": ("load_framework", "framework_names", "export_plan"),
    "Errors": ("PlannerError",),
}
"""Every public name, by what it is for."""


def pages() -> dict[str, str]:
    """Path in the site -> Markdown."""
    found = {"reference/command-line.md": _command_line(), "reference/json.md": _json(), "reference/python.md": _python()}
    for page, (title, tables) in FIELDS.items():
        sections = [fields_markdown(TABLES[name], table_fields(name)) for name in tables]
        lead = '`planner schema TABLE` prints the same. "-" in the column default: may be left out.'
        found[f"reference/{page}.md"] = "\n\n".join([f"# {title}", lead, *sections]) + "\n"
    found["reference/catalog.md"] = _catalog()
    return found


def undocumented() -> list[str]:
    """Public names, and public methods of public classes, that have no docstring; names that no section of the page lists."""
    listed = {name for names in PYTHON.values() for name in names}
    public = [name for name in planner.__all__ if not name.startswith("_")]
    found = [f"{name} (in no section of doctools.reference.PYTHON)" for name in public if name not in listed]
    for name in public:
        value = getattr(planner, name)
        found += [] if inspect.getdoc(value) else [name]
        if inspect.isclass(value):
            found += [f"{name}.{member}" for member, function in _methods(value) if not inspect.getdoc(function)]
    return found


def _methods(value: type) -> list[tuple[str, Any]]:
    found = []
    for name, member in list(vars(value).items()):  # looking at a member may add one
        function = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            found.append((name, function))
    return found


def _command_line() -> str:
    group = typer.main.get_command(app)
    lines = ["# Command line", "", "`planner COMMAND --help` prints the same.", ""]
    with group.make_context("planner", [], resilient_parsing=True) as context:
        for title, commands in GROUPS.items():
            lines += [f"## {title}", ""]
            for name in commands:
                lines += _command(group.get_command(context, name), context, f"planner {name}", 3)  # type: ignore[attr-defined]
    return "\n".join(lines) + "\n"


def _command(command: Any, parent: Any, path: str, level: int) -> list[str]:
    """A command's section, or one for each command of a group."""
    if hasattr(command, "commands"):
        lines = [f"{'#' * level} {path}", "", _help(command.help), ""]
        for name, inner in command.commands.items():
            lines += _command(inner, parent, f"{path} {name}", level + 1)
        return lines
    lines = [f"{'#' * level} {path}", "", _help(command.help), ""]
    rows = [
        f"| {_names(p)} | {_text(p.help)} | {_default(p)} |"
        for p in command.params
        if p.name != "help" and not getattr(p, "hidden", False)
    ]
    return [*lines, "| argument or option | meaning | default |", "|---|---|---|", *rows, ""] if rows else lines


def _names(parameter: Any) -> str:
    if not parameter.opts or parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`".replace("|", "\\|")
    shown = parameter.metavar or ("" if parameter.is_flag else "VALUE")
    return f"`{', '.join(parameter.opts)}{f' {shown}' if shown else ''}`".replace("|", "\\|")


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "required"
    return "" if value is None or value is False or callable(value) or "Sentinel" in type(value).__name__ else f"`{value}`"


def _help(text: str | None) -> str:
    """A command's help in one paragraph; its examples, which ``--help`` prints line by line, as code."""
    found = []
    for paragraph in (text or "").split("\n\n"):
        _, examples, lines = paragraph.partition("\b\n")
        found.append(", ".join(f"`{line.strip()}`" for line in lines.splitlines()) + "." if examples else _text(paragraph))
    return " ".join(part for part in found if part)


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _json() -> str:
    lines = [
        "# JSON",
        "",
        "Commands with `--json` print one object: `schema_version`, then the answer, in SI units. Names of dimensional",
        "values end in their unit. A name that goes or changes its meaning raises `schema_version`. An error is an object,",
        "too, on standard error: `error` with `code`, `message`, `field`, `value`, `remedy`. `code` is the kind of error:",
        "",
        "| code | the error is |",
        "|---|---|",
        *(f"| `{code}` | {what} |" for code, what in CODES.items()),
    ]
    for name, arguments in JSON.items():
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main([*arguments, "--json"])
        lines += ["", f"## planner {name}", "", f"`planner {' '.join(arguments)} --json`:", ""]
        lines += ["| name | type | unit |", "|---|---|---|", *_leaves("", json.loads(out.getvalue()), 0)]
    return "\n".join(lines) + "\n"


DEEPEST = 3
KINDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "NoneType": "null here",
    "dict": "object",
}


def _leaves(prefix: str, value: dict[str, Any], depth: int) -> list[str]:
    rows = []
    for name, one in value.items():
        path = f"{prefix}{name}"
        if isinstance(one, list):
            first = one[0] if one else None
            rows.append(
                f"| `{path}[]` | list of {KINDS.get(type(first).__name__, 'values') if one else 'values'} | {unit_of(name)} |"
            )
            rows += _leaves(f"{path}[].", first, depth + 1) if isinstance(first, dict) and depth < DEEPEST - 1 else []
        elif isinstance(one, dict) and one and depth < DEEPEST - 1 and len(one) <= 40:
            rows += _leaves(f"{path}.", one, depth + 1)
        else:
            rows.append(f"| `{path}` | {KINDS.get(type(one).__name__, type(one).__name__)} | {unit_of(name)} |")
    return rows


def _python() -> str:
    lines = ["# Python", "", "`import planner` loads nothing else; each name loads on first use.", ""]
    for title, names in PYTHON.items():
        lines += [f"## {title}", ""]
        for name in names:
            value = getattr(planner, name)
            lines += [
                f"::: {value.__module__}.{value.__qualname__}",
                "    options:",
                "      heading_level: 3",
                f'      heading: "planner.{name}"',
                "",
            ]
    return "\n".join(lines) + "\n"


def _catalog() -> str:
    lines = ["# Catalog", "", "## Models", "", "| name | parameters | active | layers | experts |", "|---|---|---|---|---|"]
    for name in model_names():
        model = load_model(name)
        experts = f"{model.num_experts}, {model.top_k} a token" if model.num_experts else ""
        lines.append(
            f"| {name} | {count(parameters_total(model))} | {count(parameters_active(model))} | {model.num_layers} | {experts} |"
        )
    lines += [
        "",
        "## Accelerators",
        "",
        "| name | vendor | memory, GiB | bandwidth, GB/s | bf16, TFLOP/s | power, W |",
        "|---|---|---|---|---|---|",
    ]
    for name in accelerator_names():
        gpu = load_accelerator(name)
        peak = gpu.peak_flops_per_s.get("bf16")
        lines.append(
            f"| {name} | {gpu.vendor} | {gpu.memory_bytes / 2**30:.1f} | {gpu.memory_bandwidth_bytes_per_s / 1e9:,.0f} | "
            f"{'' if peak is None else f'{peak / 1e12:,.0f}'} | {gpu.tdp_w:,.0f} |"
        )
    lines += ["", "## Nodes", "", "| name | provider | accelerators | links |", "|---|---|---|---|"]
    for name in node_names():
        node = load_node(name)
        lines.append(
            f"| {name} | {node.provider} | {node.num_gpus} x {node.accelerator} | {', '.join(link.name for link in node.links)} |"
        )
    for title, names, load in (("Frameworks", framework_names(), load_framework), ("Engines", engine_names(), load_engine)):
        lines += [
            "",
            f"## {title}",
            "",
            "| name | what |",
            "|---|---|",
            *(f"| {n} | {_text(load(n).description)} |" for n in names),
        ]
    return "\n".join(lines) + "\n"
