"""The commands that show what the package knows: models, hardware, scenarios, frameworks, engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from planner.cli.models import families_command, import_command, list_command
from planner.cli.output import none_found, picked, print_json, show, with_words
from planner.cli.tuning import derive_command
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.common.spec import Spec

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]
Search = Annotated[
    str,
    typer.Option("--search", help="Only lines with all of these words, also in names and sources that the table leaves out."),
]

models_app = typer.Typer(help="The catalog of models: list, show, families, import, derive.", no_args_is_help=True)
hardware_app = typer.Typer(help="Accelerators and nodes: list, show.", no_args_is_help=True)
scenarios_app = typer.Typer(help="Shipped scenarios: list, show.", no_args_is_help=True)
frameworks_app = typer.Typer(help="Training software: list, show.", no_args_is_help=True)
engines_app = typer.Typer(help="Serving software: list, show.", no_args_is_help=True)
models_app.command("list")(list_command)
models_app.command("families")(families_command)
models_app.command("import")(import_command)
models_app.command("derive")(derive_command)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="A catalog name, a .toml file, a Hugging Face config.json, or a GGUF file.")],
    as_json: AsJson = False,
) -> None:
    """Show one model: architecture, total and active parameters by block."""
    from planner.model.catalog import load_model
    from planner.model.parameters import parameters_active, parameters_total
    from planner.reports.plans import model_table, parameters_by_block

    model = load_model(name)
    if as_json:
        print_json(
            {
                **model.model_dump(exclude={"provenance"}),
                "family": model.family,
                "assumed": {field: model.provenance[field].source for field in model.assumed()},
                "parameters_total": parameters_total(model),
                "parameters_active": parameters_active(model),
                "parameters_by_block": parameters_by_block(model),
            }
        )
        return
    show(model_table(model), *model.reading_notes)


@hardware_app.command("list")
def hardware_list(search: Search = "", as_json: AsJson = False) -> None:
    """List all accelerators and node types; workstation-4x-NAME is a box of 4 of any accelerator."""
    from planner.hardware.cluster import accelerator_names, load_accelerator, load_node, node_names

    accelerators = [load_accelerator(n) for n in accelerator_names()]
    nodes = [load_node(n) for n in node_names()]
    cards = with_words(accelerators, search, lambda a: " ".join((a.name, a.vendor, a.architecture, *a.aliases)))
    boxes = with_words(nodes, search, lambda n: " ".join((n.name, n.provider, n.accelerator, *n.aliases)))
    if not cards and not boxes:
        raise none_found(search, len(accelerators) + len(nodes))
    accelerators, nodes = cards, boxes
    if as_json:
        print_json(
            {
                "accelerators": [a.model_dump(exclude={"provenance"}) for a in accelerators],
                "nodes": [n.model_dump(include={"name", "provider", "accelerator", "num_gpus"}) for n in nodes],
            }
        )
        return
    from rich.table import Table

    from planner.common.units import GB, GIB, TERA

    table = Table("accelerator", "16-bit TFLOP/s", "memory GiB", "GB/s", "released")
    for a in accelerators:
        peak = a.peak_flops_per_s.get("bf16", a.peak_flops_per_s.get("fp16"))
        table.add_row(
            a.name,
            f"{peak / TERA:,.1f}" if peak else "-",
            f"{a.memory_bytes / GIB:.1f}",
            f"{a.memory_bandwidth_bytes_per_s / GB:,.0f}",
            a.released,
        )
    second = Table("node", "provider", "GPUs", "accelerator", "links")
    for n in nodes:
        second.add_row(n.name, n.provider, str(n.num_gpus), n.accelerator, ", ".join(link.name for link in n.links))
    show(*([table] if accelerators else []), *([second] if nodes else []))


@hardware_app.command("show")
def hardware_show(name: Annotated[str, typer.Argument(help="An accelerator or a node type.")], as_json: AsJson = False) -> None:
    """Show one accelerator or node type, each value with its source."""
    from planner.common.references import spelt
    from planner.hardware.asked import accelerator_named
    from planner.hardware.cluster import load_accelerator, load_node, node_names
    from planner.reports.plans import accelerator_table, node_table

    try:
        spec: Any = load_node(name) if spelt(name) in node_names() else load_accelerator(name)  # GB300 NVL72: as after --on
    except PlannerError as not_an_accelerator:
        try:
            spec = load_node(name)
        except PlannerError:
            if name.endswith(".toml"):
                raise not_an_accelerator from None
            spec = load_accelerator(accelerator_named(name, "name"))  # a part of a name, as after --on
    if as_json:
        print_json(spec.model_dump())
        return
    show(accelerator_table(spec) if hasattr(spec, "peak_flops_per_s") else node_table(spec))


@scenarios_app.command("list")
def scenarios_list(search: Search = "", as_json: AsJson = False) -> None:
    """List the shipped scenarios: their names are accepted wherever a scenario file is."""
    from planner.common.spec import read_table
    from planner.scenarios.shipped import scenario_names, shipped_scenario

    found = [
        {
            "name": name,
            "title": str(read_table(shipped_scenario(name)).get("title", "")),
            "command": "serve" if name.startswith("serving/") else "plan",
        }
        for name in scenario_names()
    ]
    found = picked(found, search, lambda one: f"{one['name']} {one['title']}")
    if as_json:
        print_json({"scenarios": found})
        return
    from rich.table import Table

    table = Table("scenario", "question", pad_edge=False, box=None)
    for one in found:
        table.add_row(one["name"], one["title"])
    show(table)


@scenarios_app.command("show")
def scenarios_show(name: Annotated[str, typer.Argument(help="A shipped scenario; see planner scenarios list.")]) -> None:
    """Print the file of a shipped scenario: a complete example to start from."""
    from planner.scenarios.shipped import shipped_scenario

    print(shipped_scenario(name).read_text(encoding="utf-8"), end="")


@frameworks_app.command("list")
def frameworks_list(search: Search = "", as_json: AsJson = False) -> None:
    """List the training software that is modelled."""
    from planner.workload.framework import framework_names, load_framework

    _list_software("frameworks", [load_framework(name) for name in framework_names()], search, as_json)


@frameworks_app.command("show")
def frameworks_show(
    name: Annotated[str, typer.Argument(help="A framework; see planner frameworks list.")], as_json: AsJson = False
) -> None:
    """Show one framework: what it offers, and each constant with its source."""
    from planner.workload.framework import load_framework

    _show_software(load_framework(name), as_json)


@engines_app.command("list")
def engines_list(search: Search = "", as_json: AsJson = False) -> None:
    """List the serving software that is modelled."""
    from planner.serving.engine import engine_names, load_engine

    _list_software("engines", [load_engine(name) for name in engine_names()], search, as_json)


@engines_app.command("show")
def engines_show(
    name: Annotated[str, typer.Argument(help="An engine; see planner engines list.")], as_json: AsJson = False
) -> None:
    """Show one engine: what it offers, and each constant with its source."""
    from planner.serving.engine import load_engine

    _show_software(load_engine(name), as_json)


def _list_software(what: str, found: list[Any], search: str, as_json: bool) -> None:
    found = picked(found, search, lambda one: f"{one.name} {one.description}")
    if as_json:
        print_json({what: [{"name": s.name, "description": s.description, "features": sorted(s.features)} for s in found]})
        return
    from rich.table import Table

    table = Table("name", "description", pad_edge=False, box=None)
    for spec in found:
        table.add_row(spec.name, spec.description)
    show(table)


def _show_software(spec: Any, as_json: bool) -> None:
    if as_json:
        values = spec.model_dump(exclude={"provenance"})
        sources = {name: source.model_dump() for name, source in spec.provenance.items()}
        print_json({**values, "features": sorted(spec.features), "provenance": sources})
        return
    from rich.table import Table

    table = Table("field", "value", "kind", "source", title=f"{spec.name}: {spec.description}", title_justify="left")
    for name in type(spec).model_fields:
        if name in ("provenance", "name", "description", "features", "before"):
            continue
        source = spec.provenance.get(name)
        table.add_row(name, _plain_value(getattr(spec, name)), source.kind if source else "", source.source if source else "")
    for entry in getattr(spec, "before", ()):
        changes = {**entry.fields, **({"without": entry.without} if entry.without else {})}
        table.add_row(f"before {entry.release}", _plain_value(changes), "published", entry.source)
    show(Message("offers {0}", ", ".join(sorted(spec.features))), table)


def _plain_value(value: Any) -> str:
    """A value as its file states it, without what only Python writes: {...}, None, frozenset."""
    if isinstance(value, Spec):
        value = value.model_dump(exclude_unset=True, exclude={"provenance"})
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_plain_value(one)}" for name, one in value.items())
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(str, value)))
    if isinstance(value, list | tuple):
        return "; ".join(map(_plain_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
