"""Seconds of a pass: rows by the roofline, collectives, and what the host adds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Number
from planner.hardware.cluster import host_copy_rate
from planner.hardware.curves import Curves
from planner.operators.row import FusedAttention, Matmul, Row
from planner.performance.collectives import Exchange, collective_s, token_exchange_s
from planner.performance.roofline import Device, device_s
from planner.serving.rows import Phase, Shape, image_chance, image_rows, layer_rows, pass_rows
from planner.serving.setting import Setting
from planner.serving.speculative import expected_tokens

LAUNCH_QUEUE = 1024.0
"""Launches that the CUDA driver queues for one GPU before the next one blocks the host thread."""


@dataclass(frozen=True, kw_only=True)
class PassTime:
    """Seconds of one pass of a batch, by part; arrays of shape ``(n,)``."""

    device_s: Array
    communication_s: Array
    host_link_s: Array
    host_layers_s: Array
    host_step_s: Array
    waits: bool = False

    @property
    def total(self) -> Array:
        """Launching runs beside the device, the longer of the two counts, unless the host waits for the device after each
        product; scheduling and sampling wait for it."""
        device = self.device_s + self.communication_s + self.host_link_s
        busy = device + self.host_layers_s if self.waits else np.maximum(device, self.host_layers_s)
        return np.asarray(busy + self.host_step_s)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of decoding and prefill of one deployment, as functions of batch and lengths."""

    setting: Setting
    draft: Setting | None = None

    @cached_property
    def _kernels(self) -> dict[str, Curves]:
        return kernel_constants(self.setting)

    def row_s(self, row: Row) -> Array:
        """Seconds of one row on the device or its links."""
        setting, engine = self.setting, self.setting.engine
        if row.collective is not None:
            return np.asarray(engine.collective_rate * _collective_s(setting, row) + _waiting_s(setting, row))
        if row.block == "host_link":
            return np.asarray(row.bytes_moved / host_copy_rate(setting.cluster.node, setting.cluster.accelerator))
        curves = self._kernels[constants_of(setting, row)]
        dtype = setting.compute_dtype
        device = Device(
            accelerator=setting.cluster.accelerator, curves=curves, dtype=dtype, unquantized=dtype, flash=engine.flash_attention
        )
        return device_s(row, device)

    def pass_time(self, shape: Shape) -> PassTime:
        """Seconds of a whole pass by part."""
        setting, engine = self.setting, self.setting.engine
        zero = np.zeros(np.broadcast_shapes(np.shape(shape.tokens), np.shape(shape.past)))
        parts = {"device": zero, "communication": zero, "host_link": zero}
        for row in pass_rows(setting, shape):
            part = "communication" if row.collective else "host_link" if row.block == "host_link" else "device"
            parts[part] = parts[part] + row.repeats * self.row_s(row)
        layers, step = self.host_s(shape)
        return PassTime(
            device_s=parts["device"],
            communication_s=parts["communication"],
            host_link_s=parts["host_link"],
            host_layers_s=zero + layers,
            host_step_s=zero + step,
            waits=setting.format.name in engine.waiting_formats,
        )

    def host_s(self, shape: Shape) -> tuple[Array, Array]:
        """Seconds of the host on a pass: launching its layers beside the device, and what the device waits for."""
        setting, engine, model = self.setting, self.setting.engine, self.setting.model
        rate = {16: 1.0, 8: engine.int8_host_rate, 4: engine.int4_host_rate}[setting.format.family]
        rate *= engine.awq_host_rate if setting.format.name == "int4-awq" else 1.0
        rate = engine.narrow_host_rate if setting.format.compute else rate
        loops: Number = sum(kind.moe for kind in model.layer_kinds) * model.num_experts * engine.host_s_per_expert
        alone = shape.phase == "prefill" or self.launched(shape)
        loops = loops + np.where(alone, self.prompt_launch_s, 0.0)
        idle: Number = model.num_encoder_layers if shape.phase == "decode" else 0
        if model.num_image_layers:
            idle = idle + model.num_image_layers * (1.0 - image_chance(setting, shape))
        layers = (model.num_layers - idle) * (engine.host_s_per_layer * rate + self._eager_host_s_per_layer(shape)) + loops
        # each attention group has a scheduler of its own
        together = engine.answers_on_one_rank and setting.serving.streamed
        here = shape.sequences if together else setting.serving.fullest_group(shape.sequences)
        step = engine.host_s_per_step + engine.host_s_per_sequence * here
        step = step + engine.host_s_per_stage * (setting.serving.pp - 1)
        return np.asarray(layers), np.asarray(step)

    @cached_property
    def prompt_launch_s(self) -> float:
        """Seconds that launching a pass with prompts takes at least, decoding beside them or not, where no graph holds its
        kernels. Layers with experts have many; Hopper has none of its own for mxfp4."""
        setting, engine = self.setting, self.setting.engine
        each = engine.launch_s_per_layer
        with_experts = max(each, engine.expert_launch_s_per_layer)
        if setting.format.name == "mxfp4" and setting.cluster.accelerator.compute_capability == "9.0":
            with_experts = max(with_experts, engine.mxfp4_launch_s_per_layer)
        skipped = setting.model.num_image_layers * (1.0 - min(setting.serving.images, 1.0))  # by prompts of text alone
        return sum(with_experts if kind.moe else each for kind in setting.model.layer_kinds) - skipped * each

    def launched(self, shape: Shape) -> NDArray[np.bool_]:
        """Whether no graph holds a decode step: its kernels are launched as those of a pass with prompts. Graphs are of the
        batches that are stated, else of all up to the engine's widest."""
        s = self.setting.serving
        here, widest = np.rint(s.fullest_group(shape.sequences)), self.setting.engine.graph_sequences
        return ~np.isin(here, s.captured_batches) if s.captured_batches else np.asarray((here > widest) & (widest > 0))

    @cached_property
    def on_device(self) -> Times:
        """The same without ``prompt_launch_s``: what passes take that share it."""
        if not self.prompt_launch_s:
            return self
        none = dict.fromkeys(("launch_s_per_layer", "expert_launch_s_per_layer", "mxfp4_launch_s_per_layer"), 0.0)
        engine = self.setting.engine.model_copy(update=none)
        return replace(self, setting=replace(self.setting, engine=engine))

    def _eager_host_s_per_layer(self, shape: Shape) -> Array:
        """Seconds of launching a layer of a decode step that no captured graph covers: longer or wider than those."""
        engine = self.setting.engine
        longest = np.inf if engine.captured_context is None else float(engine.captured_context)
        widest = np.inf if engine.captured_batch is None else float(engine.captured_batch)
        beyond = (shape.past + shape.queries > longest) | (shape.sequences > widest)
        return np.where(beyond & (shape.phase == "decode"), engine.eager_host_s_per_layer, 0.0)

    def shape(self, phase: Phase, sequences: Number, queries: Number, past: Number) -> Shape:
        """A pass over this deployment; stages that work at the same time each hold a part of the batch when decoding."""
        pp = self.setting.serving.pp if self.setting.engine.pipelined and phase == "decode" else 1
        b, q, p = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (sequences, queries, past)))
        return Shape(phase=phase, sequences=np.maximum(b / pp, 1.0), queries=q, past=p)

    def _parts(self, sequences: Array) -> tuple[Array, Array]:
        """(parts that the prompts of a pass are split into over the sequences, seconds of all stages over one part's pass).

        n parts fill and drain a pipeline of pp stages: (n + pp - 1) / pp passes of one part.
        """
        pp, engine = float(self.setting.serving.pp), self.setting.engine
        one = np.ones_like(sequences)
        if pp == 1.0:
            return one, one
        if not engine.pipelined:
            return one, one
        several = sequences >= pp
        return np.where(several, pp, 1.0), np.where(several, (2.0 * pp - 1.0) / pp, 1.0)

    @cached_property
    def _queued_passes(self) -> float:
        """Passes of one stage whose launches its GPU's queue holds: ``LAUNCH_QUEUE`` over those of its layers."""
        engine, fmt = self.setting.engine, self.setting.format
        expands = engine.expands_first and fmt.quantized and fmt.compute is None
        each = engine.prefill_launches_per_layer + (engine.expanding_launches_per_layer if expands else 0.0)
        layers = np.ceil(self.setting.model.num_layers / self.setting.serving.pp)
        return LAUNCH_QUEUE / (each * layers) if each else np.inf

    def prefill_busy_s(self, prompt: Number, sequences: Number = 1.0, past: Number = 0.0) -> Array:
        """Seconds of ``prefill_s`` that a stage works: others' prompts may fill the pipeline before and behind."""
        b, q, p = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (sequences, prompt, past)))
        pp = float(self.setting.serving.pp)
        seconds, beside = self._checked_s(b, q, p), self._drafted_s(b, q, p) + self.images_s(b * q / (q + p))
        if pp == 1.0 or not self.setting.engine.pipelined:
            return seconds + beside
        return np.asarray(np.where(b >= pp, seconds * pp / (2.0 * pp - 1.0), seconds)) + beside

    def decode_s(self, batch: Number, context: Number) -> Array:
        """Seconds per output token of each of ``batch`` sequences that hold ``context`` tokens.

        With speculation: seconds of a round of drafting and checking over the tokens that it yields. Nothing where no text is
        written.
        """
        if self.setting.serving.embeds:
            return np.zeros(np.broadcast_shapes(np.shape(batch), np.shape(context)))
        return self._of_a_token(self.pass_time(self._round(batch, context)).total, batch, context)

    def least_s(self, batch: Number, context: Number) -> Array:
        """What ``decode_s`` is at least, however short the kernels: of the host where no graph holds the step, else zero."""
        shape = self._round(batch, context)
        layers, step = self.host_s(shape)
        return np.where(self.launched(shape), self._of_a_token(layers + step, batch, context), 0.0)

    def _round(self, batch: Number, context: Number) -> Shape:
        """The pass that yields the next token of each sequence, or checks the tokens proposed for it."""
        spec = self.setting.serving.speculative
        return self.shape("decode", batch, 1.0 if spec is None else spec.tokens + 1.0, context)

    def _of_a_token(self, pass_s: Array, batch: Number, context: Number) -> Array:
        """Seconds of a pass, and of drafting before it, over the tokens that it yields."""
        spec = self.setting.serving.speculative
        if spec is None:
            return pass_s
        if self.draft is not None:
            own = Times(setting=self.draft)
            pass_s = pass_s + spec.tokens * own.pass_time(own.shape("decode", batch, 1.0, context)).total
        return pass_s / expected_tokens(spec.tokens, spec.acceptance)

    def prefill_s(self, prompt: Number, sequences: Number = 1.0, past: Number = 0.0) -> Array:
        """Seconds until ``sequences`` prompts of ``prompt`` new tokens after ``past`` cached ones have their first token.

        Of a prompt's images, the part among its new tokens is seen now.
        """
        b, q, p = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (sequences, prompt, past)))
        return self._checked_s(b, q, p) + self._drafted_s(b, q, p) + self.images_s(b * q / (q + p))

    def together_s(self, prompt: Number, sequences: Number = 1.0, past: Number = 0.0) -> Array:
        """``prefill_s`` without images, of prompts that go through the stages of a pipeline as one pass."""
        b, q, p = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (sequences, prompt, past)))
        of_stages = self._checked_s if self.setting.engine.prefill_chunk else self._passes_s
        return np.asarray(of_stages(b, q, p) + self._drafted_s(b, q, p))

    def images_s(self, requests: Number) -> Array:
        """Seconds of the vision encoders on the images of so many requests, all at once, and of the keys and values of layers
        that attend to images; zero for text.

        The projector's product, some percent of the encoder's, is left out.
        """
        images = self.setting.serving.images * np.asarray(requests, dtype=float)
        together = np.maximum(images, 1.0)
        total = np.zeros_like(images)
        for seen in self._encoders:
            shape = seen.shape("prefill", together, float(seen.setting.serving.prompt.mean or 1.0), 0.0)
            device = sum(row.repeats * seen.row_s(row) for row in layer_rows(seen.setting, shape))
            host = seen.setting.model.num_layers * seen.setting.engine.host_s_per_layer
            total = total + np.maximum(device, host) * images / together
        if self.setting.model.reads_images and self.setting.serving.images:
            total = total + sum(row.repeats * self.row_s(row) for row in image_rows(self.setting, together)) * images / together
        return np.asarray(total)

    @cached_property
    def _encoders(self) -> tuple[Times, ...]:
        return tuple(Times(setting=seen) for seen in self.setting.encoders)

    def _checked_s(self, sequences: Array, prompt: Array, past: Array) -> Array:
        """Prefill of the model itself, cut over the stages of a pipeline."""
        if self.setting.engine.prefill_chunk and self.setting.serving.pp > 1:
            return self._overlapped_s(sequences, prompt, past)
        parts, share = self._parts(sequences)
        return np.asarray(share * self._passes_s(sequences / parts, prompt, past))

    def _overlapped_s(self, sequences: Array, prompt: Array, past: Array) -> Array:
        """n chunks over pp stages: ``overlapped(n)`` / (n pp) of those of one stage after the other.

        A last chunk that is not full takes its part of what a full one adds.
        """
        full, pp = np.maximum(self._full_chunks(sequences, prompt), 1.0), self.setting.serving.pp
        queued = min(self._queued_passes, float(self.setting.engine.prefill_copies))
        stages = overlapped(int(np.ceil(full).max()), pp, queued)
        before, after = (
            stages[n.astype(int) - 1] / (n * pp) * self._passes_s(sequences, prompt * n / full, past, n)
            for n in (np.floor(full), np.ceil(full))
        )
        return np.asarray(before + (full - np.floor(full)) * (after - before))

    def _drafted_s(self, sequences: Array, prompt: Array, past: Array) -> Array:
        """Prefill of the draft model, which lies whole on every stage."""
        if self.draft is None:
            return np.zeros_like(prompt)
        return Times(setting=self.draft)._passes_s(sequences, prompt, past)

    def _passes_s(self, sequences: Array, prompt: Array, past: Array, passes: Array | None = None) -> Array:
        """Prompts in one pass, or in n passes (``passes`` if given) of equal chunks that each read weights and the keys before.

        Chunk i of a prompt cut into k follows (i - 1) / k of it: on average (k - 1) / (2 k), and seconds are linear in that.
        """
        n = self.chunks(sequences, prompt) if passes is None else passes
        k = np.maximum(n / self.setting.serving.fullest_group(sequences), 1.0)  # chunks of one prompt
        shape = self.shape("prefill", sequences * k / n, prompt / k, past + prompt * (k - 1.0) / (2.0 * k))
        return np.asarray(n * self.pass_time(shape).total)

    def chunks(self, sequences: Array, prompt: Array) -> Array:
        """Passes that the prompts of the fullest attention group take: one, or their tokens over those of a chunk."""
        return np.asarray(np.maximum(np.ceil(self._full_chunks(sequences, prompt)), 1.0))

    def _full_chunks(self, sequences: Array, prompt: Array) -> Array:
        """Tokens of the fullest attention group over those of a chunk; 0 where a pass takes whole prompts."""
        s = self.setting.serving
        most = min(s.chunked_prefill_tokens or np.inf, self.setting.engine.prefill_chunk or np.inf)
        return np.asarray(s.fullest_group(sequences) * prompt / most)


