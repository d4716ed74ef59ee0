"""By which serving software: what its kernels reach, what the host does, how it batches and what memory it takes."""

import re
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from planner.common import data
from planner.common.errors import PlannerError, near
from planner.common.files import State
from planner.common.message import Message, shown_value
from planner.common.references import Catalog
from planner.common.spec import Spec, read_table
from planner.common.units import GIB
from planner.hardware.cluster import Accelerator, runs_on
from planner.model.architecture import Model
from planner.serving.spec import ENGINES_OF_FORMATS, USUAL_ENGINES, Dispatcher, Serving
from planner.serving.weight_formats import Format, format_named
from planner.workload.attention import compute_capability

CATALOG = data.CATALOG / "engines"
NAMES = data.CATALOG / "engine_names.toml"
ENGINES = Catalog(CATALOG, "planner/catalog/engines")
"""Their files; one may be based on another, or take single values from it."""

LIMITS = ("max_batch", "prefill_tokens")
NOT_OF_RELEASES = frozenset({"name", "description", "features", "before", "notes", "provenance"})
"""Fields of an engine that no entry of ``before`` changes; features by ``without``."""
OF_CARD = (*LIMITS, "least_reserved_bytes", "graph_sequences")
"""Fields that an engine may take by the card (``on_cards``); those of its batches first."""

WIDE_GRAPH = 300
"""Sequences above which a CUDA graph of one of several attention groups takes ``WIDE_GRAPH_TIMES`` the memory for each
(sgl-project/sglang, server_args.py, _handle_gpu_memory_settings: 3 MiB, and 4.5 MiB above 300)."""
WIDE_GRAPH_TIMES = 1.5

Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=2)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
"""Of a kernel, a layer, a request: less than a day, beside which those of the GPUs would be lost in rounding."""
MaxBatch = Annotated[int, Field(gt=0, le=2**20)]
Feature = Literal[
    "tp",
    "pp",
    "ep",
    "continuous_batching",
    "paged_cache",
    "chunked_prefill",
    "prefix_cache",
    "speculative",
    "expert_offload",
    "redundant_experts",
    "kv_fp8",
    "kv_int8",
    "prefill_wait",
    "disaggregated",
    "encoder_decoder",
    "image_attention",
    "embeddings",
    "disentangled_positions",
    "shared_weights",
    "time_mixing",
]


class OnCard(Spec):
    """What the software takes where nobody says it: on cards below ``below_gib``, on those whose name begins with ``named``, or
    on any where neither is given; with ``from_ranks``, only where a stage of the server has so many GPUs or more."""

    below_gib: Annotated[float, Field(gt=0)] | None = None  # of the card's memory
    named: str | None = None  # how an accelerator's name begins, whatever its memory
    from_ranks: Annotated[int, Field(gt=0)] = 1
    max_batch: MaxBatch | None = None
    prefill_tokens: Annotated[int, Field(gt=0)] | None = None
    least_reserved_bytes: Annotated[float, Field(ge=0)] | None = None
    graph_sequences: Annotated[int, Field(gt=0)] | None = None

    def holds(self, card: Accelerator, ranks: int) -> bool:
        """Whether it is meant for ``card`` and a stage of ``ranks`` of them (``Serving.ranks``)."""
        if ranks < self.from_ranks:
            return False
        small = self.below_gib is not None and card.memory_bytes < self.below_gib * GIB
        named = self.named is not None and card.name.startswith(self.named)
        return small or named or (self.below_gib is None and self.named is None)

    def limits(self) -> dict[str, float]:
        """Fields of an engine on such a card."""
        return {name: value for name in OF_CARD if (value := getattr(self, name)) is not None}


class BeforeRelease(Spec):
    """What an engine was before a release that its file describes: without some features, and with other values of its fields."""

    release: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]  # from which on the file holds as it stands
    without: frozenset[Feature] = frozenset()  # what came with that release
    fields: dict[str, Any] = Field(default_factory=dict)  # what held before
    source: str  # of the change; an engine at an older release has it as the source of these fields

    @property
    def number(self) -> tuple[int, ...]:
        """The release as numbers, to compare with others."""
        return release_number(self.release)


