"""Verdicts for people: a table, and the page docs/audit.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.audit.verdicts import WORST_FIRST, Finding, Judgement
from planner.uncertainty.interval import Interval

STYLES = {"cannot be": "bold red", "holds if": "yellow", "holds": "green", "not computed yet": "dim", "out of scope": "dim"}
PAGE = """# Published claims, judged

Made by `planner audit --markdown docs/audit.md`; do not edit by hand. Each line is one number of a claim: what the source
says, our figure with its 90 % interval, and why. A claim's verdict is the worst of its computed numbers.

- **holds**: our figure bears the number out.
- **holds if**: not as stated, but under the condition named.
- **cannot be**: not under our figure, not anywhere in its interval, not under another reading we know of.
- **not computed yet**: a number that the planner should judge and cannot yet. **out of scope**: no cost model can.

"""
FORMAT = """
## Your own claims

`planner audit my-claims.toml` judges a file like `planner/catalog/claims.toml`:

```toml
[scenarios.mine]                       # tables of a scenario; or scenario = "file.toml" below
model = { name = "llama-2-7b" }
cluster = { node = "dgx-a100-80gb" }
job = { seq_len = 4096, global_batch_size = 64, num_tokens = 1_000_000_000 }
[[claims]]
id = "M1"
source = "a vendor's slide"
text = "A billion tokens in two hours"
[[claims.checks]]
what = "hours"
unit = "h"
claimed = 2.0                          # a number; [low, high] with relation = "between"
relation = "at most"                   # equals (within tolerance, 5 % unless given), at most, at least, between
expression = "seconds / 3600"          # arithmetic over the figures
figures = { seconds = { quantity = "plan", field = "run_s", scenario = "mine" } }
why = "It takes {value:.1f} h ({lower:.1f} to {upper:.1f})."
[[claims.checks.variants]]             # another reading, tried when the first fails
condition = "sixteen GPUs work on it"
figures = { seconds = { quantity = "plan", field = "run_s", scenario = "mine", cluster = { num_nodes = 2 } } }
```

Quantities: `plan` (any number of a plan, also total_memory_bytes, state_bytes, needed_over_usable, fits, step_part.NAME),
`run` (any number of a whole run, cause.NAME), `serve` (any number of a deployment with a `[serving]` table, load.ttft_s.p95),
`leanest_memory_bytes`, `parameters_total`, `parameters_active`,
`parameters_of_block`, `model_field`, `forward_flops`, `expert_load`, `usable_memory_bytes`, `memory_bytes`,
`peak_flops_per_s`, `power_w_per_gpu`, `price`, `electricity_usd_per_kwh`, `zero3_crossover_bytes_per_s`, and `given` (a
value with its source). `errors_together = true` for ratios of like figures, whose errors go the same way.
"""


def number(value: float | None) -> str:
    """A figure with four digits.

    >>> number(0.12345), number(86.015625), number(7721.3), number(3.0)
    ('0.1235', '86.02', '7,721', '3')
    """
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def claimed_text(finding: Finding) -> str:
    """What the source says, with its relation."""
    if finding.claimed is None:
        return "-"
    if isinstance(finding.claimed, tuple):
        return f"{number(finding.claimed[0])} to {number(finding.claimed[1])}"
    sign = {"at most": "<= ", "at least": ">= "}.get(finding.relation, "")
    return f"{sign}{number(finding.claimed)}"


def interval_text(interval: Interval | None) -> str:
    """Our figure with its ends; a figure that arithmetic settles stands alone."""
    if interval is None:
        return "-"
    if interval.lower == interval.upper:
        return number(interval.expected)
    return f"{number(interval.expected)} ({number(interval.lower)} to {number(interval.upper)})"


def sentence(finding: Finding) -> str:
    """Why, and under which condition it would hold."""
    if finding.verdict != "holds if":
        return finding.why
    return f"{finding.why} It holds if {finding.condition}: {interval_text(finding.condition_figure)}."


def audit_table(judgements: Sequence[Judgement]) -> RenderableType:
    """One section per claim, one line per number."""
    table = Table(title="claims, judged", title_justify="left", pad_edge=False)
    for name in ("claim", "number", "says", "ours (90 %)", "unit", "verdict", "why"):
        table.add_column(name, overflow="fold")
    for judgement in judgements:
        table.add_section()
        for i, f in enumerate(judgement.findings):
            table.add_row(
                judgement.id if i == 0 else "",
                f.what,
                claimed_text(f),
                interval_text(f.figure),
                f.unit,
                Text(f.verdict, style=STYLES[f.verdict]),
                sentence(f),
            )
    return Group(table, Text(summary(judgements)))


def summary(judgements: Sequence[Judgement]) -> str:
    """How many claims got which verdict."""
    counts = Counter(j.verdict for j in judgements)
    return f"{len(judgements)} claims: " + ", ".join(f"{counts[v]} {v}" for v in WORST_FIRST if counts[v])


def audit_page(judgements: Sequence[Judgement]) -> str:
    """The whole page in Markdown."""
    parts = [PAGE, summary(judgements), ".\n"]
    for judgement in judgements:
        parts.append(f"\n## {judgement.id}: {judgement.verdict}\n\n{_escape(judgement.text)}.\n*{_escape(judgement.source)}*\n\n")
        parts.append("| number | says | ours (90 %) | unit | verdict | why |\n|---|---|---|---|---|---|\n")
        for f in judgement.findings:
            cells = (f.what, claimed_text(f), interval_text(f.figure), f.unit, f.verdict, sentence(f))
            parts.append("| " + " | ".join(_escape(cell) for cell in cells) + " |\n")
    return "".join([*parts, FORMAT])


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
