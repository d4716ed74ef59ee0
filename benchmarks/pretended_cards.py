"""Every card's list of training steps on a pretended GPU: what form runs, its peak memory, and the planner's.

``python benchmarks/pretended_cards.py`` prints the table of docs/guide/calibrate.md; ``--write`` puts it there. Nothing is timed:
the device of tests/pretended_cuda.py counts memory, operator by operator. ``--run N`` runs every Nth step (default: all);
the others are only chosen.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from pretended_cuda import CARDS, CONTEXT_BYTES, Card, Pretended  # noqa: E402
from step_memory import predicted  # noqa: E402

from kernels.families.training import make_trainer, stack  # noqa: E402
from kernels.footprint import fitting  # noqa: E402
from kernels.models import Step, gpu_steps  # noqa: E402

BEGIN, END = "<!-- pretended cards -->", "<!-- end of pretended cards -->"
SEED = "MoE 8 x top 2, 1 shared"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One card: steps in their list, steps with a form that fits, whole ones, and errors of the planner's peak."""

    card: Card
    steps: int
    forms: int
    whole: int
    seed: str
    errors: tuple[float, ...]
    refused: int


def line_of(card: Card, every: int) -> Line:
    """Choose every step's form on that card, run every Nth, and set its peak beside the planner's."""
    precision = "bf16" if card.capability >= (8, 0) else "fp16"
    free = card.memory_bytes - CONTEXT_BYTES
    usable = [s for s in gpu_steps() if card.capability >= (8, 0) or s.precision not in ("bf16-pure", "tf32")]
    forms = [fitting(s, s.precision or precision, free)[0] for s in usable]
    seed = next(f for f in forms if f.label == SEED)
    errors, refused = [], 0
    for form in forms[::every]:
        if form.experts == "loop":  # the loop's group sizes are values, and there are none
            continue
        kind = form.precision or precision
        peak = _peak(form, kind, card)
        refused += peak is None
        if peak is not None:
            errors.append(predicted(form, kind, **_stack(form, kind, card)) / peak - 1.0)
    return Line(
        card=card,
        steps=len(gpu_steps()),
        forms=len(forms),
        whole=sum(not f.reduced for f in forms),
        seed=seed.reduced or "whole",
        errors=tuple(errors),
        refused=refused,
    )


def _peak(step: Step, precision: str, card: Card) -> int | None:
    """Highest bytes of a second step; None when it did not fit."""
    with Pretended(card) as device:
        try:
            trainer = make_trainer(step, precision, torch.device("cuda", 0))
            trainer.run()
            device.peak = device.now
            trainer.run()
        except torch.OutOfMemoryError:
            return None
        peak = device.peak
        del trainer
    return peak


def _stack(step: Step, precision: str, card: Card) -> dict[str, object]:
    with Pretended(card):
        return stack(step, precision, torch.device("cuda", 0))


def table(lines: list[Line]) -> str:
    """Markdown."""
    head = (
        "GPU",
        "steps with a form that fits",
        "whole",
        "8 experts, top 2, 1 shared",
        "ran",
        "peak, median error",
        "worst",
    )
    rows = [
        (
            line.card.name,
            f"{line.forms} of {line.steps}",
            str(line.whole),
            line.seed,
            f"{len(line.errors)} of {len(line.errors) + line.refused}",
            f"{median(map(abs, line.errors)):.1%}",
            f"{max(line.errors, key=abs):+.1%}",
        )
        for line in lines
    ]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Print the table, or write it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=int, default=1, metavar="N", help="run every Nth step of each card")
    options.add_argument("--write", action="store_true", help="write the table into docs/guide/calibrate.md")
    given = options.parse_args()
    torch.set_num_threads(1)
    lines = []
    for card in CARDS.values():
        lines.append(line_of(card, given.run))
        print(lines[-1].card.name, f"{len(lines[-1].errors)} steps ran", file=sys.stderr)
    text = table(lines)
    if not given.write:
        print(text)
        return
    page = ROOT / "docs" / "guide" / "calibrate.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
