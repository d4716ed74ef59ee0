"""Two records of one machine: calibrated on the first, steps of both that no constant saw.

python benchmarks/two_records.py [FIRST.json SECOND.json]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from planner.calibration.comparison import Row, summary, unseen_steps

MEASURED = Path(__file__).resolve().parent.parent / "hardware_profiles" / "measured"
FIRST, SECOND = MEASURED / "amd-epyc-one-thread.json", MEASURED / "amd-epyc-one-thread-later.json"


def line(name: str, rows: Sequence[Row]) -> str:
    """Their median, worst and covered part in words."""
    of = summary(rows)["step_time_s"]
    inside = sum(row.lower <= row.measured <= row.upper for row in rows)
    errors = f"median error {of['median']:.1%}, worst {of['worst']:.0%}"
    return f"{name}: {len(rows)} steps, {errors}, {inside} inside their 90 % intervals"


def main() -> None:
    """Print a line for each record and one for both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="*", type=Path, default=[FIRST, SECOND], metavar="RECORD.json")
    given = parser.parse_args().records
    if len(given) != 2:
        parser.error("RECORD.json: two records are compared, the one to calibrate on and a later one")
    first, second = unseen_steps(*given)
    print(line("first", first), line("second", second), line("both", [*first, *second]), sep="\n")


if __name__ == "__main__":
    main()