class Engine(Spec):
    """An inference engine. Rates are over the GPU's kernel curves: 1 = as its measured kernels.

    Time of a pass = max(device + communication, host per layer) + host per step and sequence (pass_time.py); both added up where
    the host waits for the device.
    """

    name: str
    description: str = ""
    features: frozenset[Feature]
    vendors: frozenset[str] = frozenset({"NVIDIA", "AMD"})  # whose accelerators it runs on; a CPU and one's own are never refused

    # kernels
    flash_attention: Literal[1, 2, 3] = 2
    fused_kernels: bool = True  # norm, activation and rotary embedding are one kernel each
    repeats_kv_heads: bool = False  # grouped keys and values are copied to every query head before attention
    reads_kv_per_head: bool = False  # decoding reads grouped keys and values once for every query head
    copies_cache: bool = False  # the cache is copied whole when a token is added
    score_passes: Annotated[float, Field(ge=0)] = 0.0  # over the fp32 scores of prefill, where attention is not one kernel
    score_bytes: Annotated[float, Field(ge=0)] = 0.0  # live bytes of each of these scores
    accumulates_fp16: bool = False  # products of 16-bit numbers are added up in 16 bit, or 8-bit integers are multiplied
    prefill_rate: Rate = 1.0  # of matrix multiplies in prefill
    decode_bandwidth_rate: Rate = 1.0  # of reading 16-bit weights
    attention_bandwidth_rate: Rate = 1.0  # of reading the cache
    prefill_attention_rate: Rate = 1.0
    expert_bandwidth_rate: Rate = 1.0  # of reading experts' weights
    expert_compute_rate: Annotated[float, Field(gt=0, le=8)] = 1.0  # of multiplying by them, over the chip's grouped kernels
    narrow_bandwidth_rate: Rate = 1.0  # of reading fp8 and fp4 weights with arithmetic in that type
    fp8_bandwidth_rate: Rate = 1.0  # of that for fp8: a kernel whose tiles one sequence does not fill
    int4_bandwidth_rate: Rate = 0.7  # of reading 4-bit weights that are expanded on the way
    mxfp4_bandwidth_rate: Rate = 1.0  # of that for mxfp4: its kernels expand to 16 bit what Hopper and older cannot multiply
    awq_bandwidth_rate: Rate = 1.0  # of that for int4-awq: a GEMM kernel in AWQ's own order of weights, not Marlin's
    int8_bandwidth_rate: Rate = 0.8  # of reading 8-bit weights that are expanded on the way
    expanding_compute_rate: Rate = 0.7  # of multiplying by weights that are expanded on the way
    mxfp4_compute_rate: Rate = 0.45  # of that for mxfp4, in place of expanding_compute_rate
    hopper_formats: frozenset[Format] = frozenset()  # expanded ones with kernels in Hopper's own instructions
    expands_fp4: bool = False  # nvfp4 weights run where no units multiply them
    expanding_kernel_s: Seconds = 0.0  # more of it for each such matrix multiply
    launch_s_per_expert: Seconds = 0.0  # of a kernel for each expert and product, chosen or not, where weights are expanded
    expands_first: bool = False  # prefill writes narrow weights to memory in 16 bit, then multiplies by those
    casts_activations: bool = False  # activations are fp32: prefill converts them to 16 bit and back around each multiply
    fused_experts: bool = True  # a layer's experts are sorted and multiplied by grouped kernels, with the latency that these have
    sm_bytes_per_s: Annotated[float, Field(gt=0)] = 1e13  # 16-bit weights that one multiprocessor reads at most
    expanding_sm_bytes_per_s: Annotated[float, Field(gt=0)] = 1e13  # stored bytes that one expands at most
    decode_grouped_tokens: Annotated[float, Field(ge=0)] = 8.0  # rows lost to tiles per expert when few tokens reach it
    prefill_grouped_tokens: Annotated[float, Field(ge=0)] = 1e9  # the same in prefill, at most the chip's
    kernel_latency_rate: Annotated[float, Field(ge=0, le=4)] = 1.0  # of the shortest kernels: graphs hide part of it
    custom_all_reduce: bool = True  # own kernels for small messages between GPUs of a node; else NCCL's
    dispatcher: Dispatcher = "gather"  # its best way of several attention groups' tokens to their experts
    dispatcher_option: str = ""  # of its server, where it takes that dispatcher on request alone
    gathers_narrow: bool = False  # tokens are gathered in the type that experts multiply in; else in 16 bit
    gathers_prompts: Literal["equal", "by_rank", "all_reduce"] = "equal"  # how tokens of prompts come to their experts
    scatters_prompts: Literal["equal", "by_rank", "all_reduce"] = "equal"  # how their sums come back
    by_rank_rate: Rate = 1.0  # of a broadcast, or a reduce, for each rank over the collective that does so for equal parts
    dispatch_rate: Rate = 1.0  # part of a network port's rate that the dispatcher's kernels reach for tokens of decoding
    dispatch_latency_s: Seconds = 0.0  # their seconds for each doubling of the nodes
    collective_rate: Annotated[float, Field(gt=0, le=20)] = 1.0  # seconds of a collective over the measured ones
    collective_wait_s: Seconds = 0.0  # more of it, times log2 of its GPUs: the first one waits for the last one
    exchange_wait_s: Seconds = 0.0  # the same of one over experts

    # host
    host_s_per_step: Seconds  # scheduling, sampling, detokenizing: the device waits
    host_s_per_sequence: Seconds = 0.0  # more of it for each sequence of an attention group
    answers_on_one_rank: bool = False  # one rank streams the answers of all attention groups: for each of their sequences
    host_s_per_layer: Seconds = 0.0  # launching a layer's kernels, beside the device; 0 with CUDA graphs
    launch_s_per_layer: Seconds = 0.0  # launching a layer's kernels in a pass with prompts, where no graph holds them
    expert_launch_s_per_layer: Seconds = 0.0  # the same of a layer with experts, where it is longer
    mxfp4_launch_s_per_layer: Seconds = 0.0  # the same of one with mxfp4 experts on Hopper
    host_s_per_expert: Seconds = 0.0  # a Python loop over experts
    int4_host_rate: Annotated[float, Field(gt=0, le=10)] = 1.0  # host time of a layer of 4-bit over one of 16-bit weights
    awq_host_rate: Annotated[float, Field(gt=0, le=10)] = 1.0  # of int4-awq over other 4-bit ones: split sums are added up apart
    int8_host_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    narrow_host_rate: Annotated[float, Field(gt=0, le=10)] = 1.0  # of layers that compute in fp8 or fp4
    waiting_formats: frozenset[Format] = frozenset()  # whose kernels the host waits for after each product, launching no more
    host_s_per_stage: Seconds = 0.0  # handing over between devices that hold different layers
    captured_context: Annotated[int, Field(gt=0)] | None = None  # longest sequence that CUDA graphs decode; None = any
    captured_batch: Annotated[int, Field(gt=0)] | None = None  # largest batch that they do
    eager_host_s_per_layer: Seconds = 0.0  # launching a layer's kernels beyond these limits
    request_s: Seconds = 0.0  # of a request, outside the model: HTTP, tokenizer, queues between processes, first answer
    request_s_per_token: Seconds = 0.0  # more of it for each token of the prompt

    # batching and placement
    pipelined: bool = True  # stages work at the same time on parts of the batch; else one after the other
    prefill_chunk: Annotated[int, Field(ge=0)] = 0  # tokens of a prefill pass; stages work on several; 0 = whole prompts
    prefill_copies: Annotated[int, Field(gt=0)] = 1_000_000  # passes that the stages hold inputs of at the same time
    prefill_launches_per_layer: Annotated[float, Field(ge=0)] = 0.0  # that the host queues for a pass; 0 = never waits
    expanding_launches_per_layer: Annotated[float, Field(ge=0)] = 0.0  # more of them where weights are expanded first
    max_batch: MaxBatch = 256
    prefill_tokens: Annotated[int, Field(gt=0)] = 8192  # most tokens of one prefill pass
    prefill_beside: bool = False  # prefill shares a pass with decoding, as far as ``prefill_tokens`` go; else decoding waits
    limits_of_all_groups: bool = False  # its server's tokens of a pass, and stated places, are of all attention groups together
    splits_prompts: bool = True  # such a pass may take the beginning of a prompt
    schedules_ahead: bool = False  # the next pass is put together while one runs: who comes meanwhile joins the one after
    reserved_output: Fraction = 1.0  # part of a request's output that is reserved in the cache when it is admitted
    block_size: Annotated[int, Field(gt=0)] = 16

    # memory
    memory_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9  # of the card that it may take
    reserved_bytes: Annotated[float, Field(ge=0)] = 0.0  # that it leaves of a card, in place of memory_fraction; 0 = that holds
    least_reserved_bytes: Annotated[float, Field(ge=0)] = 0.0  # what it leaves at least, however small its passes
    graph_sequences: Annotated[int, Field(ge=0)] = 0  # of the widest CUDA graph
    reserved_bytes_per_graph_sequence: Annotated[float, Field(ge=0)] = 0.0  # further bytes for each sequence of it
    reserved_bytes_per_group_sequence: Annotated[float, Field(ge=0)] = 0.0  # further ones for each and attention group
    reserved_bytes_per_token: Annotated[float, Field(ge=0)] = 0.0  # further bytes for each token of a prefill pass
    reserved_bytes_per_gpu: Annotated[float, Field(ge=0)] = 0.0  # further bytes for each GPU of a replica
    memory_counts: Literal["all", "weights_and_cache", "cache"] = "all"  # what that is a fraction for (memory.limit_bytes)
    context_bytes: Annotated[float, Field(ge=0)]  # CUDA context, kernels, graphs
    communicator_bytes: Annotated[float, Field(ge=0)] = 0.25e9
    logits: Literal["last", "all"] = "last"  # positions of a prompt whose logits are computed
    logits_bytes: Annotated[float, Field(ge=0)] = 6.0  # per logit: 16 bit and fp32
    workspace_hidden: Annotated[float, Field(ge=0)] = 6.0  # live tensors of hidden size, per token of a pass
    workspace_ffn: Annotated[float, Field(ge=0)] = 3.0  # live tensors of the feed-forward's inner size, per token
    on_cards: tuple[OnCard, ...] = ()  # other limits on some cards; the first that holds counts
    before: tuple[BeforeRelease, ...] = ()  # what it was before later ones of its releases, newest first
    notes: str = ""

    @model_validator(mode="after")
    def _check_before(self) -> Self:
        for newer, older in pairwise(self.before):
            if older.number >= newer.number:
                raise ValueError(
                    Message("before: release {0} stands behind {1}; the newest comes first", older.release, newer.release)
                )
        changed = [name for name in type(self).model_fields if name not in NOT_OF_RELEASES]
        for entry in self.before:
            unknown = next((name for name in entry.fields if name not in changed), None)
            if unknown is not None:
                raise ValueError(
                    Message("before: {0!r} is no field that a release changes; {1}", unknown, near(unknown, changed))
                )
            if not entry.fields and not entry.without:
                raise ValueError(Message("before: nothing changed with release {0}; give without or fields", entry.release))
            self.replaced(before=(), **entry.fields)  # refuses impossible values
        return self

    @property
    def default_dispatcher(self) -> Dispatcher:
        """How tokens of several attention groups come to their experts where nobody asks for another way."""
        return "gather" if self.dispatcher_option else self.dispatcher

    def on(self, card: Accelerator, ranks: int = 1) -> Self:
        """The same with the limits that it takes where nobody says them, on ``ranks`` of ``card`` for each stage."""
        found = next((entry for entry in self.on_cards if entry.holds(card, ranks)), None)
        return self if found is None else self.model_copy(update=found.limits())


