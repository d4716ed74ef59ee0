"""What the harness writes into ``shape`` and ``extra`` of each family (kernels/families): fields that calibration reads.

Further fields are allowed: the harness may say more than is read here. Bounds lie far beyond any machine; within them the
products that the fits form stay finite.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.common.limits import LARGEST

LARGEST_SIZE = 2**40
"""Of one dimension of a product or of a count of bytes of a stream: some thousand times the memory of a GPU."""
Size = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
Bytes = Annotated[float, Field(ge=0, le=1e18)]
Seconds = Annotated[float, Field(gt=0, le=1e7)]
Tokens = Annotated[int, Field(ge=1, le=LARGEST["job.seq_len"][0])]
Batch = Annotated[int, Field(ge=1, le=LARGEST["serving.batch"][0])]
Degree = Annotated[int, Field(ge=1, le=LARGEST["cluster.num_gpus"][0])]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Product(_Open):
    """(m, k) x (k, n), and which of the two is transposed."""

    m: Size
    n: Size
    k: Size
    layout: Literal["nn", "nt", "tn", "tt"]


class Stream(_Open):
    """Bytes of the largest tensor."""

    bytes: Size


class Copy(Stream):
    """Between host and device."""

    pinned: bool


class Attention(_Open):
    """Of one layer: (batch, seq_len, heads, head_dim)."""

    batch: Batch
    seq_len: Tokens
    heads: Size
    head_dim: Size
    causal: bool


class Grouped(_Open):
    """One product for each expert; ``spread``: how the tokens lie on them."""

    experts: Size
    tokens_per_expert: Size
    n: Size
    k: Size
    spread: str


class Collective(Stream):
    """Over the ranks of one machine (node), one rank of each (across), or all (world)."""

    ranks: Annotated[int, Field(ge=1, le=LARGEST["cluster.num_gpus"][0])]
    span: Literal["world", "node", "across"] = "world"


class Step(_Open):
    """A training step; ``model`` holds the fields of kernels.transformer.ModelConfig, which the planner's model checks."""

    label: str
    model: dict[str, Any]
    seq_len: Tokens
    micro_batch_size: Batch
    num_microbatches: Batch
    recompute: str
    precision: str
    optimizer: str
    role: Literal["fit", "validate"] = "validate"
    lora_rank: Annotated[int, Field(ge=0, le=2**20)] = 0
    ranks: Degree = 1
    tp: Degree = 1
    ep: Degree = 1
    zero: Annotated[int, Field(ge=0, le=3)] = 0


class Layer(_Open):
    """A layer that serves: a prompt of so many tokens, or one token over a cache of them."""

    label: str
    model: dict[str, Any]
    phase: Literal["prefill", "decode"]
    sequences: Batch
    tokens: Tokens


class Seen(_Open):
    """What the driver told while it was timed."""

    clock_reasons: list[str] = []
    processes: Annotated[int, Field(ge=0)] = 1


class Extra(_Open):
    """What any sample may say beside its time."""

    seen: Seen | None = None
    host_bound: bool = False
    kernel: str = ""


class DispatchExtra(Extra):
    """Host seconds of a kernel."""

    host_s_per_kernel: Seconds


class StepExtra(Extra):
    """Memory of a step; ``stack`` holds fields of a framework, which the planner's framework checks."""

    stack: dict[str, Any] = {}
    saved_bytes: Bytes | None = None
    peak_allocated_bytes: Bytes | None = None
    peak_reserved_bytes: Bytes | None = None
    used_by_all_bytes: Bytes | None = None


class ProbeExtra(StepExtra):
    """The largest micro-batch that ran, and the smallest that did not."""

    largest_micro_batch_size: Batch
    smallest_that_fails: Batch | None = None


SHAPES: dict[str, type[BaseModel]] = {
    "gemm": Product,
    "memory": Stream,
    "copies": Copy,
    "attention": Attention,
    "grouped_gemm": Grouped,
    "collectives": Collective,
    "training": Step,
    "distributed_steps": Step,
    "out_of_memory": Step,
    "serving": Layer,
}
EXTRAS: dict[str, type[BaseModel]] = {
    "dispatch": DispatchExtra,
    "training": StepExtra,
    "distributed_steps": StepExtra,
    "out_of_memory": ProbeExtra,
}