@lru_cache(maxsize=256)
def overlapped(passes: int, stages: int, queued: float) -> Array:
    """Stage times that 1 ... ``passes`` equal passes take over ``stages`` GPUs which one host thread feeds in order.

    The host queues a pass stage by stage. A GPU's queue holds ``queued`` passes of its stage: the host is done with stage s of
    pass c when that GPU has worked off c + 1 - ``queued`` passes, and until then it queues nothing on the others. One that
    queues everything at once needs n + stages - 1 stage times, one whose queue is short works stage after stage.
    """
    ends = np.zeros((passes, stages))
    host = 0.0
    for c in range(passes):
        before = 0.0
        for s in range(stages):
            start = max(before, ends[c - 1, s] if c else 0.0, host)
            before = ends[c, s] = start + 1.0
            needed = max(c + 1.0 - queued, 0.0)
            whole = int(np.ceil(needed)) - 1  # the pass that the GPU must be in, and how far
            if whole >= 0:
                host = max(host, float(ends[whole, s]) - (whole + 1.0 - needed))
    return ends[:, -1]


def constants_of(setting: Setting, row: Row) -> str:
    """Which kernel constants hold for a row: by phase, block and stored format."""
    if isinstance(row.work, FusedAttention):
        return f"{row.phase} attention"
    if not isinstance(row.work, Matmul):
        return "pointwise"
    fmt = setting.format
    kept = row.block if row.block != "moe" else "router"
    stored = "16" if not fmt.quantized or kept in fmt.kept else "narrow" if fmt.compute else str(fmt.family)
    if stored in ("8", "4") and row.phase == "prefill" and setting.engine.expands_first:
        stored = "16"
    if kept == "head" and setting.model.tied_embeddings and "embedding" in fmt.kept:
        stored = "16"
    return f"{row.phase} {stored}{' experts' if row.block == 'experts' else ''}"