@cache
def _families() -> dict[str, dict[str, Any]]:
    """Software by name: ``names`` that people use for it, ``releases`` (first version -> engine), oldest first."""
    return dict(read_table(NAMES)["family"])


@cache
def _families_by_name() -> dict[str, str]:
    return {str(n).lower(): family for family, entry in _families().items() for n in (family, *entry.get("names", ()))}


def release_number(text: str) -> tuple[int, ...]:
    """A release as numbers.

    >>> release_number("0.9.2") < release_number("0.10")
    True
    """
    return tuple(map(int, text.split(".")))


def resolve_engine(name: str) -> str | None:
    """The catalog's engine behind a name as people write it; None for an unknown one.

    A file's name, a family ("vLLM" is its newest engine), or a family with a version: "vLLM 0.6.3", "sglang==0.5.9",
    "llama.cpp b3622" are the engine of that release, and "transformers 4" of the newest 4. A version that is no number ("dev") is
    the newest. What stands between the words ("vllm v0", "vllm-v0") changes nothing.
    """
    return _resolved(name)[0]


@lru_cache(maxsize=1024)
def _resolved(name: str) -> tuple[str | None, tuple[int, ...] | None]:
    """The engine behind a name, and the release that the name states; None where it states none."""
    text = " ".join(name.lower().split())
    file = re.sub(r"[\s=@_-]+", "-", text)
    if file in engine_names():
        return file, None
    known = _families_by_name()
    family, version = known.get(text), ""
    if family is None:
        start = max((n for n in known if text.startswith(n) and not text[len(n)].isalnum()), key=len, default=None)
        if start is None:
            return None, None
        family, version = known[start], text[len(start) :].strip(" =@-_()v")
    numbers = re.match(r"\d+(\.\d+)*", version)
    asked = release_number(numbers.group()) if numbers else None
    releases = releases_of(family)
    older = [first for first in releases if asked is None or first[: len(asked)] <= asked]
    return releases[max(older, default=min(releases))], asked


