"""One deployment with everything looked up: specs, formats, widths, and how the model is cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from planner.common.units import DTYPE_BYTES
from planner.hardware.cluster import Cluster
from planner.hardware.curves import Curves, curves_of
from planner.model.architecture import LayerKind, Model
from planner.model.parameters import ParameterTensor, embedding_parameters, head_parameters, layer_parameters
from planner.model.projections import Shard
from planner.operators.tower import encoder
from planner.serving.engine import Engine
from planner.serving.spec import Serving
from planner.serving.weight_formats import GROUP_SIZE, WeightFormat, bits_of, weight_format
from planner.workload.dispatch import nvlink_gpus, runs_deepep

KV_SCALE_BYTES = 8.0
"""Of an int8 cache: fp32 scale and zero per token, head and key or value (LMDeploy, kv_int8.md: "per-head per-token")."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that rows, memory and times need to know."""

    model: Model
    cluster: Cluster
    engine: Engine
    serving: Serving
    own_curves: Curves | None = None  # instead of the accelerator's, for fits

    @cached_property
    def compute_dtype(self) -> str:
        """Type of activations: as given, else that of unquantized weights, else bf16 where the GPU has it, else fp16."""
        s = self.serving
        if s.weights in ("fp16", "bf16", "fp32"):
            return s.weights
        if s.compute_dtype != "auto":
            return s.compute_dtype
        return "bf16" if "bf16" in self.cluster.accelerator.peak_flops_per_s else "fp16"

    @cached_property
    def format(self) -> WeightFormat:
        """How matrices are stored."""
        s = self.serving
        return weight_format(
            s.weights, s.group_size or GROUP_SIZE, s.bits_per_weight, None if s.keep_16_bit is None else frozenset(s.keep_16_bit)
        )

    @property
    def places(self) -> int:
        """Sequences that a replica takes at once at most: as the scenario or the engine says, of each attention group.

        An engine's default is of each group, also where a server is told those of all (``Engine.limits_of_all_groups``).
        """
        return (self.serving.max_batch or self.engine.max_batch) * self.serving.attention_groups

    @property
    def width(self) -> float:
        """Bytes of an activation."""
        return DTYPE_BYTES[self.compute_dtype]

    @property
    def kv_dtype(self) -> str:
        """Type of the cache."""
        return self.compute_dtype if self.serving.kv_dtype == "auto" else self.serving.kv_dtype

    @property
    def matmul_dtype(self) -> str:
        """Type of the matrix units that multiply quantized weights."""
        return self.format.compute or self.compute_dtype

    @property
    def block_size(self) -> int:
        """Tokens of a cache block; 1 where the engine does not page."""
        return self.serving.block_size or self.engine.block_size

    @property
    def pass_tokens(self) -> int:
        """Most tokens of one prefill pass of an attention group."""
        groups = self.serving.attention_groups if self.engine.limits_of_all_groups else 1
        return self.serving.pass_tokens or max(self.engine.prefill_tokens // groups, 1)

    @property
    def splits_prompts(self) -> bool:
        """Whether a pass may take a part of a prompt. Every token of an encoder attends to those behind it: it is read whole."""
        told = bool(self.serving.chunked_prefill_tokens)
        return (self.engine.splits_prompts or told) and self.model.architecture == "decoder"

    @cached_property
    def dispatcher(self) -> str:
        """How tokens come to their experts' GPUs: as the scenario says, else as the engine does by default where the fabric
        allows it, else gathered by the library; "none" where all GPUs that share the experts have all tokens.

        One-sided kernels run by default where ep exceeds the experts of a token; with fewer ranks it reaches nearly all of them
        anyway (TensorRT-LLM, fused_moe, select_alltoall_method_type).
        """
        own = self.serving.dispatcher or self.engine.default_dispatcher
        if self.serving.attention_groups == 1:
            return "none"
        few = own == "one-sided" and self.serving.ep <= self.model.top_k and self.serving.dispatcher is None
        return own if own in self.dispatchers and not few else "gather"

    @property
    def dispatchers(self) -> tuple[str, ...]:
        """Ways of tokens to their experts' GPUs that the engine has and the fabric allows."""
        own, ranks = self.engine.dispatcher, self.serving.ep
        runs = {"deepep": runs_deepep(self.cluster, ranks), "one-sided": ranks <= nvlink_gpus(self.cluster)}
        return ("gather", own) if runs.get(own, False) else ("gather",)

    @cached_property
    def curves(self) -> Curves:
        """Kernel curves of the accelerator."""
        return self.own_curves or curves_of(self.cluster.accelerator)

    @cached_property
    def encoders(self) -> tuple[Setting, ...]:
        """The vision encoders as deployments of their own, an image's patches for a prompt; none where requests have no images.

        Whole on every GPU, as their weights are held, and in 16 bit.
        """
        s, towers = self.serving, self.model.towers if self.serving.images else ()
        found = []
        for tower in towers:
            fields = {"engine": s.engine, "weights": self.compute_dtype, "output": 1}
            seen = Serving.build({**fields, "prompt": s.image_patches or int(tower.patches_per_image or 1)}, "serving")
            found.append(replace(self, model=encoder(tower), serving=seen))
        return tuple(found)

    @cached_property
    def _variants(self) -> dict[int, Setting]:
        return {}

    def of(self, kind: LayerKind) -> Setting:
        """The same deployment with the fields that hold in a layer of that kind."""
        model = self.model.of(kind)
        if model is self.model:
            return self
        if kind.variant not in self._variants:
            self._variants[kind.variant] = replace(self, model=model)
        return self._variants[kind.variant]

    @cached_property
    def inside_experts(self) -> Setting:
        """The same deployment with the model as its experts see it."""
        model = self.model.inside_experts
        return self if model is self.model else replace(self, model=model)

    @property
    def stored_experts(self) -> int:
        """Experts of a layer that all ranks hold together, copies counted."""
        return self.model.num_experts + self.serving.redundant_experts

    @cached_property
    def etp(self) -> float:
        """GPUs that share one expert."""
        return max(self.serving.tp / self.serving.ep, 1.0)

    @cached_property
    def stages(self) -> tuple[tuple[LayerKind, ...], ...]:
        """Layers of each pipeline stage, as even as can be; earlier stages take the odd ones."""
        kinds, pp = self.model.layer_kinds, self.serving.pp
        ends = [-(-len(kinds) * i // pp) for i in range(pp + 1)]
        return tuple(kinds[a:b] for a, b in pairwise(ends))

    def shards(self, shard: Shard) -> float:
        """GPUs over which a tensor is cut."""
        tp, kv_heads = float(self.serving.tp), float(self.model.num_kv_heads)
        ranks = self.serving.ep / (self.stored_experts / self.model.num_experts if self.model.num_experts else 1.0)
        return {
            "tensor": tp,
            "kv_heads": min(tp, kv_heads),
            "vocabulary": tp,
            "replicated": 1.0,
            "expert": ranks * self.etp,
            "expert_replicated": ranks,
        }[shard]

    def tensor_bytes(self, tensor: ParameterTensor) -> float:
        """Bytes of a whole tensor as stored."""
        return tensor.elements * bits_of(self.format, tensor.name, 8.0 * self.width, self.model.tied_embeddings) / 8.0

    def local_bytes(self, tensors: Iterable[ParameterTensor], start: str = "") -> float:
        """Bytes on one GPU of the tensors whose name begins with ``start``."""
        return sum(self.tensor_bytes(t) / self.shards(t.shard) for t in tensors if t.name.startswith(start))

    @cached_property
    def _layer_bytes(self) -> dict[tuple[LayerKind, str], float]:
        """What ``layer_bytes`` has added up already: every pass asks for the same few sums."""
        return {}

    @cached_property
    def stage_weights(self) -> list[float]:
        """Bytes of each stage's weights once ``weights.stage_bytes`` has added them up: every batch asks for the same sums."""
        return []

    def layer_bytes(self, kind: LayerKind, start: str = "") -> float:
        """Bytes on one GPU of a layer's tensors whose name begins with ``start``."""
        known = self._layer_bytes
        if (kind, start) not in known:
            known[kind, start] = self.local_bytes(layer_parameters(self.model, kind), start)
        return known[kind, start]

    @cached_property
    def embedding_bytes(self) -> float:
        """Bytes on one GPU of everything at the entrance."""
        return self.local_bytes(embedding_parameters(self.model))

    @cached_property
    def head_bytes(self) -> float:
        """Bytes on one GPU of everything at the exit; a tied output layer is the embedding."""
        return self.local_bytes(head_parameters(self.model))
