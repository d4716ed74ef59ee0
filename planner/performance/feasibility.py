"""Which layouts are possible at all: rules with a mask over layouts and a sentence that names field, value and remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.common.answerable import require_answerable
from planner.common.arrays import Mask
from planner.common.errors import PlannerError
from planner.common.message import Message
from planner.hardware.cluster import require_vendor
from planner.model.architecture import Model
from planner.model.mixers import state_heads
from planner.operators.teacher import teacher_model
from planner.workload.framework import Feature, Framework, framework_names, load_framework, mixes_time
from planner.workload.job import Job
from planner.workload.layout import Layout, Layouts, Recompute, Schedule
from planner.workload.precision import matmul_dtype, plain_optimizer
from planner.workload.question import Question


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A short reason for tables, the layouts that break the rule, and the sentence for one of them."""

    reason: str
    broken: Mask
    message: Callable[[Layout], str]


def a_divisor(number: int) -> str:
    """What to choose where only divisors of a number will do, for messages.

    >>> a_divisor(12), a_divisor(1)
    ('one of 1, 2, 3, 4, 6, 12', '1')
    """
    found = [str(d) for d in range(1, number + 1) if number % d == 0]
    return found[0] if len(found) == 1 else Message("one of {0}", ", ".join(found))


def check_sizes(model: Model, job: Job) -> None:
    """Raise PlannerError for sizes far beyond all that was ever trained, which would be answered with numbers from nowhere."""
    require_answerable("job", job)
    require_answerable("model", model)


def check_job(q: Question) -> None:
    """Raise PlannerError for what no layout can mend: types the hardware lacks, positions the model lacks, absurd sizes."""
    model, cluster, framework, job = q.model, q.cluster, q.framework, q.job
    check_sizes(model, job)
    require_vendor(cluster.accelerator, framework, "framework.name", load_framework, framework_names())
    precision = matmul_dtype(job.precision)
    cluster.accelerator.peak(precision)
    if precision in ("fp8", "fp4"):
        cluster.accelerator.peak("bf16")
    if job.precision in ("fp8", "nvfp4") and "fp8" not in framework.features:
        raise PlannerError(
            "job.precision = {0!r}: {1} has no FP8 training; use megatron-core, torchtitan or fsdp, or bf16 or fp16.",
            job.precision,
            framework.name,
        )
    if job.quantization is not None and not framework.quantized_weights:
        raise PlannerError(
            "framework.name = {0!r}: keeps frozen weights in 16 bit, and job.kind = {1!r} quantizes them; use peft, torchtune or "
            "litgpt, or kind = 'lora'.",
            framework.name,
            job.kind,
        )
    if framework.overlaps_experts and "overlaps_experts" not in framework.features:
        raise PlannerError(
            "framework.overlaps_experts = true: {0} has no such schedule; use megatron-core or megatron-bridge, or leave it out.",
            framework.name,
        )
    _check_fp8_recipe(q)
    check_teacher(model, job)
    _check_images(model, job)
    if job.multi_token_prediction and model.head != "language_model":
        raise PlannerError(
            "job.multi_token_prediction = {0}: {1} has no language model's head, which its modules share; set it to 0.",
            job.multi_token_prediction,
            model.name,
        )
    if job.quantization is not None and job.quantization.compute_dtype is not None:
        cluster.accelerator.peak(job.quantization.compute_dtype)
    if (model.memory_length or model.relative_attention) and framework.attention_kernel == "flash":
        raise PlannerError(
            "framework.attention_kernel = 'flash': {0} attends to a memory or by relative positions, which the "
            "fused kernels do not; use standard or eager.",
            model.name,
        )
    _check_encoder(model, job)
    rows = model.source_positions or model.positions
    if model.position_embedding == "learned" and job.seq_len > rows:
        raise PlannerError(
            "job.seq_len = {0}: {1} has a learned position table (max_positions) for {2:,} tokens; use a sequence of at most "
            "that, or give the model a longer table.",
            job.seq_len,
            model.name,
            rows,
        )