def releases_of(family: str) -> dict[tuple[int, ...], str]:
    """First release -> engine of a family, oldest first."""
    return {release_number(first): str(engine) for first, engine in _families()[family]["releases"].items()}


def canonical_name(name: str) -> str:
    """An engine's name: its file's, or the family's with the release where that release was something else.

    It names the same engine as ``name`` and is its own canonical name.

    >>> canonical_name("vLLM 0.8.5"), canonical_name("vllm==0.12.0")
    ('vllm-0.8.5', 'vllm-0.13')
    """
    found, asked = _resolved(name)
    if found is None or asked is None or load_engine(name) == load_engine(found):
        return found or name
    return f"{engine_family(found)}-{'.'.join(map(str, asked))}"


def names_with(feature: str) -> list[str]:
    """The catalog's engines that have a feature; those of which not all releases have it by the first that does.

    >>> [name for name in names_with("redundant_experts") if name.startswith("vllm")]
    ['vllm-0.9.2', 'vllm-v1']
    """
    able = [load_engine(name) for name in engine_names()]
    came = {e.name: max((b for b in e.before if feature in b.without), key=lambda b: b.number, default=None) for e in able}
    return [f"{engine_family(e.name)}-{b.release}" if (b := came[e.name]) else e.name for e in able if feature in e.features]


