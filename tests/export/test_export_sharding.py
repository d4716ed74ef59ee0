"""Exported sharding is that of the software that the plan was made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.common.errors import PlannerError
from planner.export.tuners import TUNERS, export_tuning
from planner.launchfiles import read_launch
from planner.workload.framework import framework_names, load_framework
from tests.export.test_export import parsed_by

BY_DEEPSPEED = ("deepspeed-zero", "megatron-deepspeed", "peft-deepspeed", "qwen", "ms-swift", "ms-swift-kbit")
"""What starts DeepSpeed's engine, by its own documentation."""


def tuned(framework: str, zero: int, offload: bool = False, **job: Any) -> planner.Plan:
    return planner.plan(
        model="qwen2.5-0.5b",
        cluster={"node": "dgx-h100", "num_gpus": 4},
        framework=framework,
        job={
            "kind": "lora",
            "adapter": {"rank": 8},
            "precision": "bf16",
            "seq_len": 1024,
            "global_batch_size": 16,
            "num_steps": 100,
            **job,
        },
        layout={"micro_batch_size": 2, "recompute": "full", "zero": zero, "offload_optimizer": offload},
    )


@pytest.mark.parametrize("framework", framework_names())
def test_keys_are_of_the_family_that_the_framework_is(framework: str) -> None:
    """For every framework and tool: DeepSpeed's file and no FSDP, or FSDP and no DeepSpeed; never a stage that nothing says."""
    by_deepspeed = framework in BY_DEEPSPEED
    assert (load_framework(framework).sharder == "deepspeed") == by_deepspeed
    written = 0
    for zero in (0, 1, 2, 3):
        try:
            plan = tuned(framework, zero)
        except PlannerError:  # a stage that it does not have, adapters that it does not train
            continue
        for tool in TUNERS:
            try:
                files = export_tuning(plan, tool)
            except PlannerError:
                assert tool == "torchtune" or not plan.fits or not by_deepspeed
                continue
            written += 1
            text = "\n".join(line for name in files for line in files[name].splitlines() if not line.startswith("#"))
            assert ("deepspeed" in text.lower(), "ds_config.json" in files) == (by_deepspeed, by_deepspeed), (tool, zero)
            assert ("fsdp" in text) == (zero == 3 and not by_deepspeed and tool != "torchtune"), (tool, zero)
            if by_deepspeed:
                config = json.loads(files["ds_config.json"])
                assert config["zero_optimization"]["stage"] == zero
    assert written or not by_deepspeed or framework == "megatron-deepspeed"


@pytest.mark.parametrize("tool", [name for name in TUNERS if name != "torchtune"])
@pytest.mark.parametrize(("zero", "offload"), [(0, False), (1, False), (2, True), (3, True)])
def test_deepspeed_of_a_tool_reads_back(tool: str, zero: int, offload: bool, tmp_path: Path) -> None:
    before = tuned("peft-deepspeed", zero, offload)
    files = export_tuning(before, tool)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    launch = read_launch([tmp_path / name for name in files])
    after = planner.plan(**launch.tables)
    assert after.framework.name == "peft-deepspeed"
    assert (after.layout.zero, after.layout.offload_optimizer) == (zero, offload)
    assert (after.step_time_s, after.peak_total_bytes) == (before.step_time_s, before.peak_total_bytes)


@pytest.mark.parametrize("zero", [0, 2, 3])
def test_deepspeed_itself_reads_a_tools_configuration(zero: int, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: DS_BUILD_OPS=0 pip install deepspeed")
    code = """
import json
import deepspeed.runtime.config as module
module.dist.get_world_size = lambda *_: 4
module.dist.get_rank = lambda *_: 0
given = json.load(open("ds_config.json"))
given["optimizer"]["params"] = {}  # transformers fills what is "auto"
c = module.DeepSpeedConfig(given)
away = c.zero_config.offload_optimizer
print(json.dumps([int(c.zero_optimization_stage), c.train_micro_batch_size_per_gpu, bool(away and away.device == "cpu")]))
"""
    files = export_tuning(tuned("peft-deepspeed", zero, zero > 0), "trl")
    assert parsed_by(code, tmp_path, files) == [zero, 2, zero > 0]


def test_what_only_one_of_them_does_is_refused_of_the_other() -> None:
    with pytest.raises(PlannerError, match="use adamw"):
        export_tuning(tuned("peft-deepspeed", 2, True, optimizer="adamw-8bit"), "trl")
    with pytest.raises(PlannerError, match="its recipes shard by FSDP"):
        export_tuning(tuned("peft-deepspeed", 3), "torchtune")
    with pytest.raises(PlannerError, match=r"framework\.name = peft-deepspeed"):
        export_tuning(tuned("peft", 2), "trl")
