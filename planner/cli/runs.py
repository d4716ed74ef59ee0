"""The commands of whole runs, prices and claims: ``run``, ``prices``, ``audit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from planner.cli.asked import Laid, grouped
from planner.cli.output import picked, tell
from planner.cli.progress import answers_to, progress_bar
from planner.common import clock
from planner.common.errors import PlannerError, meant, near, one_of
from planner.common.files import require_folder
from planner.common.message import Message, join_messages
from planner.common.translation import LANGUAGES, spoken_language

Currency = Annotated[str, typer.Option("--currency", help="Print in this currency (EUR, CNY, ...) instead of dollars.")]

prices_app = typer.Typer(help="Dated quotes of GPU-hours.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]


def _json(value: Any) -> None:
    from planner.cli.output import print_json

    print_json(value)


def _tables(*renderables: Any) -> None:
    from planner.cli.output import show

    show(*renderables)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a run writes beside its answer."""

    months: Annotated[
        Path | None, typer.Option("--months", metavar="FILE", help="Write dollars by month: .csv, .xlsx, .parquet, .json.")
    ] = None
    focus: Annotated[Path | None, typer.Option("--focus", metavar="FILE", help="Write the bill in the columns of FOCUS.")] = None
    xlsx: Annotated[
        Path | None,
        typer.Option("--xlsx", metavar="FILE.xlsx", help="Write a workbook: bill, months, what moves it, assumptions."),
    ] = None
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw dollars by month.")] = None
    tags: Annotated[
        str, typer.Option("--tags", metavar="KEY=VALUE,...", help="Tags of the bill's rows, such as team=nlp,project=a.")
    ] = ""
    currency: Currency = "USD"

    def check(self) -> None:
        """Refuse what cannot be written before anything is computed."""
        from planner.cli.output import check_plot
        from planner.common.tables import check_output

        for option, path in (("--months", self.months), ("--focus", self.focus), ("--xlsx", self.xlsx)):
            if path is not None:
                check_output(path, option)
        if self.xlsx is not None and self.xlsx.suffix.lower() != ".xlsx":
            raise PlannerError("--xlsx {0}: give a path that ends in .xlsx.", self.xlsx)
        check_plot(self.plot)
        if self.tags and self.focus is None and self.xlsx is None:
            raise PlannerError("--tags belongs to --focus and --xlsx; give one of them, or leave it out.")
        self.tag_table()

    def tag_table(self) -> dict[str, str]:
        """KEY=VALUE pairs."""
        parts = [part.partition("=") for part in self.tags.split(",") if part]
        if any(not key or not value for key, _, value in parts):
            raise PlannerError(
                "--tags = {0!r}: write KEY=VALUE pairs with commas between them, such as team=nlp,project=a.", self.tags
            )
        return {key: value for key, _, value in parts}

    def write(self, priced: Sequence[tuple[str, Any, Any]], swings: Mapping[str, Sequence[Any]]) -> None:
        """All files asked for; PlannerError where nothing has a price."""
        paths = {"--months": self.months, "--focus": self.focus, "--xlsx": self.xlsx, "--plot": self.plot}
        asked = [name for name, path in paths.items() if path is not None]
        if not asked:
            return
        if not priced:
            raise PlannerError("{0}: no case has a price; give price.usd_per_gpu_hour.", asked[0])
        import pandas as pd

        from planner.common.tables import write_table, write_workbook
        from planner.lifecycle.sensitivity import cash_flow
        from planner.prices.currency import exchange_rate
        from planner.reports.focus import focus_table
        from planner.reports.workbook import bill_sheets

        rate, tags = exchange_rate(self.currency, "--currency"), self.tag_table()
        flows = {label: cash_flow(run, bill) for label, run, bill in priced}
        if self.months is not None:
            rows = [{"case": label, **asdict(m), "total_usd": m.total_usd} for label, flow in flows.items() for m in flow]
            write_table(self.months, pd.DataFrame(rows))
        if self.focus is not None:
            write_table(self.focus, pd.DataFrame(focus_table(priced, clock.today(), tags, rate)))
        if self.xlsx is not None:
            write_workbook(self.xlsx, bill_sheets(priced, flows, swings, rate, tags))
        if self.plot is not None:
            from planner.reports.cash_flow import save_cash_flow

            save_cash_flow(self.plot, flows, {label: bill for label, _, bill in priced})