def _check_encoder(model: Model, job: Job) -> None:
    """Raise PlannerError for what an encoder-decoder alone has, or cannot have."""
    if not model.cross_attention:
        if job.target_len:
            raise PlannerError(
                "job.target_len = {0}: {1} has no encoder in front of a decoder; leave it out.", job.target_len, model.name
            )
        return
    if job.multi_token_prediction:
        raise PlannerError(
            "job.multi_token_prediction = {0}: {1} is an encoder-decoder, which no framework trains so; set it to 0.",
            job.multi_token_prediction,
            model.name,
        )
    target = job.target_len or job.seq_len
    if model.position_embedding == "learned" and target > model.positions:
        raise PlannerError(
            "job.target_len = {0}: the decoder of {1} has a position table (max_positions) for {2:,} tokens; use at most that.",
            target,
            model.name,
            model.positions,
        )


def _check_fp8_recipe(q: Question) -> None:
    """Raise PlannerError for a recipe that the tensor cores or the framework's library lack."""
    cluster, framework, job = q.cluster, q.framework, q.job
    capability = cluster.accelerator.compute_capability.partition(".")[0]
    if job.fp8_recipe == "mxfp8" and capability.isdigit() and int(capability) < 10:
        raise PlannerError(
            "job.fp8_recipe = 'mxfp8': the tensor cores of {0} take no scales of blocks, Blackwell's do; use tensorwise, "
            "delayed or blockwise.",
            cluster.accelerator.name,
        )
    if job.fp8_recipe is not None and job.fp8_recipe not in framework.fp8_recipes:
        raise PlannerError(
            "job.fp8_recipe = {0!r}: the FP8 library of {1} has no such scaling; use {2}.",
            job.fp8_recipe,
            framework.name,
            " or ".join(sorted(framework.fp8_recipes)),
        )
    if job.fp8_recipe == "rowwise" and framework.mixed_precision == "master_weights":
        raise PlannerError(
            "job.fp8_recipe = 'rowwise': {0} quantizes with Transformer Engine, which has no scales of rows; use tensorwise, "
            "delayed, blockwise or mxfp8.",
            framework.name,
        )


def encoder_notes(model: Model, job: Job) -> tuple[str, ...]:
    """How tokens count where an encoder reads some and a decoder others, and what nobody has measured."""
    if not model.cross_attention:
        return ()
    return (
        Message(
            "{0}: the encoder reads {1:,} tokens (job.seq_len), the decoder {2:,} (job.target_len); tokens of a step are the "
            "encoder's. No measured run of an encoder-decoder stands behind this",
            model.name,
            job.seq_len,
            job.target_len or job.seq_len,
        ),
    )


def _check_images(model: Model, job: Job) -> None:
    check_images(model, "job", job.images, job.image_patches, "seq_len", float(job.seq_len))


def check_images(model: Model, table: str, images: float, patches: int, field: str, tokens: float) -> None:
    """Raise PlannerError for images that the model cannot see, or of an unknown size, or that do not fit among the tokens.

    ``table``: where the images are given; ``field``: its field of the ``tokens`` that theirs are part of.
    """
    if not (images or patches):
        return
    if not model.towers:
        raise PlannerError(
            "{0}.images = {1:g}: {2} has no vision encoder; leave it out, or give [[towers]].", table, images, model.name
        )
    for tower in model.towers:
        if not (patches or tower.patches_per_image):
            raise PlannerError(
                "{0}.image_patches = 0: how much the encoder of {1} sees follows an image's size; give its patches "
                "(1,024 x 1,024 pixels in patches of 16: 4096).",
                table,
                model.name,
            )
        needed = 0.0 if model.reads_images else images * (tower.tokens_per_image or 0)
        if needed > tokens:
            raise PlannerError(
                "{0}.images = {1:g}: of {2:,} tokens each, they need {3:,.0f} of {4} = {5:.0f}; use fewer, or more tokens.",
                table,
                images,
                tower.tokens_per_image,
                needed,
                field,
                tokens,
            )


def tower_notes(model: Model, job: Job) -> tuple[str, ...]:
    """What of a vision encoder and of layers that attend to images is counted where the job has no images."""
    if job.images:
        return ()
    return image_layer_notes(model) + tuple(
        Message(
            "{0}: its {1} encoder of {2:.3g}B parameters is held, and does not run on text alone: job.images gives a sequence's "
            "images",
            model.name,
            tower.name,
            tower.parameters / 1e9,
        )
        for tower in model.towers
    )


def image_layer_notes(model: Model) -> tuple[str, ...]:
    """What of layers that attend to images is counted on text alone."""
    count = model.num_image_layers
    return (
        (Message("{0}: its {1} layers that attend to images are held, and skipped on text alone", model.name, count),)
        if count
        else ()
    )


