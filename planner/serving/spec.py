"""The ``[serving]`` table: in which format, cut how, for which requests, and what counts as good."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from planner.common.arrays import Number
from planner.common.limits import MOST
from planner.common.message import Message
from planner.common.spec import Spec
from planner.operators.expert_load import zipf_load
from planner.serving.weight_formats import GROUPED, Format, Part, format_named, formats_meant

Positive = Annotated[int, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
KvDtype = Literal["auto", "fp32", "fp16", "bf16", "fp8", "int8"]
Dispatcher = Literal["gather", "deepep", "one-sided"]
MOST_CLIENTS = 16_384
"""Of a closed loop, on each replica."""


MOST_VARIED = 100
"""Standard deviation of lengths over their mean: a guard against slips of the pen, far above what requests do. Assumed."""
LEAST_REQUESTS = 100
"""Simulated: of fewer a 99th percentile is the largest of them."""


class Lengths(Spec):
    """How long prompts or outputs are, in tokens. A plain number means all alike.

    ``lognormal``: ``mean`` and ``standard_deviation`` of the length itself, cut at ``maximum``; ``uniform``: whole numbers
    from ``low`` to ``high``; ``histogram``: ``values`` with ``weights`` that need not add up to one.
    """

    kind: Literal["fixed", "lognormal", "uniform", "histogram"] = "fixed"
    mean: Annotated[float, Field(gt=0, le=MOST)] | None = None
    standard_deviation: Annotated[float, Field(ge=0)] | None = None
    low: Positive | None = None
    high: Positive | None = None
    values: tuple[Positive, ...] = ()
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    maximum: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        needs = {
            "fixed": ("mean",),
            "lognormal": ("mean", "standard_deviation"),
            "uniform": ("low", "high"),
            "histogram": ("values", "weights"),
        }
        given = {n for n in ("mean", "standard_deviation", "low", "high", "values", "weights") if getattr(self, n)}
        missing = [n for n in needs[self.kind] if (n not in given and getattr(self, n) is None) or getattr(self, n) == ()]
        if missing:
            raise ValueError(
                Message("kind = {0!r} needs {1}; {2} is missing", self.kind, " and ".join(needs[self.kind]), missing[0])
            )
        extra = sorted(given - set(needs[self.kind]))
        if extra:
            raise ValueError(
                Message(
                    "{0} does not belong to kind = {1!r}, which takes {2}", extra[0], self.kind, " and ".join(needs[self.kind])
                )
            )
        if self.kind == "fixed" and self.mean is not None and self.mean != int(self.mean):
            raise ValueError(Message("mean = {0:g} with kind = 'fixed': must be a whole number of tokens", self.mean))
        if self.standard_deviation and self.mean and self.standard_deviation > MOST_VARIED * self.mean:
            raise ValueError(
                Message(
                    "standard_deviation = {0:g}: more than {1} times mean = {2:g}; give a smaller one, or a larger mean",
                    self.standard_deviation,
                    MOST_VARIED,
                    self.mean,
                )
            )
        if self.low is not None and self.high is not None and self.high < self.low:
            raise ValueError(Message("high = {0} is below low = {1}", self.high, self.low))
        if len(self.values) != len(self.weights):
            raise ValueError(Message("{0} values but {1} weights; give as many of each", len(self.values), len(self.weights)))
        if self.weights and sum(self.weights) <= 0:
            raise ValueError("weights are all zero; at least one must be positive")
        return self

    @model_validator(mode="before")
    @classmethod
    def _number(cls, data: Any) -> Any:
        if isinstance(data, int) and not isinstance(data, bool):
            return {"kind": "fixed", "mean": data}
        return data


class Speculative(Spec):
    """A draft model proposes ``tokens``, the model checks them in one pass (Leviathan et al. 2023, arXiv 2211.17192).

    ``acceptance`` is the chance that a proposed token is accepted, independently. No ``draft``: proposals cost nothing
    (n-gram lookup).
    """

    draft: str | None = None  # a model of the catalog, or a path
    tokens: Annotated[int, Field(gt=0, le=64, strict=True)]
    acceptance: Fraction


def replica_gpus(*, tp: int = 1, pp: int = 1, ep: int = 1) -> int:
    """GPUs of one replica: tp x pp, or ep x pp where experts spread wider."""
    return max(tp, ep) * pp


class PrefillPool(Spec):
    """GPUs of their own for prompts, beside those of ``tp``, ``pp``, ``ep`` and ``dp``, which then only decode."""

    replicas: Annotated[int, Field(gt=0, le=65_536, strict=True)] = 1
    tp: Positive = 1
    pp: Positive = 1
    ep: Positive = 1

    @property
    def num_gpus(self) -> int:
        """GPUs of all prefill replicas."""
        return replica_gpus(tp=self.tp, pp=self.pp, ep=self.ep) * self.replicas


PROMPT, OUTPUT, PASSAGE = 1024, 256, 512
"""Tokens of a prompt and an answer where nothing says them, and of a text that becomes a vector: a chat's turn, a passage of a
document; assumed."""
USUAL_ENGINES = ("vllm", "llama.cpp", "tensorrt-llm", "sglang", "huggingface")
"""Engines that are taken where none is named, the first that runs the model on the accelerator (``engine.usual_engine``)."""
ENGINES_OF_FORMATS = {**dict.fromkeys(("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0"), "llama.cpp"), "exl2": "exllamav2"}
"""Engines whose own formats these are: they come before the others."""


class Serving(Spec):
    """One deployment. ``batch``: sequences decoded together on a replica when no load is given."""

    engine: str = USUAL_ENGINES[0]
    weights: Format = "bf16"
    group_size: Positive | None = None  # of AWQ, GPTQ and int4; None = 128
    bits_per_weight: Annotated[float, Field(gt=0, le=16)] | None = None
    keep_16_bit: tuple[Part, ...] | None = None  # parts left in 16 bit; None = the format's usual ones
    compute_dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"  # of activations
    kv_dtype: KvDtype = "auto"
    block_size: Positive | None = None  # tokens of a cache block; None = the engine's
    memory_fraction: Annotated[float, Field(gt=0, le=1)] | None = None  # of the card that it may take; None = the engine's

    tp: Positive = 1
    pp: Positive = 1
    ep: Positive = 1
    dp: Positive = 1  # replicas of the whole
    prefill_pool: PrefillPool | None = None  # replicas that only prefill; the others only decode
    dispatcher: Dispatcher | None = (
        None  # how tokens of several attention groups come to their experts; None = the engine's default
    )

    batch: Positive = 1
    max_batch: Positive | None = None
    prompt: Lengths
    output: Lengths  # of ``embeds`` one answer, which takes no token
    max_context: Positive | None = None  # most tokens of a request, prompt and answer, that the server takes; None = the model's
    embeds: bool = False  # the answer is a vector (embedding, score, class): prompts are read, no text is written
    images: Annotated[float, Field(ge=0, le=10_000)] = 0.0  # of a request, in the mean; their tokens are part of the prompt
    streamed: bool = True  # answers are sent token by token; else whole, as batches of an offline run are
    image_patches: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 0  # that the encoder sees; 0 = as the model fixes it
    requests_per_s: Annotated[float, Field(gt=0)] | None = None  # all replicas together
    clients: Positive | None = None  # of a closed loop, all replicas together: each waits for its answer before it asks again
    ttft_target_s: Seconds | None = None
    tpot_target_s: Seconds | None = None
    e2e_target_s: Seconds | None = None
    prefix_cache_hit_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0  # part of the prompt's tokens found in the cache
    response_cache_hit_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0  # part of the requests answered without the model
    response_cache_s: Annotated[float, Field(ge=0)] = 0.005  # latency of such an answer: a look-up over the network, assumed
    chunked_prefill_tokens: Positive | None = None  # tokens of a pass that prefill may take beside decoding
    pass_tokens: Positive | None = None  # most tokens of one prefill pass; None = the engine's
    captured_batches: tuple[Positive, ...] = ()  # batches with a CUDA graph, none padded to the next; () = as the engine does
    prefill_wait_steps: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 0  # decode steps that prompts wait for company
    prefill_wait_share: Fraction = 0.0  # of a pass's tokens, at which they wait no longer
    speculative: Speculative | None = None
    expert_offload: Fraction = 0.0  # part of the experts in host memory, read over the host link when touched
    expert_load: Annotated[float, Field(ge=1)] | None = None  # tokens on the fullest expert rank / mean; None = of expert_zipf
    expert_zipf: Annotated[float, Field(ge=0, le=4)] = 0.0  # exponent of the experts' popularity; 0 = all alike
    expert_placement: Literal["random", "sorted", "rebalanced"] | None = None  # None = random, rebalanced with copies
    redundant_experts: Annotated[int, Field(ge=0, le=65_536, strict=True)] = 0  # copies of full experts, on all ranks together
    num_requests: Annotated[int, Field(ge=LEAST_REQUESTS, le=5_000_000, strict=True)] = 20_000  # simulated
    seed: Annotated[int, Field(ge=0, strict=True)] = 0

    @field_validator("weights", mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if several := formats_meant(value):
            raise ValueError(Message("{0!r} may be {1}; name the one that is meant", value, ", ".join(several)))
        return format_named(value)

    @model_validator(mode="before")
    @classmethod
    def _vectors(cls, data: Any) -> Any:
        """Where vectors are made, nobody need say how long an answer is."""
        if isinstance(data, dict) and data.get("embeds") is True and data.get("output") is None:
            return {**data, "output": 1}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bits_per_weight is not None and self.weights != "exl2":
            raise ValueError(
                Message("bits_per_weight = {0:g} belongs to weights = 'exl2', not {1!r}", self.bits_per_weight, self.weights)
            )
        self._check_format()
        if max(self.ep, self.tp) % min(self.ep, self.tp):
            raise ValueError(Message("ep = {0} and tp = {1}: one must divide the other", self.ep, self.tp))
        if self.max_batch is not None and self.batch > self.max_batch * self.attention_groups:
            shown = str(self.max_batch) if self.attention_groups == 1 else f"{self.max_batch} x {self.attention_groups}"
            raise ValueError(Message("batch = {0} exceeds max_batch = {1}; raise max_batch or lower batch", self.batch, shown))
        if self.weights in ("fp16", "bf16", "fp32") and self.compute_dtype not in ("auto", self.weights):
            raise ValueError(
                Message(
                    "compute_dtype = {0!r} with weights = {1!r}: unquantized weights compute in their own type; drop "
                    "compute_dtype",
                    self.compute_dtype,
                    self.weights,
                )
            )
        targets = (self.ttft_target_s, self.tpot_target_s, self.e2e_target_s)
        if any(t is not None for t in targets) and self.requests_per_s is None and self.clients is None:
            raise ValueError("a latency target (ttft_target_s, tpot_target_s, e2e_target_s) needs requests_per_s or clients")
        self._check_load()
        self._check_waiting()
        self._check_pool()
        if "response_cache_s" in self.model_fields_set and not self.response_cache_hit_rate:
            raise ValueError(
                Message(
                    "response_cache_s = {0:g} needs response_cache_hit_rate: else no request is answered so",
                    self.response_cache_s,
                )
            )
        self._check_experts()
        self._check_vectors()
        return self

    def _check_vectors(self) -> None:
        """Raise ValueError for what belongs to text beside ``embeds``."""
        if not self.embeds:
            return
        if (self.output.kind, self.output.mean) != ("fixed", 1.0):
            raise ValueError("embeds = true: the answer is a vector, not text; leave output out")
        for field in ("speculative", "prefill_pool", "tpot_target_s"):
            if getattr(self, field) is not None:
                raise ValueError(Message("embeds = true with {0}: no text is decoded; leave {0} out", field))

    def _check_experts(self) -> None:
        """Raise ValueError for a load that no rank can have, or a placement of experts that are all alike."""
        if self.expert_placement is not None and (not self.expert_zipf or self.expert_load is not None or self.ep == 1):
            raise ValueError(
                Message(
                    "expert_placement = {0!r} needs expert_zipf above 0, ep above 1 and no expert_load: what is placed are "
                    "experts of unlike popularity",
                    self.expert_placement,
                )
            )
        if self.redundant_experts and self.ep == 1:
            raise ValueError(
                Message("redundant_experts = {0}: with ep = 1 every GPU has all experts; use ep above 1", self.redundant_experts)
            )
        if self.redundant_experts and self.expert_placement in ("random", "sorted"):
            raise ValueError(
                Message(
                    "expert_placement = {0!r} with redundant_experts = {1}: copies go where the load is; leave expert_placement "
                    "out",
                    self.expert_placement,
                    self.redundant_experts,
                )
            )
        if self.expert_load is not None and self.expert_load > self.ep:
            raise ValueError(
                Message(
                    "expert_load = {0:g} with ep = {1}: the fullest of {2} expert rank(s) has at most {3} times the "
                    "mean; raise ep, or leave expert_load out",
                    self.expert_load,
                    self.ep,
                    self.ep,
                    self.ep,
                )
            )

    def rank_load(self, num_experts: int) -> float:
        """Tokens on the fullest of the expert ranks over the mean: given, or of the experts' popularity and placement."""
        if self.expert_load is not None:
            return min(self.expert_load, float(self.ep))
        if not self.expert_zipf or self.ep == 1:
            return 1.0
        usual = "rebalanced" if self.redundant_experts else "random"
        return zipf_load(self.expert_zipf, num_experts, self.ep, self.expert_placement or usual, self.redundant_experts)

    def _check_load(self) -> None:
        """Raise ValueError for two loads at once, or a closed loop of more than the simulation takes."""
        if self.clients is None:
            return
        if self.requests_per_s is not None:
            raise ValueError(
                Message(
                    "clients = {0} and requests_per_s = {1:g}: clients who wait for their answers make the rate a "
                    "result; give one of the two",
                    self.clients,
                    self.requests_per_s,
                )
            )
        if self.response_cache_hit_rate:
            raise ValueError(
                Message("response_cache_hit_rate = {0:g} needs requests_per_s, not clients", self.response_cache_hit_rate)
            )
        if self.clients > MOST_CLIENTS * self.dp:
            raise ValueError(
                Message(
                    "clients = {0}: at most {1} a replica are simulated; give requests_per_s instead", self.clients, MOST_CLIENTS
                )
            )

    def _check_pool(self) -> None:
        """Raise ValueError for a prefill pool with what is not modelled beside it."""
        pool = self.prefill_pool
        if pool is None:
            return
        if max(pool.ep, pool.tp) % min(pool.ep, pool.tp):
            raise ValueError(Message("prefill_pool: ep = {0} and tp = {1}: one must divide the other", pool.ep, pool.tp))
        for field in ("speculative", "expert_offload", "prefill_wait_steps"):
            if getattr(self, field):
                raise ValueError(Message("prefill_pool with {0}: not modelled together; leave one of the two out", field))

    def _check_waiting(self) -> None:
        """Raise ValueError for two sizes of a pass, half of a rule for waiting prompts, or one that nothing follows."""
        if self.pass_tokens is not None and self.chunked_prefill_tokens is not None:
            raise ValueError(
                Message(
                    "pass_tokens = {0} and chunked_prefill_tokens = {1}: chunks are the size of a pass; give one of the two",
                    self.pass_tokens,
                    self.chunked_prefill_tokens,
                )
            )
        if (self.prefill_wait_steps > 0) != (self.prefill_wait_share > 0):
            raise ValueError(
                Message(
                    "prefill_wait_steps = {0} and prefill_wait_share = {1:g}: prompts wait while both bounds are open; "
                    "give both, or neither",
                    self.prefill_wait_steps,
                    self.prefill_wait_share,
                )
            )
        if self.prefill_wait_steps and self.requests_per_s is None and self.clients is None:
            raise ValueError(
                Message(
                    "prefill_wait_steps = {0} needs requests_per_s or clients: a prompt alone does not wait",
                    self.prefill_wait_steps,
                )
            )

    def _check_format(self) -> None:
        """Raise ValueError for fields that the format of the weights does not have."""
        if self.group_size is not None and self.weights not in GROUPED:
            raise ValueError(
                Message(
                    "group_size = {0} with weights = {1!r}: only {2} have groups of any size; leave it out",
                    self.group_size,
                    self.weights,
                    ", ".join(GROUPED),
                )
            )
        if self.keep_16_bit is not None and self.weights in ("fp16", "bf16", "fp32"):
            raise ValueError(
                Message(
                    "keep_16_bit = {0} with weights = {1!r}: nothing is quantized; leave it out, or name a narrower format",
                    list(self.keep_16_bit),
                    self.weights,
                )
            )

    @property
    def attention_groups(self) -> int:
        """Groups of tp GPUs that each attend to a part of the batch, where experts spread over more GPUs than tp."""
        return max(self.ep // self.tp, 1)

    def fullest_group(self, sequences: Number) -> NDArray[np.float64]:
        """Sequences of the fullest attention group: a sequence stays whole on one."""
        here = np.asarray(sequences, dtype=float)
        return here if self.attention_groups == 1 else np.asarray(np.ceil(here / self.attention_groups))

    @property
    def ranks(self) -> int:
        """GPUs of one stage of a replica: what its server is told as its tensor parallelism (SGLang, --tp-size)."""
        return replica_gpus(tp=self.tp, ep=self.ep)

    @property
    def gpus_per_replica(self) -> int:
        """Those of ``replica_gpus``."""
        return replica_gpus(tp=self.tp, pp=self.pp, ep=self.ep)

    @property
    def num_gpus(self) -> int:
        """GPUs of all replicas, those that only prefill included."""
        return self.gpus_per_replica * self.dp + (self.prefill_pool.num_gpus if self.prefill_pool else 0)
