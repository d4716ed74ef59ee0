"""Predict the GPU-hours of published runs, fit the field factor, and write it into the catalog and two pages.

python benchmarks/published_gpu_hours.py            # print
python benchmarks/published_gpu_hours.py --write    # docs/gpu-hours.md, its table in docs/accuracy.md, the catalog's factor
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from planner.common.files import write_text
from planner.evidence.published_runs import compare_published
from planner.lifecycle.field_factor import CATALOG
from planner.reports.accuracy import GPU_HOURS
from planner.reports.gpu_hours import factor, page, section

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Print, and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the pages and the catalog's factor")
    write = parser.parse_args().write
    found = compare_published()
    text = page(found)
    print(text)
    if not write:
        return
    write_text(DOCS / "gpu-hours.md", text)
    accuracy = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    before, _, rest = accuracy.partition(f"{GPU_HOURS}\n")
    after = rest[rest.index("\n## ") + 1 :] if rest else ""
    if not rest:  # an older page without the section: before the constants
        before, _, constants = accuracy.partition("## The constants\n")
        after = f"## The constants\n{constants}"
    write_text(DOCS / "accuracy.md", f"{before}{GPU_HOURS}\n\n{section(found)}\n{after}")
    catalog = CATALOG.read_text(encoding="utf-8")
    fit = factor(found)
    for name in ("factor", "log_spread", "log_error"):
        catalog = re.sub(rf"^{name} = {{ value = [0-9.]+", f"{name} = {{ value = {getattr(fit, name):.3f}", catalog, flags=re.M)
    for name in ("num_runs", "num_organisations"):
        catalog = re.sub(rf"^{name} = \d+", f"{name} = {getattr(fit, name)}", catalog, flags=re.M)
    write_text(CATALOG, catalog)


if __name__ == "__main__":
    main()