def length_notes(model: Model, job: Job) -> tuple[str, ...]:
    """A warning where sequences are longer than the model's configuration allows: not refused, for contexts get extended."""
    if not model.context_length or job.seq_len <= model.context_length:
        return ()
    return (
        Message(
            "warning: job.seq_len = {0} is beyond the context_length = {1} of {2}: the model has not learned positions "
            "that far; extend its context (other rotary frequencies), or train on shorter sequences",
            job.seq_len,
            model.context_length,
            model.name,
        ),
    )


PUBLISHED_STEP_TOKENS = 67_000_000
"""Of the largest published step: Kimi K2's (arXiv 2507.20534); DeepSeek-V3's has 63 million (arXiv 2412.19437)."""
DOUBTED = 4
"""Times the largest published step, above which a batch was rather given in tokens than in sequences; assumed."""


def step_notes(job: Job) -> tuple[str, ...]:
    """A warning where a step has several times the tokens of the largest published: tokens given for sequences."""
    if job.tokens_per_step <= DOUBTED * PUBLISHED_STEP_TOKENS:
        return ()
    meant = max(round(job.global_batch_size**2 / job.tokens_per_step), 1)
    return (
        Message(
            "warning: a step is {0:,.0f} tokens; the largest published is {1:,} (Kimi K2): job.global_batch_size = {2} counts "
            "sequences, not tokens; {3:,} tokens would be {4:,}",
            job.tokens_per_step,
            PUBLISHED_STEP_TOKENS,
            job.global_batch_size,
            job.global_batch_size,
            meant,
        ),
    )


def short_notes(job: Job) -> tuple[str, ...]:
    """A warning where an epoch is less than one step, which is counted whole: a unit left out, or too large a batch."""
    if job.num_tokens is not None and job.num_tokens < job.tokens_per_step:
        return (
            Message(
                "warning: job.num_tokens = {0} is less than the {1:,.0f} tokens of one step, which is counted whole; write "
                "100B for 100 billion, or lower job.global_batch_size = {2}",
                job.num_tokens,
                job.tokens_per_step,
                job.global_batch_size,
            ),
        )
    if job.num_samples is not None and job.num_samples < job.global_batch_size:
        return (
            Message(
                "warning: job.num_samples = {0} is less than the {1:,} of one step, which is counted whole; write 50k for 50 "
                "thousand, or lower job.global_batch_size",
                job.num_samples,
                job.global_batch_size,
            ),
        )
    return ()


def job_notes(model: Model, job: Job) -> tuple[str, ...]:
    """What a reader should know of a job on a model, on whatever GPUs and whatever the layout."""
    told = (*length_notes(model, job), *step_notes(job), *short_notes(job))
    return (*told, *tower_notes(model, job), *encoder_notes(model, job))


def rules(q: Question, x: Layouts) -> Iterator[Rule]:
    """All rules, most basic first: the first broken one explains the layout."""
    yield from _degree_rules(q, x)
    yield from _model_rules(q, x)
    if q.job.teacher is not None and q.job.teacher.cached_top_k is None:  # it runs on the student's layout
        yield from _model_rules(replace(q, model=teacher_model(q.job.teacher)), x)
    yield from _batch_rules(q, x)
    yield from _in_backward_rules(q, x)
    yield from _low_rank_rules(q, x)
    yield from _pipeline_rules(q, x)
    if q.framework.overlaps_experts:
        yield from _overlapped_experts_rules(x)
    yield from _sharding_rules(q, x)
    yield from _feature_rules(q, x)


def _degree_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    gpus = q.cluster.num_gpus
    world = x.tp * x.cp * x.pp * x.dp
    whole = np.floor(x.dp) == x.dp

    def world_message(y: Layout) -> str:
        model_ranks = y.tp * y.cp * y.pp
        if gpus % model_ranks:
            return Message(
                "layout.tp x pp x cp = {0} x {1} x {2} = {3}: does not divide the cluster's {4} GPUs; their product must be {5}",
                y.tp,
                y.pp,
                y.cp,
                model_ranks,
                gpus,
                a_divisor(gpus),
            )
        return Message(
            "layout.dp = {0}: tp x pp x cp x dp = {1}, but the cluster has {2} GPUs; use dp = {3} or leave dp out",
            y.dp,
            model_ranks * (y.dp or 1),
            gpus,
            gpus // model_ranks,
        )

    yield Rule(reason="degrees do not multiply to the number of GPUs", broken=~whole | (world != gpus), message=world_message)


