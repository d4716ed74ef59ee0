"""By which training software: what it fuses, what it keeps for the backward pass, what it overlaps, what the host does."""

import shlex
from functools import lru_cache
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator

from planner.common.errors import PlannerError, as_text, near, one_of
from planner.common.files import State
from planner.common.message import Message, shown_value
from planner.common.spec import Spec, whole_number
from planner.model.architecture import Model
from planner.workload.fp8_recipe import SCALINGS, Fp8Recipe
from planner.workload.framework_names import FRAMEWORKS, framework_of_name, is_engine, without_release
from planner.workload.job import Kind

Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Feature = Literal[
    "tp",
    "sequence_parallel",
    "pp",
    "vpp",
    "zero_bubble",
    "cp",
    "ep",
    "etp",
    "zero1",
    "zero2",
    "zero3",
    "hybrid_shard",
    "offload_optimizer",
    "offload_parameters",
    "offload_activations",
    "offload_checkpoints",
    "selective_recompute",
    "edge_layers",
    "uneven_vpp",
    "fp8",
    "time_mixing",
    "overlaps_experts",
]


Module = Literal["core_attn", "layernorm", "moe_act", "mla_up_proj", "mlp", "moe"]
CORE_ATTENTION: frozenset[Module] = frozenset(("core_attn",))


def mixes_time(model: Model) -> bool:
    """Whether layers of a model are RWKV's, which its software must know (feature ``time_mixing``)."""
    return any(model.of(kind).mixes_time for kind in dict.fromkeys(model.layer_kinds))


