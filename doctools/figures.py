"""Figures of the README that are printed by code: how far off, how often inside, how much there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def accuracy() -> dict[str, str]:
    """The two numbers under the picture, from the held-out runs and the page that the fit writes."""
    import pandas as pd

    from planner.common.data import CATALOG

    held_out = pd.read_parquet(CATALOG / "held_out.parquet")
    steps = held_out[(held_out["metric"] == "step_time") & (held_out["set"] != "finetune")]
    median = float(np.median(np.abs(np.exp(-steps["residual"]) - 1.0)))
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    found = re.search(r"(\d+) figures of (\d+) sources: (\d+) % of figures inside", page)
    assert found is not None, "docs/accuracy.md states no coverage"
    return {
        "en": f"{len(steps):,} measured steps of {steps['source'].nunique()} sources, each predicted by a fit without it: "
        f"**median error {median:.1%}**; **{found[3]} % of {int(found[1]):,} figures inside their 90 % interval** "
        "([docs/accuracy.md](docs/accuracy.md)).",
        "zh": f"{steps['source'].nunique()} 个来源的 {len(steps):,} 个实测训练步，每个都由不含其来源的拟合预测："
        f"**误差中位数 {median:.1%}**；**{int(found[1]):,} 个实测值中 {found[3]} % 落在 90 % 预测区间内**"
        "（[docs/accuracy.md](docs/accuracy.md)）。",
    }


def catalog() -> dict[str, str]:
    """How much the catalog holds."""
    from planner.export import STACKS
    from planner.export.servers import SERVERS
    from planner.export.tuners import TUNERS
    from planner.hardware.cluster import accelerator_names, node_names
    from planner.model.catalog import model_names
    from planner.serving.engine import engine_names
    from planner.workload.framework import framework_names

    models, gpus, nodes = len(model_names()), len(accelerator_names()), len(node_names())
    software, stacks = len(framework_names()) + len(engine_names()), len(STACKS) + len(SERVERS) + len(TUNERS)
    return {
        "en": f"- **{models} models, {gpus} accelerators, {nodes} node types, {software} frameworks and engines**, "
        f"each value with its source; launch files for {stacks} tools.",
        "zh": f"- **{models} 个模型、{gpus} 种加速卡、{nodes} 种节点、{software} 种训练框架和推理引擎**，每个数值都有来源；"
        f"可为 {stacks} 种软件写出启动文件。",
    }


FIGURES: dict[str, Callable[[], dict[str, str]]] = {"accuracy": accuracy, "catalog": catalog}
MARKED = re.compile(r"(<!-- figures of (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def with_figures(text: str, language: str = "en") -> str:
    """The page with today's figures between its marks."""
    return MARKED.sub(lambda m: f"{m[1]}{FIGURES[m[2]]()[language]}\n{m[3]}", text)