def _model_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    m = q.model
    yield Rule(
        reason="tp does not divide the attention heads",
        broken=(m.num_heads % x.tp) != 0,
        message=lambda y: Message(
            "layout.tp = {0}: does not divide num_heads = {1} of {2}; use {3}",
            y.tp,
            m.num_heads,
            m.name,
            a_divisor(m.num_heads),
        ),
    )
    kv = m.num_kv_heads
    yield Rule(
        reason="tp and the key-value heads do not divide",
        broken=((kv % x.tp) != 0) & ((x.tp % kv) != 0),
        message=lambda y: Message(
            "layout.tp = {0}: neither divides nor is a multiple of num_kv_heads = {1} of {2}", y.tp, kv, m.name
        ),
    )
    states = state_heads(m)
    yield Rule(
        reason="tp does not divide the heads of the state",
        broken=(states % x.tp) != 0,
        message=lambda y: Message(
            "layout.tp = {0}: does not divide the heads of the state of {1}, {2} of values and {3} of keys; use {4}",
            y.tp,
            m.name,
            m.recurrent_value_heads,
            m.recurrent_key_heads,
            a_divisor(states),
        ),
    )
    dense = m.num_experts == 0 or any(not kind.moe for kind in m.layer_kinds)
    if dense:
        yield Rule(
            reason="tp does not divide the feed-forward",
            broken=(m.ffn_hidden_size % x.tp) != 0,
            message=lambda y: Message(
                "layout.tp = {0}: does not divide ffn_hidden_size = {1} of {2}", y.tp, m.ffn_hidden_size, m.name
            ),
        )
    if q.job.quantization is not None:
        stored = q.job.quantization.format
        yield Rule(
            reason="quantized weights are not cut by tp",
            broken=x.tp > 1,
            message=lambda y: Message(
                "layout.tp = {0}: no tuning framework cuts matrices that are stored as {1}: they are packed, blocks across rows; "
                "use tp = 1 with zero = 3, or replicas",
                y.tp,
                stored,
            ),
        )
    yield from _expert_rules(q, x)
    yield from _encoder_rules(q, x)
    s = q.job.seq_len
    folds = np.where(x.cp > 1, 2.0 * x.cp, 1.0)
    yield Rule(
        reason="cp does not divide the sequence",
        broken=(s % folds) != 0,
        message=lambda y: Message(
            "layout.cp = {0}: seq_len = {1} must divide by 2 x cp = {2} (two slices per rank balance the causal mask)",
            y.cp,
            s,
            2 * y.cp,
        ),
    )
    split = np.where(x.sequence_parallel > 0, x.tp * x.cp, 1.0)
    yield Rule(
        reason="sequence parallelism does not divide the sequence",
        broken=(s % split) != 0,
        message=lambda y: Message("layout.sequence_parallel: seq_len = {0} must divide by tp x cp = {1}", s, y.tp * y.cp),
    )


def _encoder_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    """An encoder's output goes to every layer of the decoder, and all of it to each query."""
    m = q.model
    if any(m.of(kind).shared_weights for kind in m.layer_kinds):
        yield Rule(
            reason="stages of layers that share weights",
            broken=x.pp > 1,
            message=lambda y: Message(
                "layout.pp = {0}: layers of {1} share weights, which no framework cuts into stages; use pp = 1", y.pp, m.name
            ),
        )
    if mixes_time(m):
        yield Rule(
            reason="cuts of layers that mix over time",
            broken=(x.tp > 1) | (x.cp > 1),
            message=lambda y: Message(
                "layout.tp = {0}, cp = {1}: {2} mixes over time (RWKV), which no framework here cuts; use tp = 1 and cp = 1",
                y.tp,
                y.cp,
                m.name,
            ),
        )
    if m.reads_images and q.job.images:
        yield Rule(
            reason="cuts of a model that attends to images",
            broken=(x.pp > 1) | (x.cp > 1),
            message=lambda y: Message(
                "layout.{0} = {1}: layers of {2} attend to images; their tokens would go to every stage and every part of the "
                "sequence, which is not modelled; use 1",
                "pp" if y.pp > 1 else "cp",
                max(y.pp, y.cp),
                m.name,
            ),
        )
    if not m.cross_attention:
        return
    yield Rule(
        reason="stages of an encoder-decoder",
        broken=x.pp > 1,
        message=lambda y: Message(
            "layout.pp = {0}: {1} is an encoder-decoder; its encoder's output would go to every stage of the decoder, which is "
            "not modelled; use pp = 1",
            y.pp,
            m.name,
        ),
    )
    yield Rule(
        reason="context parallelism of an encoder-decoder",
        broken=x.cp > 1,
        message=lambda y: Message(
            "layout.cp = {0}: {1} is an encoder-decoder; cross-attention over a cut sequence is not modelled; use cp = 1",
            y.cp,
            m.name,
        ),
    )
    target = q.job.target_len or q.job.seq_len
    yield Rule(
        reason="sequence parallelism does not divide the target",
        broken=(x.sequence_parallel > 0) & ((target % x.tp) != 0),
        message=lambda y: Message("layout.sequence_parallel: target_len = {0} must divide by tp = {1}", target, y.tp),
    )


