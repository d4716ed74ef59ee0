"""A plan as launch files of the framework it was made for, with the prediction as a comment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from planner.common.arguments import as_a
from planner.common.errors import PlannerError, as_text, one_of
from planner.common.files import require_folder, write_texts
from planner.export.accelerate import accelerate_files
from planner.export.common import require_decoder, require_stack, require_usual_update, tool_of
from planner.export.deepspeed import deepspeed_files
from planner.export.megatron import megatron_files
from planner.export.nemo import nemo_files
from planner.export.torchtitan import torchtitan_files
from planner.training.plan import Plan

STACKS: Mapping[str, tuple[Callable[[Plan], dict[str, str]], tuple[str, ...]]] = {
    "megatron": (megatron_files, ("megatron-core", "megatron-bridge", "megatron-2022")),
    "deepspeed": (deepspeed_files, ("deepspeed-zero",)),
    "torchtitan": (torchtitan_files, ("torchtitan", "fsdp")),
    "accelerate-fsdp": (accelerate_files, ("fsdp", "torchtitan")),
    "nemo": (nemo_files, ("megatron-core", "megatron-bridge")),
}


def export_plan(plan: Plan, tool: str) -> dict[str, str]:
    """File names and texts that run ``plan`` by ``tool``.

    Raises PlannerError for an unknown tool, a plan made for another framework (its prediction would not be that of the
    run), one that does not fit, and a layout, precision or model that the tool cannot express.
    """
    plan = as_a(plan, Plan, "plan", "planner.plan")
    tool = tool_of(as_text(tool, "tool"), {name: frameworks for name, (_, frameworks) in STACKS.items()})
    if tool not in STACKS:
        raise PlannerError("export to {0!r}: {1}.", tool, one_of(tool, STACKS))
    if plan.job.kind not in ("pretrain", "finetune"):
        raise PlannerError(
            "export of job.kind = {0!r}: launch files are written for jobs that train all weights; plan with kind "
            "= 'pretrain' or 'finetune'.",
            plan.job.kind,
        )
    make, frameworks = STACKS[tool]
    require_stack(plan, tool, frameworks)
    if tool not in ("deepspeed", "accelerate-fsdp"):  # these wrap any model of transformers
        require_decoder(plan, tool)
    require_usual_update(plan, tool)
    return make(plan)


def write_files(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Write the texts into a folder, made where its parent exists, all of them or none; the paths written."""
    if folder.exists() and not folder.is_dir():
        raise PlannerError("--out {0}: is a file; give a folder.", folder)
    require_folder(folder, "--out")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PlannerError("--out {0}: cannot be made ({1}); give a writable folder.", folder, error.strerror) from None
    texts = {folder / name: text for name, text in files.items()}
    write_texts(texts)
    for path, text in texts.items():
        if text.startswith("#!"):
            path.chmod(path.stat().st_mode | 0o111)
    return list(texts)