@grouped(Laid, Written)
def run_command(
    given: Laid,
    written: Written,
    more: Annotated[list[str] | None, typer.Argument(metavar="[SCENARIO]...", help="More scenarios, side by side.")] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a whole training run: days including failures and checkpoints, cost, energy, CO2.

    Reads the tables [run] and [cost] of the scenario besides those that planner plan reads.
    """
    from planner.lifecycle.sensitivity import tornado
    from planner.prices.currency import exchange_rate

    written.check()
    rate = exchange_rate(written.currency, "--currency")
    asked = [replace(given, target=target).scenario() for target in (given.target, *(more or ()))]
    questions, usual = [question for question, _ in asked], dict.fromkeys(note for _, notes in asked for note in notes)
    cases = [case for question in questions for case in question.cases]
    runs = answers_to(cases, lambda case: case.whole_run(**given.choice()), quiet=as_json)
    bills = [case.bill(run) for case, run in zip(cases, runs, strict=True)]
    labels = [case.label for case in cases]
    priced = [(label, run, bill) for label, run, bill in zip(labels, runs, bills, strict=True) if bill is not None]
    swings = {label: tornado(run, bill) for label, run, bill in priced}
    written.write(priced, swings)
    if as_json:
        _json(
            {
                "exchange_rate": vars(rate),
                "cases": [
                    {
                        "label": label,
                        **run.to_dict(),
                        "bill": None if bill is None else bill.to_dict(),
                        "tornado": [asdict(swing) for swing in swings.get(label, ())],
                    }
                    for label, run, bill in zip(labels, runs, bills, strict=True)
                ],
            }
        )
        return
    from planner.reports.whole_run import lines_table, run_table, tornado_table

    title = join_messages(" | ", [question.title for question in questions])
    lines = [lines_table(label, bill) for label, _, bill in priced]
    tornados = [tornado_table(label, found) for label, found in swings.items()]
    _tables(run_table(title, labels, runs, bills, rate), *lines, *tornados, *usual)


@prices_app.command("list")
def prices_list(
    as_json: AsJson = False,
    term: Annotated[str | None, typer.Option("--term", help="on-demand, spot, reserved-1-year, ...")] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="Only this provider.")] = None,
    currency: Currency = "USD",
    search: Annotated[
        str,
        typer.Option("--search", help="Only lines with all of these words, also in names and sources that the table leaves out."),
    ] = "",
) -> None:
    """All quotes, newest first within each accelerator."""
    _print_prices("prices per GPU-hour", None, term, provider, currency, as_json, search)


@prices_app.command("show")
def prices_show(
    accelerator: Annotated[str, typer.Argument(help="An accelerator; see planner hardware list.")],
    as_json: AsJson = False,
    currency: Currency = "USD",
) -> None:
    """What one accelerator costs: by term and class of provider with intervals, all quotes, purchase prices."""
    from planner.hardware.asked import accelerator_named

    name = accelerator_named(accelerator, "accelerator")
    _print_prices(name, name, None, None, currency, as_json)


def _print_prices(
    title: str, accelerator: str | None, term: str | None, provider: str | None, currency: str, as_json: bool, search: str = ""
) -> None:
    from planner.prices.currency import exchange_rate
    from planner.prices.market import class_prices, find_price
    from planner.prices.ownership import purchases
    from planner.prices.price import TERMS, load_prices

    term = None if term is None else meant(term, TERMS)
    if term is not None and term not in TERMS:
        raise PlannerError("--term {0}: {1}.", term, one_of(term, TERMS))
    found = [p for p in load_prices() if accelerator in (None, p.accelerator) and term in (None, p.term)]
    if provider is not None:
        known = sorted({p.provider for p in found})
        found = [p for p in found if p.provider.lower() == provider.lower()]
        if not found:
            raise PlannerError("--provider {0}: no such quotes; {1}.", provider, near(provider, known))
    found = (
        picked(found, search, lambda p: f"{p.accelerator} {p.term} {p.provider} {p.region} {p.item} {p.source}")
        if search
        else found
    )
    found.sort(key=lambda p: (p.accelerator, p.term, [-ord(c) for c in p.date], p.usd_per_gpu_hour))
    bought = [p for p in purchases() if p.accelerator == accelerator]
    rate = exchange_rate(currency, "--currency")
    answers = {} if accelerator is None else {name: find_price(accelerator, term=name) for name in TERMS}
    classes = {} if accelerator is None else class_prices(accelerator)
    if as_json:
        one = {
            "by_term": {name: p.to_dict() for name, p in answers.items()},
            "by_class": {name: p.to_dict() for name, p in classes.items()},
            "purchase": [vars(p) for p in bought],
        }
        _json({"rent": [p.to_dict() for p in found], "exchange_rate": vars(rate), **(one if accelerator else {})})
        return
    from rich.table import Table

    from planner.reports.whole_run import market_table, prices_table

    tables: list[Any] = [market_table(answers, classes, rate)] if answers else []
    tables.append(prices_table(title, found, clock.today(), rate))
    if bought:
        table = Table("$ per GPU", "covers", "date", "source", title="purchase", title_justify="left", pad_edge=False)
        for p in sorted(bought, key=lambda p: p.date, reverse=True):
            covers = "GPU alone" if p.covers == "card" else p.covers
            table.add_row(f"{p.usd_per_gpu:,.0f}", covers, p.date, p.source)
        tables.append(table)
    _tables(*tables)


@prices_app.command("import")
def prices_import(
    path: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Quotes, one a line; see docs/guide/prices.md.")],
    as_json: AsJson = False,
) -> None:
    """Check a file of quotes and add it to your table; a file with any bad line changes nothing."""
    from planner.prices.price_tables import import_prices

    done = import_prices(path, clock.today())
    if as_json:
        _json({**vars(done), "path": str(done.path)})
        return
    text = "{0} new quotes and {1} replaced in {2}, which now holds {3}."
    tell(Message(text, done.new, done.replaced, done.path, done.total))


@prices_app.command("refresh")
def prices_refresh(as_json: AsJson = False) -> None:
    """Fetch today's quotes from the gpuhunt catalog (the extra `prices`); without it the old table stays."""
    from planner.prices.price_tables import refresh_prices

    done, left_out = refresh_prices(clock.today())
    if as_json:
        _json({**vars(done), "path": str(done.path), "left_out": left_out})
        return
    text = (
        "{0} new quotes and {1} replaced in {2}, which now holds {3}; {4} offers were left out: not in the hardware "
        "catalog, the same twice, or unclear which board they are."
    )
    tell(Message(text, done.new, done.replaced, done.path, done.total, left_out))


def audit_command(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[ID|CLAIMS.toml]...", help="Claims by identifier, or your own file of claims.")
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE.md", help="Write the page instead.")] = None,
    language: Annotated[
        str | None, typer.Option("--language", metavar="en|zh", help="Language of the table and of the page; that of --lang.")
    ] = None,
) -> None:
    """Judge published claims: holds, holds if, cannot tell, cannot be; with our figure, its interval and why."""
    from planner.audit.verdicts import audit_articles
    from planner.reports.audit import audit_page, audit_table

    files = [Path(name) for name in what or [] if name.endswith(".toml")]
    ids = [name for name in what or [] if not name.endswith(".toml")]
    if len(files) > 1:
        raise PlannerError("{0}: give one file of claims at a time.", files[1])
    if markdown is not None and as_json:
        raise PlannerError("--markdown and --json exclude each other; give one.")
    if markdown is not None:
        require_folder(markdown, "--markdown")
    language = language or spoken_language()
    if language not in LANGUAGES:
        raise PlannerError("--language = {0!r}: use en or zh.", language)
    with progress_bar("articles", quiet=as_json) as progress:
        readings = audit_articles(ids, files[0] if files else None, progress)
    if as_json:
        articles = [r.to_dict() for r in readings if r.article.title]
        _json({"articles": articles, "claims": [j.to_dict() for r in readings for j in r.judgements]})
    elif markdown is not None:
        from planner.common.files import write_text

        write_text(markdown, audit_page(readings, language))
        tell(Message("wrote {0}", markdown))
    else:
        _tables(audit_table(readings, language))


def compare_at(
    cases: Sequence[Any], plans: list[Any], at: str, title: str, plot: Path | None, *, served_tokens: float, as_json: bool
) -> None:
    """planner compare --at: the other cases on the first one's terms."""
    from planner.studies.equal_terms import TERMS, on_equal_terms

    at = meant(at, TERMS)
    if at not in TERMS:
        raise PlannerError("--at {0}: {1}.", at, one_of(at, TERMS))
    runs, costs = ([case.tables.get(name) or {} for case in cases] for name in ("run", "cost"))
    sides = on_equal_terms([case.label for case in cases], plans, at, runs=runs, costs=costs, served_tokens=served_tokens)
    if plot is not None:
        from planner.reports.equal_terms import save_equal

        save_equal(plot, title, at, sides)
        if not as_json:
            tell(Message("wrote {0}", plot), error=True)
    if as_json:
        from planner.studies.equal_terms import law_notes

        _json({"title": title, "at": at, "cases": [s.to_dict() for s in sides], "laws": law_notes()})
        return
    from planner.reports.equal_terms import equal_table

    _tables(equal_table(title, at, sides))