def _expert_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    m = q.model
    if not m.num_experts:
        yield Rule(
            reason="expert parallelism without experts",
            broken=(x.ep > 1) | (x.etp > 1),
            message=lambda y: Message(
                "layout.{0} = {1}: {2} is dense; use 1", "ep" if y.ep > 1 else "etp", max(y.ep, y.etp), m.name
            ),
        )
        return
    yield Rule(
        reason="ep does not divide the experts",
        broken=(m.num_experts % x.ep) != 0,
        message=lambda y: Message(
            "layout.ep = {0}: does not divide num_experts = {1} of {2}; use {3}",
            y.ep,
            m.num_experts,
            m.name,
            a_divisor(m.num_experts),
        ),
    )
    width = int(m.expert_ffn_hidden_size or 1)
    yield Rule(
        reason="etp does not divide an expert",
        broken=(width % x.etp) != 0,
        message=lambda y: Message("layout.etp = {0}: does not divide expert_ffn_hidden_size = {1} of {2}", y.etp, width, m.name),
    )
    ranks = x.tp * x.cp * x.dp
    yield Rule(
        reason="ep x etp does not divide a stage's ranks",
        broken=(ranks % (x.ep * x.etp)) != 0,
        message=lambda y: Message(
            "layout.ep x etp = {0}: does not divide tp x cp x dp = {1}, the ranks of one pipeline stage",
            y.ep * y.etp,
            y.tp * y.cp * (y.dp or 1),
        ),
    )
    yield Rule(
        reason="MoE with tp needs sequence parallelism",
        broken=(x.tp > 1) & (x.sequence_parallel == 0),
        message=lambda y: Message(
            "layout.sequence_parallel = false with tp = {0}: MoE layers with tensor parallelism route each rank's "
            "own tokens; set sequence_parallel = true",
            y.tp,
        ),
    )


def _batch_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    batch = q.job.global_batch_size
    yield Rule(
        reason="micro-batches do not fill the global batch",
        broken=(batch % (x.micro_batch_size * x.dp)) != 0,
        message=lambda y: Message(
            "job.global_batch_size = {0}: must be a multiple of micro_batch_size x dp = {1} x {2} = {3}",
            batch,
            y.micro_batch_size,
            y.dp,
            y.micro_batch_size * (y.dp or 1),
        ),
    )


