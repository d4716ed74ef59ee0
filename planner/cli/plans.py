"""The commands of plans: ``plan``, ``compare``, ``operators``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from planner.cli.asked import Laid, OfLayout, grouped, other_cases, stepping
from planner.cli.guesses import of_field
from planner.cli.launch import Launched, instead_json, plan_of_launch, show_answer
from planner.cli.options import UNREAD, names
from planner.cli.output import check_new, check_plot, print_json, show, tell
from planner.cli.progress import answers_to
from planner.cli.runs import compare_at
from planner.common.errors import PlannerError
from planner.common.message import Message, join_messages

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (SI units) and nothing else.")]
PlotPath = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Also draw memory and step time.")]


def _served_tokens(served: str | None, at: str | None) -> float:
    """Of --served; 0 where it is left out."""
    from planner.common.quantities import count

    if served is not None and at is None:
        raise PlannerError("--served {0}: goes with --at; give both, or leave it out.", served, field="--served", value=served)
    return 0.0 if served is None else float(count(served, "--served"))


@grouped(Launched)
def plan_command(
    given: Launched,
    details: Annotated[bool, typer.Option("--details", help="Print the whole table: memory by kind, step time by part.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also list assumptions, sources and constants.")] = False,
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE.toml", help="Write the question as a scenario.")] = None,
    plot: PlotPath = None,
    as_json: AsJson = False,
) -> None:
    """Answer one configuration: memory, step time, days and dollars.

    \b
    planner plan llama-3-70b-h100
    planner plan my.toml --set job.precision=fp16
    planner plan mixtral-8x7b --on 32xh100 --tokens 100B --seq-len 4k
    planner plan llama-3-8b --lora --on rtx-4090
    planner plan --from launch.sh ds_config.json --on h100

    --from reads scripts, commands and files of Megatron-LM, Megatron-DeepSpeed, Megatron-Bridge, NeMo, GPT-NeoX,
    Nanotron, llm-foundry, torchtitan, DeepSpeed, Accelerate, TRL, axolotl, LLaMA-Factory, ms-swift, torchtune, peft,
    vLLM, SGLang, TensorRT-LLM and llama.cpp.
    """
    check_plot(plot)
    check_new(write)
    if given.launch_files:
        plan_of_launch(given, details=details, explain=explain, write=write, plot=plot, as_json=as_json)
        return
    question, usual = given.scenario()
    case = question.cases[0]
    planned = case.plan(**given.choice())
    answer = case.under_experts(planned)
    if write is not None:
        from planner.common.files import write_text
        from planner.scenarios.quick import scenario_toml

        write_text(write, scenario_toml(question))
        tell(Message("wrote {0}", write), error=True)
    if plot is not None:
        _draw(plot, question.title, [case.label], [answer], quiet=as_json)
    outlook = case.outlook(planned)
    if as_json:
        print_json(
            {
                "label": case.label,
                "usual": list(usual),
                **answer.to_dict(),
                "outlook": outlook.to_dict(),
                **instead_json(case, answer, given.choice()["allow"]),
            }
        )
        return
    notes = (*usual, *other_cases(question))
    show_answer(question.title, case, answer, notes, outlook, details=details, explain=explain, allow=given.choice()["allow"])


@dataclass(frozen=True, kw_only=True)
class Compared(Laid):
    """Questions side by side: of several models, on several GPUs."""

    on: Annotated[
        str | None,
        typer.Option("--on", metavar="GPUS,...", help="32xh100, rtx-4090 ...; several side by side: 8xh100,16xa100-80gb."),
    ] = None


@grouped(Compared)
def compare_command(
    given: Compared,
    more: Annotated[list[str] | None, typer.Argument(metavar="[SCENARIO|MODEL]...", help="More of them, side by side.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also list the assumed constants.")] = False,
    plot: PlotPath = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", help="Make the others equal to the first in loss, flops, dollars, days, active or total (parameters)."
        ),
    ] = None,
    served: Annotated[
        str | None,
        typer.Option(
            "--served", metavar="TOKENS", help="With --at: tokens that will be served; the best dense model pays for them too."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer all cases of scenarios, or several models, side by side.

    \b
    planner compare my.toml
    planner compare mixtral-8x7b llama-2-13b --on 32xh100 --tokens 100B
    planner compare llama-3-8b --on 8xh100,8xh200 --tokens 100B
    planner compare mixtral-8x7b --on 32xh100 --tokens 100B --at loss

    With --at the other cases are brought to the loss, flops, dollars, days, active or total parameters of the first; a single
    mixture is compared with a dense model of its shape.
    """
    from planner.hardware.asked import several_gpus

    check_plot(plot)
    served_tokens = _served_tokens(served, at)
    places: list[str | None] = [None] if given.on is None else [*(names(given.on) or [given.on])]
    targets = (given.target, *(more or ()))
    for word in targets:
        if right := of_field(word, ("--set",)):
            raise PlannerError("{0}: a field stands after an option: {1}.", word, right, code="usage", value=word)
    if given.on and more and several_gpus(whole := ",".join([given.on, *more])):
        raise PlannerError("{0}: a list stands in one word: --on {1}.", more[0], whole, code="usage", field="--on", value=more[0])
    asked = [replace(given, target=target, on=on).scenario() for on in places for target in targets]
    questions, usual = [question for question, _ in asked], dict.fromkeys(note for _, notes in asked for note in notes)
    cases = [case for question in questions for case in question.cases]
    title = join_messages(" | ", [question.title for question in questions])
    if len(places) > 1:  # the GPUs tell the cases apart, and the models where there are several
        shown = [on if len(targets) == 1 else f"{target}, {on}" for on in places for target in targets]
        cases = [
            replace(case, label=f"{name}: {case.label}" if len(question.cases) > 1 else str(name))
            for name, question in zip(shown, questions, strict=True)
            for case in question.cases
        ]
    labels = [case.label for case in cases]
    if at is not None:
        plans = [case.plan(**given.choice()) for case in cases]
        compare_at(cases, plans, at, title, plot, served_tokens=served_tokens, as_json=as_json)
        return
    _check_several(cases, given.target)
    planned = answers_to(cases, lambda case: case.plan(**given.choice()), quiet=as_json)
    answers = [case.under_experts(answer) for case, answer in zip(cases, planned, strict=True)]
    if plot is not None:
        _draw(plot, title, labels, answers, quiet=as_json)
    outlooks = [case.outlook(answer) for case, answer in zip(cases, planned, strict=True)]
    from planner.scenarios.scenario import over_first

    if as_json:
        answered = zip(labels, answers, outlooks, strict=True)
        named = [{"label": label, **a.to_dict(), "outlook": outlook.to_dict()} for label, a, outlook in answered]
        for case, ratios in zip(named[1:], over_first(answers, outlooks), strict=True):
            case["over_first"] = {name: found.to_dict() for name, found in ratios.items()}
        print_json({"title": title, "cases": named})
        return
    from planner.reports.plans import differences, plan_notes, plans_table

    notes = plan_notes(labels, answers, explain=explain)
    show(plans_table(title, labels, answers, outlooks), differences(labels, over_first(answers, outlooks)), notes, *usual)