class Framework(Spec):
    """A training framework. Every constant is measured, fitted or assumed; its provenance says which."""

    name: str
    description: str = ""
    features: frozenset[Feature]
    by_hand: frozenset[Feature] = frozenset()  # what a training loop of one's own adds to it: taken when asked, never searched
    vendors: frozenset[str] = frozenset({"NVIDIA", "AMD"})  # whose accelerators it runs on; a CPU and one's own are never refused

    # numbers in memory
    mixed_precision: Literal["master_weights", "autocast", "sharded_fp32"]
    zero_with_pp: Literal[2, 3] = (
        3  # of FSDP beside a pipeline where no stage is named: fully_shard itself reshards after forward
    )
    gradient_dtype: Literal["fp32", "same"]  # of 16-bit training: fp32, or the parameters' own type
    fp8_recipes: frozenset[Fp8Recipe] = frozenset(SCALINGS)  # ways of scaling that its FP8 library has
    fp8_parameters: bool = False  # FP8 training holds matrices in fp8 only, no 16-bit copy beside them
    persistent_gradients: bool  # a buffer that lives through the step, or tensors freed at its end
    # Transformer Engine caches a gradient that nobody reads for each shape of a weight (get_dummy_wgrad, module/base.py)
    dummy_weight_gradients: bool = False
    # who adds a micro-batch's gradients to those before: the multiplication itself, a kernel, or a kernel after a cast
    gradient_sum: Literal["fused", "added", "cast"] = "added"
    # what becomes of a step's first: added to a buffer of zeros, copied into the buffer of ZeRO 3's shards, or kept as it is
    first_gradient: Literal["added", "copied", "kept"] = "kept"
    gradient_buckets_copy: bool  # data-parallel buckets hold a second copy of the gradients
    activation_accounting: Literal["megatron", "autograd"]

    sharder: Literal["fsdp", "deepspeed"] = "fsdp"  # whose configuration an exported file of transformers' tools holds
    # FSDP accumulates under no_sync: whole gradients on each rank, those of frozen weights beside adapters too
    accumulates_unsharded: bool = False

    # what is fused, hence what the backward pass needs
    attention_kernel: Literal["standard", "eager", "flash"]
    fused_softmax_keys: Annotated[float, Field(ge=0)] = 0.0  # most keys that Megatron's fused softmax takes; 0: not Megatron's
    attention_library: Literal["pytorch", "flash-attn", "transformer-engine"] = "pytorch"  # whose fused kernels it calls
    fused_sinks: bool = True  # its fused kernels know attention sinks (gpt-oss); else scores are computed one by one
    flash_attention: Literal[1, 2, 3]  # generation of the fused kernels: of 2022, FlashAttention-2, the newest (3, cuDNN)
    cudnn_attention: bool = False  # PyTorch takes cuDNN's kernel first where that is faster: from 2.13 on, Hopper and Blackwell
    # what a training script keeps beyond the operators' own: per unfused attention score, per logit, per parameter
    extra_score_bytes: Annotated[float, Field(ge=0)] = 0.0
    extra_logit_bytes: Annotated[float, Field(ge=0)] = 0.0
    extra_parameter_bytes: Annotated[float, Field(ge=0)] = 0.0
    repeats_kv_heads: bool  # copies grouped keys and values to every query head
    layer_linears: Literal["fused", "separate"]  # q, k, v (and gate, up) as one matrix multiply or several
    fused_norm: bool
    fused_activation: bool
    fused_rotary: bool
    fused_dropout: bool
    fused_cross_entropy: bool
    # output layer and loss chunk by chunk, each with its gradient, so that logits of one chunk are held: in how many chunks;
    # True: as many as make a chunk's logits about as large as the input (Liger's fused linear cross-entropy)
    chunked_loss: bool | int = False
    logits_kept: bool = False  # a variable of the training script holds them until the backward pass is over
    loss_in_fp32: bool = True  # an unfused loss upcasts 16-bit logits
    # whether torch.compile covers the loss, which then writes no fp32 copy of the logits
    compiled_loss: Literal["never", "with compile", "always"] = "never"
    fused_router: bool
    grouped_experts: bool  # one grouped matrix multiply, or a loop over experts
    # how tokens come to their experts' ranks; auto: as ``workload.dispatch`` says for the fabric
    dispatcher: Literal["alltoall", "allgather", "deepep", "hybridep", "auto"] = "alltoall"
    # tokens come into the order of their experts and back by kernels made for it, or by PyTorch's indexing
    fused_permutation: bool = True
    permutation_option: str = ""  # of its command line, that turns fused_permutation on; "" = it has none
    pads_vocabulary: bool = False  # up to a multiple of 128 for each tensor-parallel rank
    forced_routing: Literal["random", "in_turn"] = "random"  # what a router that is forced to be even gives each token
    pads_to_capacity: bool = True  # experts of a capacity compute all of it, filled or not; else they only drop what exceeds it
    pads_expert_tokens: bool = False  # FP8: each expert's tokens are copied to a size that its kernels take
    grouped_kernel: Literal["one", "loop"] = "one"  # the grouped multiply is one kernel, or the library launches one per expert
    weighs_expert_outputs: bool  # the router's probabilities multiply the experts' outputs, which are then kept
    weighs_in_fp32: bool = False  # outputs are cast to fp32 for that, and back
    fused_optimizer: Literal["fused", "foreach", "loop"]  # one kernel, one per operation, one per operation and tensor
    checkpoint_stops_early: bool = False  # full recomputation ends with the last tensor that the backward pass needs
    gathers_input_again: bool = False  # sequence parallelism keeps a shard of each linear layer's input, gathered once more
    selective_recompute: Literal["attention_core", "alternate_matmuls"] = "attention_core"  # what "selective" redoes
    # what "selective" redoes, as Megatron-Core's --recompute-modules; None: as ``workload.dispatch`` says
    recompute_modules: frozenset[Module] | None = None
    usual_recompute_modules: tuple[Module, ...] = ()  # of mixtures of experts whose attention is fused
    scan_rate: Annotated[float, Field(gt=0, le=1)] = 1.0  # of Mamba-2's chunked kernels, over streaming bandwidth
    elementwise_rate: Annotated[float, Field(gt=0, le=1)] = 1.0  # of this stack's unfused kernels, over streaming bandwidth

    # adapters on a frozen model
    # peft keeps A and B in fp32; others in the type of the model; peft until 0.11 in that of 16-bit weights, else in fp32
    adapter_dtype: Literal["fp32", "same", "weights"] = "fp32"
    quantized_weights: bool = True  # its linear layers can be swapped for those of bitsandbytes or torchao
    halves_adapters: bool = False  # A and B multiply in 16 bit (DeepSpeed's fp16 engine): no input is cast
    fused_adapters: bool = False  # A and B, their scaling and sum as few kernels that share the layer's kept input
    clones_quantized_output: bool = False  # peft copies what a 4-bit layer gives before adding (tuners/lora/bnb.py, Linear4bit)
    # FSDP wraps each A and B as a unit of its own: no gather of a layer runs beside computation
    adapters_sharded_apart: bool = False
    upcasts_unquantized: bool = False  # peft's prepare_model_for_kbit_training: embeddings, norms and output layer in fp32
    quantized_keeps_input: bool = False  # bitsandbytes until 0.41: each 4-bit layer keeps its input although no weight trains
    int8_keeps_cast: bool = False  # each int8 layer keeps its input in int8, too, though no weight trains (bitsandbytes to 0.44)
    # transformers under FSDP with checkpointed layers and frozen weights: backward frees neither inputs nor their gradients
    sharded_backward_keeps_inputs: bool = False
    dequantize_rate: Annotated[float, Field(gt=0, le=1)] = 0.5  # of kernels that unpack weights, over streaming bandwidth

    cublas: Annotated[int, Field(ge=8)] = 12  # major release; before 11, only aligned products run on tensor cores

    # host
    # full: one launch a step, so that no kernel waits for the host; layers: one a layer and pass, up to a router's counts
    cuda_graphs: Literal["none", "layers", "full"] = "none"
    host_s_per_kernel: Seconds
    host_s_per_group: Seconds | None = None  # of one group where the grouped multiply is a loop; None: ``host_s_per_kernel``
    host_s_per_step: Seconds = 0.0  # once a step: gradient norm, loss scale, data, logging
    host_s_per_chunk: Seconds = 0.0  # the device waits for the host to enter a pipeline chunk, in one pass
    expert_host_s: Seconds = 0.0  # host work of one layer of experts in one pass: token counts, dispatch, many launches
    host_s_per_layer: Seconds  # module calls, checkpoint and random-state bookkeeping of one layer in one pass

    # overlap of communication with computation: the part of it that may hide
    overlap_gradient_reduction: Fraction
    overlap_parameter_gather: Fraction
    overlap_tensor_parallel: Fraction
    overlap_tensor_parallel_gradients: Fraction = 0.0  # of the exchanges that run beside a layer's gradient multiplications
    overlap_expert: Fraction
    overlaps_experts: bool = False  # experts' all-to-all of one micro-batch beside computation of another (Megatron-Core, 1F1B)
    overlap_pipeline: Fraction
    overlap_context: Fraction

    # memory beside the tensors
    context_bytes: Annotated[float, Field(ge=0)]  # CUDA context, cuBLAS, kernels
    communicator_bytes: Annotated[float, Field(ge=0)]  # NCCL, per process group
    bucket_bytes: Annotated[float, Field(ge=0)] = 0.0  # buffers of the data-parallel exchange, of a fixed size
    step_gradients: bool = False  # the optimizer step makes an fp32 copy of its part of the gradients (DeepSpeed)
    library_bytes: Annotated[float, Field(ge=0)] = 0.0  # workspaces of cuBLAS inside the allocator
    fragmentation: Annotated[float, Field(ge=0)]  # reserved / allocated - 1 where there is room
    # of activations and temporaries, cached beside those in use where batches differ in length and fit no old block
    length_fragmentation: Annotated[float, Field(ge=0)] = 0.0
    least_fragmentation: Annotated[float, Field(ge=0)] = 0.03  # what stays of it when memory is short
    host_optimizer_bytes_per_s: Annotated[float, Field(gt=0)]  # of a node's CPUs, when optimizer states live there
    host_process_bytes_per_s: Annotated[float, Field(gt=0)] = 1e12  # of what one process of them does, at most
    notes: str = ""

    # what a user says of a run: each word stands for several of the fields above
    release: str = ""  # one of ``releases``; empty = as the constants above are
    releases: dict[str, dict[str, Any]] = Field(default_factory=dict, repr=False)  # what each release changes
    compile: bool = False  # torch.compile of each layer, and of the loss where ``compiled_loss`` says so
    liger: bool = False  # Liger's kernels for transformers: norms, rotary, gated activation, loss in chunks
    expandable_segments: bool = False  # PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True

    @field_validator("chunked_loss", mode="before")
    @classmethod
    def _true_or_a_number(cls, value: Any) -> bool | int:
        """Of one chunk there is nothing to say, and 1 is not to be taken for true."""
        number = whole_number(value)
        if isinstance(number, bool) or (isinstance(number, int) and number >= 2):
            return number
        raise ValueError(Message("{0} is no number of chunks; give 2 or more, or true or false", shown_value(value)))

    @property
    def answered(self) -> frozenset[Feature]:
        """What a layout may name."""
        return self.features | self.by_hand

    @property
    def edge_layers(self) -> tuple[int, ...]:
        """How many layers embedding and loss may count as when virtual stages are cut evenly (Megatron-LM,
        ``account_for_embedding_in_pipeline_split``, ``account_for_loss_in_pipeline_split``; torchtitan counts both)."""
        return (0, 1, 2) if "edge_layers" in self.features else (0,)

    @property
    def memory_rate(self) -> float:
        """Of memory-bound kernels over streaming bandwidth: this framework's own, or torch.compile's."""
        return COMPILED_RATE if self.compile else self.elementwise_rate

    @property
    def loss_chunks(self) -> int | None:
        """Into how many chunks a number in ``chunked_loss`` cuts the loss; None where it is cut by size, or not at all."""
        return None if isinstance(self.chunked_loss, bool) else self.chunked_loss

    @property
    def loss_is_compiled(self) -> bool:
        """Whether this run's loss is."""
        return self.compiled_loss == "always" or (self.compile and self.compiled_loss == "with compile")

    def replaced(self, **changes: Any) -> Self:
        """A validated copy with some fields changed; words are spelled out, and fields given beside them hold."""
        return super().replaced(**{**self._spelled(changes), **changes})

    def changes(self) -> dict[str, Any]:
        """The fields in which it differs from the catalog's of its name, as a table beside the name takes them: a word stands
        for what it spells. Nothing of a framework that the catalog does not have.

        >>> load_framework("nanogpt").changes()
        {'attention_kernel': 'flash', 'compile': True}
        """
        if self.name not in framework_names():
            return {}
        start = load_framework(self.name)
        named = [name for name in type(self).model_fields if name not in ("provenance", "releases")]
        changed = {name: getattr(self, name) for name in named if getattr(self, name) != getattr(start, name)}
        meant = {**{name: getattr(start, name) for name in named}, **start._spelled(changed)}
        told = [name for name in named if (name in changed if name in SPELT else getattr(self, name) != meant[name])]
        found = {name: getattr(self, name) for name in told}
        return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in found.items()}

    def _spelled(self, changes: dict[str, Any]) -> dict[str, Any]:
        """The fields that the words among ``changes`` stand for."""
        found: dict[str, Any] = {}
        release = changes.get("release")
        if release:
            if as_text(release, "framework.release") not in self.releases:
                have = ", ".join(self.releases) or "none"
                raise PlannerError("framework.release = {0!r}: the catalog has {1} of {2}", release, have, self.name)
            found |= self.releases[release]
        if "flash_attention" in changes:  # that generation, whatever the chip
            found["cudnn_attention"] = False
        if changes.get("compile") is True and not self.compile:
            found |= dict.fromkeys(("fused_norm", "fused_activation", "fused_rotary", "fused_dropout"), True)
            found["extra_score_bytes"] = self.extra_score_bytes / 3.0  # it scales and masks again instead of keeping both
        if changes.get("liger") is True:
            found |= dict.fromkeys(("fused_norm", "fused_activation", "fused_rotary", "chunked_loss"), True)
        if changes.get("expandable_segments") is True:
            found |= {"fragmentation": EXPANDABLE_FRAGMENTATION, "least_fragmentation": EXPANDABLE_FRAGMENTATION}
        return found