def _in_backward_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    """Layouts in which a weight's gradient is complete when its backward is over."""
    if not q.job.optimizer_in_backward:
        return
    batch = q.job.global_batch_size
    yield Rule(
        reason="gradients of several micro-batches are added up",
        broken=(batch // np.maximum(x.micro_batch_size * x.dp, 1)) > 1,
        message=lambda y: Message(
            "job.optimizer_in_backward with micro_batch_size = {0}: the gradients of several micro-batches would "
            "have to be added up first; use micro_batch_size = {1}, or leave it out",
            y.micro_batch_size,
            batch // (y.dp or 1),
        ),
    )
    yield Rule(
        reason="gradients are reduced or offloaded before the update",
        broken=((x.dp > 1) & (x.zero < 3)) | (x.offload_optimizer > 0) | (x.pp > 1),
        message=lambda y: Message(
            "job.optimizer_in_backward with dp = {0}, zero = {1}, pp = {2}: a weight is updated where its whole "
            "gradient arises; use one replica or zero = 3, without pipeline and offloaded optimizer",
            y.dp,
            y.zero,
            y.pp,
        ),
    )


def _low_rank_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    """Layouts in which a rank holds each matrix's whole gradient, which GaLore projects."""
    if not q.job.low_rank:
        return
    yield Rule(
        reason="a low-rank optimizer on sharded gradients",
        broken=(x.tp > 1) | (x.pp > 1) | (x.ep > 1) | (x.zero > 0) | (x.offload_optimizer > 0),
        message=lambda y: Message(
            "job.optimizer = {0!r} with tp = {1}, pp = {2}, ep = {3}, zero = {4}: it projects whole gradients on each GPU; use "
            "tp = pp = ep = 1 and zero = 0 without offload_optimizer, or optimizer = {5!r}",
            q.job.optimizer,
            y.tp,
            y.pp,
            y.ep,
            y.zero,
            plain_optimizer(q.job.optimizer),
        ),
    )


def _pipeline_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    m, batch, edges = q.model, q.job.global_batch_size, q.framework.edge_layers
    yield Rule(
        reason="more pipeline chunks than layers",
        broken=x.pp * x.vpp > m.num_layers + np.where(x.vpp > 1, max(edges), 0),
        message=lambda y: Message(
            "layout.pp x vpp = {0} x {1} = {2}: {3} has only {4} layers; use a product of at most {5}",
            y.pp,
            y.vpp,
            y.pp * y.vpp,
            m.name,
            m.num_layers,
            m.num_layers,
        ),
    )
    yield Rule(
        reason="virtual stages without a pipeline",
        broken=(x.vpp > 1) & (x.pp == 1),
        message=lambda y: Message("layout.vpp = {0}: needs pp > 1", y.vpp),
    )
    chunks = x.pp * x.vpp
    even = np.logical_or.reduce([(m.num_layers + more) % chunks == 0 for more in edges])
    even = even | ("uneven_vpp" in q.framework.features)  # a pipeline layout given stage by stage
    counted = Message(", or one or two more (embedding and loss counted as layers)") if max(edges) else ""
    yield Rule(
        reason="virtual stages do not divide the layers",
        broken=(x.vpp > 1) & ~even,
        message=lambda y: Message(
            "layout.vpp = {0}: pp x vpp = {1} must divide num_layers = {2}{3}", y.vpp, y.pp * y.vpp, m.num_layers, counted
        ),
    )
    microbatches = batch / (x.micro_batch_size * x.dp)
    yield Rule(
        reason="virtual stages need a multiple of pp micro-batches",
        broken=(x.vpp > 1) & ((microbatches % x.pp) != 0),
        message=lambda y: Message(
            "layout.vpp = {0}: the interleaved schedule needs a multiple of pp = {1} micro-batches, not {2}",
            y.vpp,
            y.pp,
            batch // (y.micro_batch_size * (y.dp or 1)),
        ),
    )
    yield Rule(
        reason="schedule and virtual stages disagree",
        broken=((x.schedule == Schedule.INTERLEAVED) != (x.vpp > 1)),
        message=lambda y: Message(
            "layout.schedule = {0!r} with vpp = {1}: the interleaved schedule is the one with vpp > 1; set vpp, or "
            "leave schedule out",
            y.schedule,
            y.vpp,
        ),
    )
    yield Rule(
        reason="zero-bubble without a pipeline",
        broken=(x.schedule == Schedule.ZERO_BUBBLE) & (x.pp == 1),
        message=lambda y: "layout.schedule = 'zero-bubble': needs pp > 1",
    )


def _overlapped_experts_rules(x: Layouts) -> Iterator[Rule]:
    """What experts' exchange beside another micro-batch asks of a layout (Megatron-Bridge, docs/training/
    communication-overlap.md: it asserts expert parallelism, virtual stages beside a pipeline, no full recomputation)."""
    yield Rule(
        reason="overlaps_experts without expert parallelism",
        broken=x.ep == 1,
        message=lambda y: Message(
            "framework.overlaps_experts with layout.ep = {0}: no experts are exchanged; use ep > 1, or leave it out", y.ep
        ),
    )
    yield Rule(
        reason="overlaps_experts in a pipeline without virtual stages",
        broken=(x.pp > 1) & (x.vpp == 1),
        message=lambda y: Message(
            "framework.overlaps_experts with layout.pp = {0}, vpp = {1}: its schedule is the interleaved one; use vpp > 1, or "
            "pp = 1",
            y.pp,
            y.vpp,
        ),
    )
    yield Rule(
        reason="overlaps_experts with full recomputation",
        broken=x.recompute == Recompute.FULL,
        message=lambda y: Message(
            "framework.overlaps_experts with layout.recompute = {0!r}: a layer's forward pass is cut into parts, which are not "
            "recomputed together; use selective or none",
            y.recompute,
        ),
    )


def _sharding_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    group = np.where(x.shard_group_size > 0, x.shard_group_size, 1.0)
    yield Rule(
        reason="shard group without ZeRO",
        broken=(x.shard_group_size > 0) & (x.zero == 0),
        message=lambda y: Message("layout.shard_group_size = {0}: needs zero = 1, 2 or 3", y.shard_group_size),
    )
    yield Rule(
        reason="shard group does not divide the data-parallel ranks",
        broken=(x.ranks % group) != 0,
        message=lambda y: Message(
            "layout.shard_group_size = {0}: does not divide dp x cp = {1}", y.shard_group_size, (y.dp or 1) * y.cp
        ),
    )
    expert_group = np.minimum(group, x.expert_ranks)
    yield Rule(
        reason="shard group does not divide the expert data-parallel ranks",
        broken=(x.expert_ranks % expert_group) != 0,
        message=lambda y: Message(
            "layout.shard_group_size = {0}: does not divide the ranks that hold the same experts", y.shard_group_size
        ),
    )
    yield Rule(
        reason="ZeRO 2 and 3 with this framework's pipeline",
        broken=(x.zero >= 2) & (x.pp > 1) & (q.framework.mixed_precision != "sharded_fp32"),
        message=lambda y: Message(
            "layout.zero = {0} with pp = {1}: {2} shards gradients only without a pipeline; use zero = 1, or pp = 1",
            y.zero,
            y.pp,
            q.framework.name,
        ),
    )
    yield from _moved_activations_rules(q, x)
    yield Rule(
        reason="parameters on the host without ZeRO 3",
        broken=(x.offload_parameters > 0) & (x.zero < 3),
        message=lambda y: Message(
            "layout.offload_parameters with zero = {0}: only shards of zero = 3 come in and go layer by layer", y.zero
        ),
    )
    if q.framework.mixed_precision == "sharded_fp32":
        yield Rule(
            reason="FSDP's parameters on the host without its optimizer",
            broken=(x.offload_parameters > 0) & (x.offload_optimizer == 0),
            message=lambda y: Message(
                "layout.offload_parameters: {0} moves both; set offload_optimizer = true, too", q.framework.name
            ),
        )
        yield Rule(
            reason="FSDP shards",
            broken=(x.zero < 2),
            message=lambda y: Message(
                "layout.zero = {0}: {1} shards gradients or parameters; use 2 or 3", y.zero, q.framework.name
            ),
        )


def _moved_activations_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    """What activations move to the host beside. Megatron-Core's cpu_offloading refuses a pipeline and recomputation
    (TransformerConfig.__post_init__); TRL, torchtune and MaxText take checkpoints along, none of them beside a pipeline."""
    yield Rule(
        reason="activations on the host beside a pipeline",
        broken=(x.offload_activations > 0) & (x.pp > 1),
        message=lambda y: Message(
            "layout.offload_activations with pp = {0}: no framework here moves them beside a pipeline; use pp = 1, or "
            "recompute = 'full' without it",
            y.pp,
        ),
    )
    have = q.framework.answered & {"offload_activations", "offload_checkpoints"}
    if have == {"offload_activations"}:
        yield Rule(
            reason="activations on the host beside recomputation",
            broken=(x.offload_activations > 0) & (x.recompute != Recompute.NONE),
            message=lambda y: Message(
                "layout.offload_activations with recompute = {0!r}: {1} moves what it keeps, and recomputes nothing beside; "
                "use one of the two",
                y.recompute,
                q.framework.name,
            ),
        )
    if have == {"offload_checkpoints"}:
        yield Rule(
            reason="activations on the host without recomputation",
            broken=(x.offload_activations > 0) & (x.recompute == Recompute.NONE),
            message=lambda y: Message(
                "layout.offload_activations with recompute = {0!r}: {1} moves only what recomputation keeps; use "
                "recompute = 'full'",
                y.recompute,
                q.framework.name,
            ),
        )


def _feature_rules(q: Question, x: Layouts) -> Iterator[Rule]:
    have = q.framework.answered
    moves = x.offload_activations > 0
    wanted: dict[Feature, Mask] = {
        "tp": x.tp > 1,
        "sequence_parallel": (x.sequence_parallel > 0) & (x.tp > 1),
        "pp": x.pp > 1,
        "vpp": x.vpp > 1,
        "zero_bubble": x.schedule == Schedule.ZERO_BUBBLE,
        "cp": x.cp > 1,
        "ep": x.ep > 1,
        "etp": x.etp > 1,
        "zero1": x.zero == 1,
        "zero2": x.zero == 2,
        "zero3": x.zero == 3,
        "hybrid_shard": x.shard_group_size > 0,
        "offload_optimizer": x.offload_optimizer > 0,
        "offload_parameters": x.offload_parameters > 0,
        "offload_activations": moves & ("offload_checkpoints" not in have),
        "offload_checkpoints": moves & ("offload_activations" not in have),
        "selective_recompute": x.recompute == Recompute.SELECTIVE,
        "time_mixing": (x.tp > 0) & mixes_time(q.model),
    }
    for feature, mask in wanted.items():
        if feature not in have:
            yield Rule(
                reason=Message("{0} has no {1}", q.framework.name, feature),
                broken=mask,
                message=_no_feature(q.framework, feature),
            )


def _no_feature(framework: Framework, feature: Feature) -> Callable[[Layout], str]:
    have = ", ".join(sorted(framework.answered))
    return lambda y: Message("layout: {0} does not offer {1}; it offers {2}", framework.name, feature, have)


def impossible(q: Question, layouts: Layouts) -> tuple[Mask, NDArray[np.intp], tuple[str, ...]]:
    """(mask of impossible layouts, index of the first broken rule or -1, the rules' reasons)."""
    first = np.full(len(layouts), -1, dtype=np.intp)
    reasons = []
    for i, rule in enumerate(rules(q, layouts)):
        reasons.append(rule.reason)
        first = np.where((first < 0) & rule.broken, i, first)
    return first >= 0, first, tuple(reasons)


def screen(q: Question, layouts: Layouts) -> tuple[Mask, dict[str, int]]:
    """(mask of possible layouts, how many break which rule first) of a block whose columns broadcast.

    The mask is as small as the rules allow: it broadcasts to the block's shape.
    """
    size = math.prod(layouts.shape)
    alive = np.ones(1, dtype=bool)
    counts: dict[str, int] = {}
    for rule in rules(q, layouts):
        if not rule.broken.any():
            continue
        broken = alive & rule.broken
        found = int(broken.sum()) * (size // broken.size)
        if found:
            counts[rule.reason] = counts.get(rule.reason, 0) + found
            alive = alive & ~rule.broken
    return alive, counts


def require_possible(q: Question, layouts: Layouts, layout: Layout) -> None:
    """Raise PlannerError with the first broken rule's sentence, for a single layout; ``layouts``: it alone, as columns."""
    for rule in rules(q, layouts):
        if rule.broken[0]:
            raise PlannerError("{0}.", rule.message(layout), code="layout")


def check_teacher(model: Model, job: Job) -> None:
    """PlannerError for a teacher that the student cannot learn from."""
    if job.teacher is None:
        return
    teacher = teacher_model(job.teacher)
    if teacher.vocab_size != model.vocab_size:
        raise PlannerError(
            "job.teacher.model = {0!r}: has a vocabulary of {1:,} words and {2} one of {3:,}; a student learns the "
            "teacher's probabilities word by word, so take models of one vocabulary.",
            job.teacher.model,
            teacher.vocab_size,
            model.name,
            model.vocab_size,
        )
    if job.teacher.cached_top_k is not None and job.teacher.cached_top_k > model.vocab_size:
        raise PlannerError(
            "job.teacher.cached_top_k = {0}: the vocabulary has {1:,} words.", job.teacher.cached_top_k, model.vocab_size
        )
    if not both_speak(teacher, model):
        raise PlannerError("job.teacher.model = {0!r}: teacher and student must both be language models.", job.teacher.model)


def both_speak(teacher: Model, student: Model) -> bool:
    """Whether both are language models of one kind."""
    alike = (teacher.architecture, teacher.cross_attention) == (student.architecture, student.cross_attention)
    return alike and "none" not in (teacher.head, student.head)