def kernel_constants(setting: Setting) -> dict[str, Curves]:
    """The GPU's curves under the engine's rates, by what ``constants_of`` names."""
    e, c = setting.engine, setting.curves
    latency = {
        name: getattr(c, name) * e.kernel_latency_rate for name in ("matmul_latency_s", "attention_latency_s", "memory_latency_s")
    }
    found = {"pointwise": c.model_copy(update=latency)}
    for phase in ("prefill", "decode"):
        attention = {
            "memory_fraction": c.memory_fraction * e.attention_bandwidth_rate,
            "attention_forward_fraction": c.attention_forward_fraction
            * (e.prefill_attention_rate if phase == "prefill" else 1.0),
        }
        found[f"{phase} attention"] = c.model_copy(update={**latency, **attention})
        for stored in ("16", "narrow", "8", "4"):
            for block in ("", " experts"):
                found[f"{phase} {stored}{block}"] = _matmul_constants(setting, phase, stored, bool(block), latency)
    return found


def _matmul_constants(setting: Setting, phase: str, stored: str, experts: bool, latency: dict[str, float]) -> Curves:
    """The curves of a matrix multiply whose weights are stored in 16 bit, narrow with arithmetic in that type, or expanded.

    Bandwidth: that of the memory and what the multiprocessors can take in, one after the other: 1 / (1 / W + 1 / (n s)).
    """
    e, c, card = setting.engine, setting.curves, setting.cluster.accelerator
    bandwidth = {
        "16": e.decode_bandwidth_rate,
        "narrow": e.narrow_bandwidth_rate,
        "8": e.int8_bandwidth_rate,
        "4": e.int4_bandwidth_rate,
    }[stored] * (e.expert_bandwidth_rate if experts else 1.0)
    if stored == "4":
        bandwidth *= {"int4-awq": e.awq_bandwidth_rate, "mxfp4": e.mxfp4_bandwidth_rate}.get(setting.format.name, 1.0)
    if stored == "narrow" and setting.format.compute == "fp8":
        bandwidth *= e.fp8_bandwidth_rate
    expanded = stored in ("8", "4")
    compute = e.prefill_rate * (expanding_rate(setting) if expanded else 1.0) * _fp16_gain(setting)
    compute *= e.expert_compute_rate if experts else 1.0
    each = e.expanding_sm_bytes_per_s if expanded else e.sm_bytes_per_s
    fraction = c.matmul_bandwidth_fraction * bandwidth
    if card.num_sms:
        fraction = 1.0 / (1.0 / fraction + card.memory_bandwidth_bytes_per_s / (each * card.num_sms))
    lost = e.decode_grouped_tokens if phase == "decode" else e.prefill_grouped_tokens
    start = e.kernel_latency_rate * c.expert_layer_latency_s / 2.0 if experts and e.fused_experts else latency["matmul_latency_s"]
    narrow, depth = c.fp8_peak_fraction, c.fp8_depth
    if setting.format.blocks:
        narrow, depth = c.fp8_block_fraction or narrow, c.fp8_block_depth or depth
    return c.model_copy(
        update={
            **latency,
            "grouped_tokens": min(lost, c.grouped_tokens),
            "matmul_latency_s": start + (e.expanding_kernel_s if expanded else 0.0),
            "matmul_bandwidth_fraction": fraction,
            "matmul_peak_fraction": c.matmul_peak_fraction * compute,
            "fp8_peak_fraction": narrow * compute,
            "fp8_depth": depth,
        }
    )