SPELT = ("release", "flash_attention", "compile", "liger", "expandable_segments")
"""Fields that stand for several."""
COMPILED_RATE = 0.9
"""Of torch.compile's kernels over streaming bandwidth: few, long, each tensor read once; as fitted for Megatron's fused ones."""
EXPANDABLE_FRAGMENTATION = 0.02
"""Reserved over allocated - 1 where segments grow page by page: pages of 2 MiB, and what is rounded up. Assumed."""


def load_framework(name: str, field: str = "framework.name", *, kind: str | None = None) -> Framework:
    """The framework of that name (or TOML path), of software as people call it; an unknown name is an error in ``field`` that
    lists the near ones. ``kind``: the job's, which decides what transformers stands for. A release after the name is read where
    the framework has it."""
    name, field = as_text(name, field), as_text(field, "field")
    if kind is not None and as_text(kind, "kind") not in get_args(Kind):
        raise PlannerError("kind = {0!r}: {1}.", kind, one_of(kind, get_args(Kind)))
    if not name.endswith(".toml") and name.lower() not in framework_names():
        software = framework_of_name(name, field, kind)
        if software is not None:
            start = _framework(software.pop("name"), field, (None,))
            release = without_release(name)[1]
            software |= {"release": release} if release in start.releases else {}
            return start.replaced(**software) if software else start
        raise _unknown(name, field)
    return _framework(name, field, FRAMEWORKS.state(name))


