"""The commands of fine-tuning: ``tune``, ``models derive``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.asked import Given, asking
from planner.cli.options import UNREAD
from planner.cli.output import print_json, show, tell
from planner.cli.progress import progress_bar
from planner.common.errors import PlannerError, meant
from planner.common.message import Message

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]


@asking
def tune_command(
    given: Given,
    rank: Annotated[
        int | None, typer.Option("--rank", help="Rank of the adapters; the scenario's, or 16, when left out.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets", metavar="NAME,...", help="Linear layers that get adapters, separated by commas; or all-linear."
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="METHOD,...", help="Some of full, lora and qlora, separated by commas.")
    ] = "full,lora,qlora",
    table: Annotated[bool, typer.Option("--table", help="Print memory by context length, batch and method instead.")] = False,
    contexts: Annotated[
        str | None, typer.Option("--contexts", metavar="N,...", help="For --table: tokens per sequence, separated by commas.")
    ] = None,
    batches: Annotated[
        str | None, typer.Option("--batches", metavar="N,...", help="For --table: sequences per GPU, separated by commas.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Full tuning, LoRA and QLoRA of a scenario's model side by side: parameters, memory, time, cost."""
    from planner.common.quantities import count, length
    from planner.scenarios.tables import placed
    from planner.studies.tuning_methods import BATCHES, CONTEXTS, METHODS, memory_cells, tuning_choices

    question = given.scenario("finetune", UNREAD["tune"])[0]
    case = question.cases[0]
    wanted = tuple(meant(part.strip(), METHODS) for part in methods.split(",") if part.strip())
    if not wanted:
        raise PlannerError("--methods: is empty; give some of full, lora, qlora.")
    for option, text in (("--contexts", contexts), ("--batches", batches)):
        if text is not None and not table:
            raise PlannerError("{0} {1}: goes with --table.", option, text)
    if table:
        sizes = _whole(contexts, "--contexts", CONTEXTS, length), _whole(batches, "--batches", BATCHES, count)
        with placed(case.where), progress_bar("cells", quiet=as_json) as progress:
            cells = memory_cells(case.asked(), rank, targets, wanted, *sizes, **given.choice(), progress=progress)
        if as_json:
            print_json({"title": question.title, "cells": [cell.to_dict() for cell in cells]})
            return
        from planner.reports.tuning import memory_table

        show(memory_table(question.title, cells))
        return
    with placed(case.where):
        found = tuning_choices(case.asked(), rank, targets, wanted, **given.choice())
    outlooks = [case.outlook(one.plan) for one in found]
    if as_json:
        told = zip(found, outlooks, strict=True)
        print_json({"title": question.title, "methods": [{**t.to_dict(), "outlook": o.to_dict()} for t, o in told]})
        return
    from planner.reports.tuning import tuning_table

    show(tuning_table(question.title, found, outlooks))


def _whole(text: str | None, option: str, otherwise: tuple[int, ...], read: Callable[[str, str], int]) -> tuple[int, ...]:
    """Positive whole numbers with commas between them, as ``read`` reads one."""
    if text is None:
        return otherwise
    try:
        found = tuple(read(part, option) for part in text.split(","))
    except PlannerError:
        found = (0,)
    if min(found) < 1:
        raise PlannerError("{0} {1}: must be positive whole numbers with commas, such as 1,2,4.", option, text)
    return found


def derive_command(
    base: Annotated[str, typer.Argument(help="A catalog name, a .toml file, a Hugging Face config.json, or a GGUF file.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE.toml", help="Write the changed model here.")] = None,
    vocab_size: Annotated[int | None, typer.Option("--vocab-size", help="Words of the vocabulary to keep.")] = None,
    keep_layers: Annotated[
        str | None, typer.Option("--keep-layers", metavar="LAYERS,...", help="Layers to keep, such as 0-15,28-31.")
    ] = None,
    drop_layers: Annotated[
        str | None, typer.Option("--drop-layers", metavar="LAYERS,...", help="Layers to drop, such as 21-24,27.")
    ] = None,
    heads: Annotated[int | None, typer.Option("--width-heads", help="Attention heads to keep.")] = None,
    kv_heads: Annotated[int | None, typer.Option("--width-kv-heads", help="Key-value heads to keep.")] = None,
    ffn: Annotated[int | None, typer.Option("--width-ffn", help="Inner size of the feed-forward block.")] = None,
    expert_ffn: Annotated[int | None, typer.Option("--width-expert-ffn", help="Inner size of an expert.")] = None,
    experts: Annotated[int | None, typer.Option("--experts-kept", help="Experts to keep in each layer.")] = None,
    sparsity: Annotated[float | None, typer.Option("--sparsity", help="Share of single weights set to zero.")] = None,
    as_json: AsJson = False,
) -> None:
    """A smaller model as a what-if: prune layers, heads, widths or experts, trim the vocabulary; parameters, bytes, flops."""
    from planner.model.catalog import load_model
    from planner.studies.what_if import Changes, derive, write_model

    keep, drop = numbers(keep_layers, "--keep-layers"), numbers(drop_layers, "--drop-layers")
    changes = Changes(
        vocab_size=vocab_size,
        keep_layers=keep,
        drop_layers=drop,
        num_heads=heads,
        num_kv_heads=kv_heads,
        ffn_hidden_size=ffn,
        expert_ffn_hidden_size=expert_ffn,
        experts_kept=experts,
        sparsity=sparsity,
    )
    start = load_model(base)
    found = derive(start, changes, out.stem if out is not None else f"{start.name}-derived")
    if out is not None:
        write_model(found.after, out)
        if not as_json:
            tell(Message("wrote {0}", out), error=True)
    if as_json:
        print_json({"model": found.after.model_dump(exclude={"provenance"}), "figures": found.rows(), "notes": list(found.notes)})
        return
    from planner.reports.tuning import derived_table

    show(derived_table(found))


def numbers(text: str | None, option: str) -> tuple[int, ...]:
    """Whole numbers and ranges.

    >>> numbers("0-2,7", "--keep-layers")
    (0, 1, 2, 7)
    """
    if text is None:
        return ()
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
            raise PlannerError("{0} {1}: give layers and ranges with commas between, such as 0-15,28-31.", option, text)
        found += range(int(first), int(last or first) + 1)
    return tuple(found)