def expanding_rate(setting: Setting) -> float:
    """Rate of multiplying by weights that are expanded on the way, over 16-bit ones on this GPU.

    Marlin, its like and bitsandbytes multiply by instructions of one warp: up to Ada all that there is, on Hopper and the B200
    slower than the library's kernels (``Curves.warp_product_rate``). Machete has Hopper's own (vllm, csrc/quantization/machete),
    and runs on no other GPU.
    """
    e, fmt = setting.engine, setting.format
    if fmt.name == "mxfp4":
        return e.mxfp4_compute_rate
    own = fmt.name in e.hopper_formats and setting.cluster.accelerator.compute_capability == "9.0"
    return e.expanding_compute_rate * (1.0 if own else setting.curves.warp_product_rate)


def _fp16_gain(setting: Setting) -> float:
    """Peak with sums in 16 bit over that with sums in fp32, for engines that sum so.

    Tensor cores do it at half the rate of 8-bit integers on every GPU; GeForce GPUs sum in fp32 at half of that (NVIDIA
    GA102 and AD102 white papers), the others at the same rate. Integer kernels for quantized weights follow the same peak.
    """
    card = setting.cluster.accelerator
    if not setting.engine.accumulates_fp16 or "int8" not in card.peak_flops_per_s:
        return 1.0
    return max(card.peak("int8") / 2.0 / card.peak("fp16"), 1.0)