def older_releases(engine: str) -> tuple[str, ...]:
    """The other engines of its family, newest first; empty for a family of one."""
    for entry in _families().values():
        every = [str(e) for e in entry["releases"].values()]
        if engine in every:
            return tuple(e for e in reversed(every) if e != engine)
    return ()


def load_engine(name: str) -> Engine:
    """The engine of that name, family or release (or TOML path); an unknown name is an error that lists the near ones."""
    return _engine(name, ENGINES.state(name))


@lru_cache(maxsize=1024)
def _engine(name: str, state: tuple[State, ...]) -> Engine:
    if name.endswith(".toml") and Path(name) in ENGINES.files().values():
        return Engine.build(_table(Path(name).stem), name)
    if name.endswith(".toml"):
        table = _table(name)
        if "before" in table:
            raise PlannerError(
                "{0}: before = {1}: only engines of the catalog are asked for by release; state the values that hold instead.",
                name,
                shown_value(table["before"]),
            )
        return Engine.build(table, name)
    found, release = _resolved(name)
    if found is None:
        raise PlannerError(
            "serving.engine = {0!r} is not in {1}; {2}.", name, ENGINES.what, near(name, [*engine_names(), *_families()])
        )
    newest = Engine.build(_table(found), str(ENGINES.path(found, "serving.engine")))
    return newest if release is None else _at(newest, release)


