"""Measured MoE layers and the kernels of a DeepSeek-V3 step beside the rows that price them.

python benchmarks/measured_kernels.py            # print
python benchmarks/measured_kernels.py --write    # docs/kernels.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from planner.common.files import write_text
from planner.evidence.kernel_tables import Compared, deepseek_step, moe_layers

PAGE = Path(__file__).resolve().parent.parent / "docs" / "kernels.md"


def table(found: Sequence[Compared]) -> str:
    """A row for each measured piece of work."""
    lines = ["| what | part | measured, ms | planner, ms | error |", "|---|---|---|---|---|"]
    lines += [f"| {c.name} | {c.part} | {1e3 * c.measured_s:.2f} | {1e3 * c.predicted_s:.2f} | {c.error:+.0%} |" for c in found]
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    layers, step = moe_layers(), deepseek_step()
    near = sum(abs(c.error) <= 0.1 for c in layers)
    return f"""# Kernels

Printed by `python benchmarks/measured_kernels.py --write`. No constant is fitted to these rows.

## One MoE layer on 8 H100

NVIDIA/Megatron-LM@d98e8a64, tests/functional_tests/test_cases/common/moe_perf/baseline.json: forced routing, ep 8, 4,096 tokens a
GPU, fp8 in blocks. A layer alone does not heat the GPU: sustained fractions are 1 here, unlike in training. Median error
{median(abs(c.error) for c in layers):.0%}; {near} of {len(layers)} passes within 10 %.

{table(layers)}

## A step of DeepSeek-V3 on 64 H800

deepseek-ai/profile-data@449602428a, train.json: a forward and a backward chunk of DualPipe, 4 MoE layers each, ep 64, 8 nodes,
fp8, even routing. The profile's computation and exchange run side by side, and the exchange holds some of the processors; rows
are priced alone, and dispatch in 16 bit where DeepSeek sends 8. Casts stand apart, as in the profile. Seconds of one layer,
forward and backward.

{table(step)}
"""


def main() -> None:
    """Print, and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/kernels.md")
    write = parser.parse_args().write
    text = page()
    print(text)
    if write:
        write_text(PAGE, text)


if __name__ == "__main__":
    main()