def _collective_s(setting: Setting, row: Row) -> Array:
    """A group of tp ranks sits on neighbouring GPUs, one of ep too; stages lie tp (or ep) GPUs apart."""
    s = setting.serving
    ranks = {"tp": s.tp, "ep": s.ep}.get(row.group or "", 2)
    stride = s.ranks if row.collective == "p2p" else 1
    assert row.collective is not None
    e, message = setting.engine, row.communication_bytes
    if row.copies is not None:
        graph = e.custom_all_reduce and row.phase == "decode"
        return token_exchange_s(setting.cluster, message, row.copies, row.groups, float(ranks), float(stride), captured=graph)
    exchange = Exchange(e.dispatch_rate, e.dispatch_latency_s) if setting.dispatcher == "deepep" else None
    # attention groups hold as many tokens each in the graphs of decoding, prompts of any length in prefill
    ways = {"all_gather": e.gathers_prompts, "reduce_scatter": e.scatters_prompts}
    way = ways.get(row.collective, "equal") if row.group == "ep" and row.phase == "prefill" else "equal"
    name = row.collective if way != "all_reduce" else "all_reduce"
    part = float(ranks) if way == "by_rank" and ranks > 1 else 1.0
    # a ring moves (n - 1) / n of equal parts over each link, and all of n parts that are sent one by one, with n latencies
    message = message / (part - 1.0) if part > 1.0 else message
    found = collective_s(
        setting.cluster, name, message, float(ranks), float(stride), captured=e.custom_all_reduce, exchange=exchange
    )
    return found * part / e.by_rank_rate if part > 1.0 else found


def _waiting_s(setting: Setting, row: Row) -> float:
    """Seconds that the first GPU of a group of n waits for the last one before a collective: ``collective_wait_s`` log2 n, of
    one over experts ``exchange_wait_s``."""
    ranks = {"tp": setting.serving.tp, "ep": setting.serving.ep}.get(row.group or "", 1)
    each = setting.engine.exchange_wait_s if row.group == "ep" else setting.engine.collective_wait_s
    return each * float(np.log2(max(ranks, 1)))