def _at(newest: Engine, release: tuple[int, ...]) -> Engine:
    """An engine as it was at a release; one without its last numbers is the newest of its series ("0.9": 0.9.2)."""
    later, changes = _changed_after(newest, release)
    if not later:
        return newest
    description = f"{newest.description}; as it was before {later[-1].release}"
    return newest.replaced(**changes, description=description, before=newest.before[len(later) :])


def _changed_after(newest: Engine, release: tuple[int, ...]) -> tuple[tuple[BeforeRelease, ...], dict[str, Any]]:
    """What changed after a release, newest first; and the fields as they were at it, each with the source of its change."""
    later = tuple(entry for entry in newest.before if release < entry.number[: len(release)])
    changes = {field: _sourced(value, entry.source) for entry in later for field, value in entry.fields.items()}
    came = [entry for entry in later if entry.without]
    if came:
        features = newest.features.difference(*(entry.without for entry in came))
        changes["features"] = _sourced(features, "; ".join(entry.source for entry in came))
    return later, changes


def _sourced(value: Any, source: str) -> dict[str, Any]:
    return {"value": value, "kind": "published", "source": source}


def _table(name: str) -> dict[str, Any]:
    """All fields of an engine; what a file states holds on every card, against ``on_cards`` of a file that it is based on.

    A file of older releases that is based on one of newer ones of its family takes that as it was at first (``before``).
    """
    table, lineage = ENGINES.table(name), ENGINES.lineage(name)
    family = engine_family(name)
    firsts = {engine: first for first, engine in releases_of(family).items()} if family in _families() else {}
    for at in reversed(range(1, len(lineage))):
        if firsts.get(lineage[at], ()) > firsts.get(name, ()):
            _, changes = _changed_after(load_engine(lineage[at]), firsts[name])
            table |= {f: value for f, value in changes.items() if ENGINES.stated_by(name, f) not in lineage[:at]}
    entries = table.get("on_cards")
    if not isinstance(entries, list):
        return table
    by = lineage.index(ENGINES.stated_by(name, "on_cards"))
    stated = {field for field in OF_CARD if ENGINES.stated_by(name, field) in lineage[:by]}
    kept = [{k: v for k, v in entry.items() if k not in stated} if isinstance(entry, dict) else entry for entry in entries]
    return {**table, "on_cards": kept}


def engine_for(spec: Serving, card: Accelerator) -> Engine:
    """The engine of a deployment with the limits that it takes on ``card``, and the part of it that it takes or is told to."""
    engine = load_engine(spec.engine).on(card, spec.ranks)
    return engine.model_copy(update={"memory_fraction": memory_fraction(engine, spec, card)})


