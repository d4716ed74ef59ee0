"""The commands on models beside ``show``: ``list``, ``families``, ``import``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.output import picked, print_json, show
from planner.common.message import Message

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]


def list_command(
    search: Annotated[str, typer.Option("--search", help="Only those with all of these words in name, family or source.")] = "",
    as_json: AsJson = False,
) -> None:
    """List all models of the catalog with their sizes; --search picks some."""
    from planner.model.catalog import load_model, model_names
    from planner.model.parameters import parameters_active, parameters_total

    models = [load_model(name) for name in model_names()]
    found = picked(models, search, lambda m: f"{m.name} {m.family} {m.source}")
    rows = [(m, parameters_total(m), parameters_active(m)) for m in found]
    if as_json:
        listed = [
            {"name": m.name, "family": m.family, "parameters_total": total, "parameters_active": active}
            for m, total, active in rows
        ]
        print_json({"models": listed})
        return
    from rich.table import Table

    from planner.reports.text import count

    table = Table("model", "family", "total", "active", "layers", "hidden", "source")
    for m, total, active in rows:
        table.add_row(m.name, m.family, count(total), count(active), str(m.num_layers), str(m.hidden_size), m.source)
    show(table)


def families_command(as_json: AsJson = False) -> None:
    """List every model_type of a config.json that is read, and those that cannot be planned, with the reason."""
    from planner.model.huggingface import ENCODER_DECODERS, REFUSED, known_types

    read = known_types()
    refused = {**REFUSED, **dict.fromkeys(sorted(ENCODER_DECODERS), "encoder-decoder with cross-attention")}
    if as_json:
        print_json({"read": read, "refused": refused})
        return
    from rich.table import Table

    table = Table("model_type", "read as", title=Message("{0} types of config.json", len(read)))
    for kind, what in read.items():
        table.add_row(kind, what)
    show(table, *(Message("{0}: cannot be planned: {1}", kind, why) for kind, why in refused.items()))


def import_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.json", help="A Hugging Face config.json.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE.toml", help="Write the model here.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the model; the folder's when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a config.json against transformers' own modules, or derive it from them; needs transformers and torch.

    Accepted only where the parameters agree to the last one and the attention is known.
    """
    from planner.cli.module_shapes import imported_model
    from planner.common.spec import read_table
    from planner.model.parameters import parameters_active, parameters_total
    from planner.reports.plans import model_table
    from planner.studies.what_if import model_text, write_model

    model, how = imported_model(
        read_table(config),
        name or (config.stem if config.stem != "config" else Path(os.path.realpath(config)).parent.name),
        str(config),
    )
    if out is not None:
        write_model(model, out)
    if as_json:
        total, active = parameters_total(model), parameters_active(model)
        print_json(
            {"name": model.name, "how": how, "parameters_total": total, "parameters_active": active, "toml": model_text(model)}
        )
        return
    where = Message("written to {0}", out) if out else Message("give -o FILE.toml to keep it")
    text = "{0}, equal to transformers' modules to the last parameter; {1}"
    show(model_table(model), Message(text, Message(how), where))