def _unknown(name: str, field: str) -> PlannerError:
    said: dict[str, Any] = {"code": "unknown", "field": field, "value": name}
    if is_engine(name):
        return PlannerError(
            "{0} = {1!r}: serves and does not train; ask `planner serve --engine {2}`.", field, name, shlex.quote(name), **said
        )
    found = near(name, framework_names())
    listed = found if found.startswith("did you mean") else Message("`planner frameworks list` shows all")
    return PlannerError("{0} = {1!r} is not in {2}; {3}.", field, name, FRAMEWORKS.what, listed, **said)


@lru_cache(maxsize=1024)
def _framework(name: str, field: str, state: tuple[State, ...]) -> Framework:
    path = FRAMEWORKS.path(name, field)
    return Framework.build(FRAMEWORKS.table(name if name.endswith(".toml") else path.stem), str(path))


def forget_frameworks() -> None:
    """Read each framework's file again when it is next asked for: its file has changed."""
    _framework.cache_clear()


def framework_names() -> list[str]:
    """All frameworks of the catalog."""
    return FRAMEWORKS.names()


@lru_cache(maxsize=1024)
def lineage(name: str) -> tuple[str, ...]:
    """A framework and those that it is based on."""
    return FRAMEWORKS.lineage(name) if name in FRAMEWORKS.names() else (name,)


def modules_of(framework: Framework) -> frozenset[Module]:
    """What selective recomputation redoes: the attention core where nothing else is said (Korthikanti et al. 2022, section 5)."""
    return CORE_ATTENTION if framework.recompute_modules is None else framework.recompute_modules
