"""What every export shares: refusals, the prediction as a comment, the launcher's lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.common.errors import PlannerError, meant
from planner.common.message import Message, join_messages
from planner.common.units import DAY_S, GIB
from planner.common.version import VERSION
from planner.export.carried import carried_lines
from planner.serving.engine import engine_family, resolve_engine
from planner.training.plan import Plan
from planner.workload.framework_names import framework_of_name, without_release


def tool_of(name: str, tools: Mapping[str, tuple[str, ...]]) -> str:
    """The one of ``tools`` (each with the frameworks that it runs, its own first) that a name means: in any case and marks, or by
    what people call the software; else the name itself, as of a release: files are written for one.

    >>> tool_of("TorchTitan", {"torchtitan": ("torchtitan", "fsdp")}), tool_of("Megatron-LM", {"megatron": ("megatron-core",)})
    ('torchtitan', 'megatron')
    >>> tool_of("TRT-LLM", {"vllm": (), "tensorrt-llm": ()})
    'tensorrt-llm'
    >>> tool_of("blue", {"megatron": ("megatron-core",)}), tool_of("megatronlm2", {"megatron": ("megatron-core",)})
    ('blue', 'megatronlm2')
    """
    found = meant(name, tools)
    if found in tools:
        return found
    server = engine_family(resolve_engine(name) or name)
    if server in tools:
        return server
    if without_release(name)[1]:
        return name
    try:
        software = framework_of_name(name, "--to", None)
    except PlannerError:  # known, and not one of these, or several
        return name
    return next((tool for tool, runs in tools.items() if software and software["name"] == next(iter(runs), "")), name)


def refuse(stack: str, what: str, remedy: str) -> PlannerError:
    """The error for what a tool cannot do."""
    return PlannerError("export to {0}: {1}; {2}.", stack, what, remedy)


def require_stack(plan: Plan, stack: str, frameworks: Sequence[str]) -> None:
    """Refuse a plan made for another framework, or one that does not fit."""
    if plan.framework.name not in frameworks:
        raise refuse(
            stack,
            Message("the plan was made for {0}, whose memory and time are others", plan.framework.name),
            Message("plan with framework.name = {0}", " or ".join(frameworks)),
        )
    if not plan.fits:
        raise refuse(
            stack,
            Message("the plan does not fit ({0})", join_messages("; ", plan.reasons)),
            "plan a layout that fits, or leave it out",
        )


def require_usual_update(plan: Plan, stack: str) -> None:
    """Refuse an optimizer in backward, and multi-token prediction, where the tool has none."""
    if plan.job.multi_token_prediction and stack != "megatron":
        raise refuse(
            stack, "job.multi_token_prediction has no switch in this framework", "export to Megatron-LM, or leave it out"
        )
    if plan.job.optimizer_in_backward:
        raise refuse(stack, "job.optimizer_in_backward has no switch in this framework", "export to torchtune, or leave it out")


def require_decoder(plan: Plan, stack: str) -> None:
    """Refuse an encoder-decoder, or layers that attend to images, where the tool trains decoders of text."""
    if plan.model.reads_images:
        raise refuse(
            stack,
            Message("layers of {0} attend to images, and it trains decoders of text", plan.model.name),
            "export to accelerate-fsdp, deepspeed or peft",
        )
    if plan.model.cross_attention:
        raise refuse(
            stack,
            Message("{0} is an encoder-decoder, and it trains decoders", plan.model.name),
            "export to accelerate-fsdp, deepspeed or peft",
        )


def forbid(plan: Plan, stack: str, **fields: object) -> None:
    """Refuse layouts in which one of ``fields`` differs from the only value that the tool offers."""
    for name, value in fields.items():
        given = getattr(plan.layout, name)
        if given != value:
            raise refuse(stack, Message("layout.{0} = {1!r} cannot be expressed", name, given), Message("use {0!r}", value))


def gpus_per_node(plan: Plan) -> int:
    """GPUs of a node that the run uses."""
    return plan.num_gpus // plan.cluster.num_nodes


def degrees(plan: Plan) -> dict[str, int]:
    """Data-parallel ranks and the ranks that ZeRO shards over: dp, ranks, shard, replicate."""
    dp = plan.layout.dp or plan.num_gpus // (plan.layout.tp * plan.layout.pp * plan.layout.cp)
    ranks = dp * plan.layout.cp
    shard = plan.layout.shard_group_size or ranks
    return {"dp": dp, "ranks": ranks, "shard": shard, "replicate": ranks // shard}


def chunk_sizes(plan: Plan) -> list[int]:
    """Layers of each pipeline chunk in the order of the model, as planned (``planner.performance.pipeline.stages``)."""
    chunks = plan.layout.pp * plan.layout.vpp
    base, extra = divmod(plan.model.num_layers, chunks)
    return [base + (1 if 1 <= c <= extra else 0) for c in range(chunks)]


def comment(plan: Plan, checked: str, extra: Sequence[str] = (), mark: str = "# ") -> str:
    """The question and the prediction, one commented line each; the release that the file was ``checked`` against.

    ``extra``: fields of the job that the file's options do not hold (``carried_lines``).
    """
    lines = [
        f"{plan.model.name} on {plan.cluster.name}, {plan.framework.name}, {plan.job.precision}, {plan.job.optimizer}",
        f"layout: {plan.layout.label}",
        f"planner {VERSION} predicts: {plan.step_time_s:.4g} s a step, {plan.tokens_per_s_per_gpu:,.0f} tokens/s per "
        f"GPU, MFU {plan.mfu:.1%}, {plan.peak_total_bytes / GIB:.1f} of {plan.usable_bytes / GIB:.1f} GiB per GPU",
    ]
    if plan.run_s is not None:
        cost = "" if plan.cost_usd is None else f", ${plan.cost_usd:,.0f}"
        lines.append(f"the whole run: {plan.run_s / DAY_S:.2f} days, {plan.gpu_hours:,.0f} GPU-hours{cost}")
    lines.append(f"written for {checked}")
    return "".join(f"{mark}{line}\n" for line in lines) + carried_lines(plan, extra, mark)


def torchrun(plan: Plan) -> list[str]:
    """The launcher: one process per GPU; NODE_RANK and MASTER_ADDR come from the environment."""
    return [
        "torchrun",
        f"--nnodes {plan.cluster.num_nodes}",
        f"--nproc-per-node {gpus_per_node(plan)}",
        '--node-rank "${NODE_RANK:-0}"',
        '--master-addr "${MASTER_ADDR:-localhost}"',
        '--master-port "${MASTER_PORT:-29500}"',
    ]


def script(plan: Plan, checked: str, words: Sequence[str], extra: Sequence[str] = ()) -> str:
    """A bash script with the prediction; further arguments of the caller are handed on."""
    body = " \\\n  ".join([*words, '"$@"'])
    return f"#!/usr/bin/env bash\n{comment(plan, checked, extra)}set -euo pipefail\n\n{body}\n"


def options(pairs: dict[str, object], prefix: str = "--", joiner: str = " ") -> list[str]:
    """Command-line options: True is a bare flag, None and False are left out."""
    words = []
    for name, value in pairs.items():
        if value is True:
            words.append(f"{prefix}{name}")
        elif value is not None and value is not False:
            words.append(f"{prefix}{name}{joiner}{value}")
    return words


def num_steps(plan: Plan) -> int | None:
    """Optimizer steps of the run, None without a length."""
    return None if plan.num_steps is None else max(round(plan.num_steps), 1)