def memory_fraction(engine: Engine, spec: Serving, card: Accelerator) -> float:
    """The part of ``card`` that a deployment states, else that of its engine.

    An engine that leaves a number of bytes free takes f = max(1 - max(r + g b + a b G + t p + u n, m) / C, 0) of a card of C
    bytes, in thousandths: r = ``reserved_bytes``, g = ``reserved_bytes_per_graph_sequence`` (b = ``graph_sequences``), a =
    ``reserved_bytes_per_group_sequence`` where there are G > 1 attention groups, ``WIDE_GRAPH_TIMES`` it for graphs wider than
    ``WIDE_GRAPH``, t = ``reserved_bytes_per_token`` (p = tokens of a prefill pass of all groups), u = ``reserved_bytes_per_gpu``
    (n GPUs of a replica), m = ``least_reserved_bytes``. With f = 0 nothing fits.
    """
    if spec.memory_fraction is not None:
        return spec.memory_fraction
    if not engine.reserved_bytes:
        return engine.memory_fraction
    here, groups = engine.on(card, spec.ranks), spec.attention_groups
    told = spec.chunked_prefill_tokens or spec.pass_tokens
    tokens = told * (groups if here.limits_of_all_groups else 1) if told else here.prefill_tokens
    left = here.reserved_bytes + here.reserved_bytes_per_graph_sequence * here.graph_sequences
    if groups > 1:
        wide = WIDE_GRAPH_TIMES if here.graph_sequences > WIDE_GRAPH else 1.0
        left += wide * here.reserved_bytes_per_group_sequence * here.graph_sequences * groups
    left += here.reserved_bytes_per_token * tokens + here.reserved_bytes_per_gpu * spec.gpus_per_replica
    return max(round(1.0 - max(left, here.least_reserved_bytes) / card.memory_bytes, 3), 0.0)


def usual_engine(card: Accelerator, model: Model | None = None, weights: str | None = None) -> str:
    """The engine that is taken on an accelerator, for a model, where none is named; the first of all where none runs, which then
    says so. ``weights``: their format, which may be an engine's own.

    >>> from planner.hardware.cluster import load_accelerator
    >>> [usual_engine(load_accelerator(name)) for name in ("h100-sxm5-80gb", "apple-m3-max-128gb")]
    ['vllm', 'llama.cpp']
    >>> usual_engine(load_accelerator("h100-sxm5-80gb"), weights="Q4_K_M")
    'llama.cpp'
    """

    def runs(name: str) -> bool:
        engine = load_engine(name)
        return runs_on(card, engine) and (model is None or runs_model(engine, model))

    own = ENGINES_OF_FORMATS.get(format_named(weights or ""))
    return next(filter(runs, (*((own,) if own else ()), *USUAL_ENGINES)), USUAL_ENGINES[0])


def expands_fp4(engine: Engine, card: Accelerator) -> bool:
    """Whether the engine's kernels expand fp4 weights on the way: on NVIDIA's GPUs from Turing on (vllm, marlin_utils_fp4.py,
    is_fp4_marlin_supported)."""
    capability = compute_capability(card)
    return engine.expands_fp4 and capability is not None and capability >= (7, 5)


def weights_of_tags(name: str | None) -> str | None:
    """The format of a checkpoint that software fetches where nobody names one; None where it takes the checkpoint as it is.

    >>> weights_of_tags("Ollama"), weights_of_tags("vllm")
    ('q4_k_m', None)
    """
    said = re.split(r"[ =@:]", (name or "").strip().casefold())[0]
    return next((str(f["weights_of_tags"][said]) for f in _families().values() if said in f.get("weights_of_tags", {})), None)


def runs_model(engine: Engine, model: Model) -> bool:
    """Whether an engine runs such a model: some run decoders alone, and few layers that attend to images or make vectors, or the
    layers of DeBERTa, ALBERT and RWKV."""
    wanted = {
        "encoder_decoder": model.cross_attention,
        "image_attention": model.reads_images,
        "embeddings": model.embeds,
        "disentangled_positions": model.disentangled_positions > 0,
        "shared_weights": any(model.of(kind).shared_weights for kind in model.layer_kinds),
        "time_mixing": any(model.of(kind).mixes_time for kind in model.layer_kinds),
    }
    return all(feature in engine.features for feature, needed in wanted.items() if needed)


@lru_cache(maxsize=1024)
def engine_family(name: str) -> str:
    """The software that an engine is a release of; the engine itself where it is the only one."""
    return next((f for f, entry in _families().items() if name in entry["releases"].values()), name)


@cache
def _engine_names() -> tuple[str, ...]:
    shared = read_table(NAMES)["shared"]
    return tuple(name for name in ENGINES.names() if name not in shared)


def engine_names() -> list[str]:
    """All engines of the catalog that one can serve with."""
    return list(_engine_names())
