"""The command of holding GPUs for years: ``own``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.output import check_plot, print_json, show, tell
from planner.common.errors import PlannerError
from planner.common.message import Message

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]


def own_command(
    on: Annotated[list[str], typer.Argument(metavar="GPUS", help="32xh100, 2xdgx-h100, rtx-4090 ...")],
    years: Annotated[float, typer.Option("--years", help="How many years, at most 10.")] = 5.0,
    use: Annotated[
        str | None,
        typer.Option("--use", metavar="N", help="Share of all hours in which the GPUs work: 0.85, 85%."),
    ] = None,
    rent: Annotated[str | None, typer.Option("--rent", metavar="N", help="Your on-demand dollars per GPU-hour.")] = None,
    preemption: Annotated[
        str | None, typer.Option("--preemption", help="Mean time between preemptions of a spot node: 16h, 30d.")
    ] = None,
    resale: Annotated[
        str | None,
        typer.Option("--resale", metavar="N", help="Share of the book value that a sale brings: 0.5."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field of [cost.own], or pue, power_w_per_gpu or electricity_usd_per_kwh of [cost]; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write dollars by month: .csv, .xlsx ...")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw all ways in one chart.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rent, reserve, spot or own: dollars over the years, the break-even with its interval, and every assumption.

    planner own 64xh100 --years 3 --use 0.6 --set purchase_usd_per_gpu=35000 --plot own.png
    """
    from planner.common.quantities import dollars, share
    from planner.common.tables import check_output, write_table
    from planner.hardware.asked import cluster_table
    from planner.prices.ownership import Ownership
    from planner.studies.holding import holding
    from planner.workload.resolve import as_cluster

    check_plot(plot)
    if out is not None:
        check_output(out)
    fields = _fields(change)
    pue, tariff, power = (fields.pop(name, None) for name in ("pue", "electricity_usd_per_kwh", "power_w_per_gpu"))
    if use is not None:
        used = fields["utilisation"] = share(use, "--use")
        if not 0.0 < used <= 1.0:
            raise PlannerError(
                "--use {0:g}: must be a part of all hours, above 0 and at most 1: 0.6 is 60%.", used, field="--use", value=use
            )
    found = holding(
        as_cluster(cluster_table(" ".join(on))),
        Ownership.build(fields, "cost.own"),
        years=years,
        rent_usd_per_gpu_hour=None if rent is None else dollars(rent, "--rent"),
        preemption_mtbf_s=_duration(preemption),
        resale_share=None if resale is None else share(resale, "--resale"),
        pue=pue,
        electricity_usd_per_kwh=tariff,
        power_w_per_gpu=power,
    )
    if out is not None:
        import pandas as pd

        write_table(out, pd.DataFrame(found.rows()))
    if plot is not None:
        from planner.reports.holding import save_holding

        save_holding(plot, found)
        if not as_json:
            tell(Message("wrote {0}", plot), error=True)
    if as_json:
        print_json(found.to_dict())
        return
    from planner.reports.holding import holding_table

    show(holding_table(found))


def _duration(text: str | None) -> float | None:
    from planner.common.quantities import duration_s

    return None if text is None else duration_s(text, "--preemption")


def _fields(texts: list[str] | None) -> dict[str, float]:
    """FIELD=VALUE pairs as numbers."""
    found = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        try:
            found[name.strip().removeprefix("cost.").removeprefix("own.")] = float(value)
        except ValueError:
            found = {}
            equals = ""
        if not equals:
            raise PlannerError("--set {0}: give FIELD=NUMBER, such as capital_rate=0.08.", text, field="--set", value=text)
    return found