@stepping
def operators_command(given: OfLayout, as_json: AsJson = False) -> None:
    """Show the operators behind a plan: one GPU, one micro-batch, one layer of each kind."""
    from planner.performance.block_cost import measured_rows
    from planner.performance.evaluation import operator_table
    from planner.reports.plans import operators_table, row_dict
    from planner.workload.layout import as_columns

    case = given.scenario(unread=UNREAD["operators"])[0].cases[0]
    answer = case.plan(**given.choice())
    columns = as_columns(answer.layout, answer.cluster.num_gpus)
    table = operator_table(answer.question, columns)
    rows, kept = table.rows(), measured_rows(table, answer.cluster)
    if as_json:
        sources = [{"provenance": "measured"} if i in kept else {} for i in range(len(rows))]
        said = [{**row_dict(row), **source} for row, source in zip(rows, sources, strict=True)]
        print_json({"label": case.label, "layout": answer.layout.label, "rows": said})
        return
    title = Message("{0}: {1}, one GPU, one micro-batch, one layer", case.label, answer.layout.label)
    show(operators_table(title, rows, kept))


def _check_several(cases: list[Any], path: str) -> None:
    if len(cases) < 2:
        raise PlannerError(
            "{0}: holds a single case; add a [[compare]] table, give a second scenario or model, or several GPUs: --on "
            "8xh100,8xh200 (planner plan answers one case).",
            path,
        )


def _draw(path: Path, title: str, labels: list[str], answers: list[Any], *, quiet: bool) -> None:
    from planner.reports.plots import save_comparison

    save_comparison(path, title, labels, answers)
    if not quiet:
        tell(Message("wrote {0}", path), error=True)
