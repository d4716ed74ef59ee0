"""One row of the table of operators: a kernel-like piece of work and everything it costs."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from planner.common.arrays import Number
from planner.common.message import Message
from planner.model.architecture import OPEN

Phase = Literal["forward", "recompute", "backward", "gradient_sync", "optimizer", "prefill", "decode"]
Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"]
Group = Literal["tp", "cp", "ep", "etp"]
ShardGroup = Literal["dense", "expert"]
Role = Literal["product", "input gradient", "weight gradient"]
"""Of a linear layer: y = x W, the gradient of x, the gradient of W."""


@dataclass(frozen=True, kw_only=True)
class Matmul:
    """Shape of ``batch`` multiplications (m, k) x (k, n); ``grouped`` when one kernel runs them all with ragged m."""

    m: Number
    n: Number
    k: Number
    batch: Number = 1.0
    grouped: bool = False
    dtype: str | None = None  # None = the job's matrix-multiply type
    cast: Number = 0.0  # elements quantized for it, where the type is fp8
    aligned: Number = 64.0  # the largest power of two, up to 64, that divides both sizes of the weight

    @property
    def flops(self) -> Number:
        """2 m n k for each of the batch."""
        return 2.0 * self.m * self.n * self.k * self.batch


@dataclass(frozen=True, kw_only=True, slots=True)
class FusedAttention:
    """Shape of one fused (flash) attention kernel: ``sequences x heads`` independent rows of ``queries x keys``."""

    sequences: Number
    heads: Number
    queries: Number
    keys: Number  # that a query attends to on average (half of the sequence under a causal mask)
    qk_head_dim: float
    value_head_dim: float
    backward: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one operator of one layer costs one rank for one micro-batch. Numbers broadcast over ``(n,)``.

    ``name`` is for people, and may be put in other words; ``operator`` says to code which operator it is, the same for its
    forward and its backward rows, and ``role`` which of a linear layer's multiplications; ``has_weight``: it multiplies by a
    weight, not one activation by another.
    ``flops`` executed; ``model_flops`` by the convention of MFU (attention counted in full: PaLM, appendix B),
    ``masked_flops`` those of them that a mask hides;
    ``bytes_moved`` to and from device memory; ``saved_bytes`` kept from forward to backward; ``workspace_bytes`` alive
    only while the operator runs; ``parameters`` that train on this rank, sharded over ``shard_group`` (dense or expert ranks);
    ``frozen_bytes`` of weights that do not train, as they are stored; ``skipped_bytes`` of weights that no pass reads;
    ``communication_bytes`` of ``collective`` over ``group``, as nccl-tests count a message; ``repeats`` how many layers
    have this row (a mean); ``kernels`` launched; ``host_s`` of host work beside launching; ``idle_s`` that the device waits for
    the host; ``host_waits``: here the host waits for the device, so that none of what follows is launched before. ``core`` marks
    what selective recomputation redoes; ``rate`` of memory-bound work over the framework's usual, or ``own_rate`` over streaming,
    whatever the framework's other kernels reach and on any GPU.
    ``beside`` is the row whose computation a collective may run beside. ``copies``: each token of the message goes to that
    many experts, but only once to a node and once to a rank; ``groups`` of experts, and how many of them a token chooses;
    ``in_turn`` the experts of which each token takes neighbours, 0 where it takes any. ``arriving``: of a collective's message,
    the part that a rank is left with.
    ``in_chunks``: memory-bound kernels that multiply between, in no less than their flops take at the peak.
    """

    name: str
    block: str
    phase: Phase
    operator: str = ""
    role: Role | None = None
    has_weight: bool = False
    flops: Number = 0.0
    model_flops: Number = 0.0
    masked_flops: Number = 0.0
    bytes_moved: Number = 0.0
    saved_bytes: Number = 0.0
    workspace_bytes: Number = 0.0
    parameters: Number = 0.0
    frozen_bytes: Number = 0.0
    skipped_bytes: Number = 0.0
    shard_group: ShardGroup | None = None
    communication_bytes: Number = 0.0
    collective: Collective | None = None
    group: Group | None = None
    repeats: Number = 1.0
    kernels: Number = 0.0
    host_s: Number = 0.0
    idle_s: Number = 0.0
    host_waits: bool = False
    imbalance: Number = 1.0
    work: Matmul | FusedAttention | None = None
    core: bool = False
    beside: Row | None = None
    rate: float = 1.0
    own_rate: Number | None = None
    copies: float | None = None
    groups: tuple[int, int] = OPEN
    in_turn: float = 0.0
    arriving: Number = 1.0
    in_chunks: bool = False

    if not TYPE_CHECKING:

        def __init__(self, **given: Any) -> None:
            """As the one that ``dataclass`` makes, by name only, in a quarter of its time: that one sets field by field."""
            values = {**DEFAULTS, **given}
            if len(values) != len(DEFAULTS) or not given.keys() >= REQUIRED:
                wrong = sorted((given.keys() - DEFAULTS.keys()) | (REQUIRED - given.keys()))
                raise TypeError(f"Row takes {', '.join(DEFAULTS)}; missing or unknown: {', '.join(wrong)}")
            object.__setattr__(self, "__dict__", values)


DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Row)}
REQUIRED = frozenset(name for name, value in DEFAULTS.items() if value is MISSING)
assert all(field.default_factory is MISSING for field in fields(Row)), "Row's __init__ takes defaults as they are"

Changed = TypeVar("Changed", Row, Matmul)


def changed(given: Changed, **changes: Any) -> Changed:
    """The row or the shape with some fields changed, as ``dataclasses.replace``, which takes ten times as long: a table is made
    of hundreds of them. TypeError for a field that there is not.

    >>> changed(Matmul(m=2.0, n=3.0, k=5.0), m=7.0).flops
    210.0
    """
    values = {**given.__dict__, **changes}
    if len(values) != len(given.__dict__):
        raise TypeError(f"{type(given).__name__} has no field {', '.join(sorted(changes.keys() - given.__dict__.keys()))}")
    copy = object.__new__(type(given))
    object.__setattr__(copy, "__dict__", values)
    return copy


def streamed(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Rows that pass over whole tokens or logits in order: at the rate of a copy, whatever other kernels of the framework do."""
    return tuple(changed(row, own_rate=1.0) for row in rows)


def is_nothing(amount: Number) -> bool:
    """Whether an amount is the plain 0 of a row that has none: for one layout, what is done with it is what takes the time."""
    return type(amount) is float and amount == 0.0


def part_of(amount: Number, share: Number) -> Number:
    """``share`` of an amount; of nothing, nothing."""
    return amount if is_nothing(amount) else amount * share


def recomputed(row: Row, redo: Number) -> Row:
    """The same work done again in the backward pass where ``redo`` is 1; it saves nothing and has no parameters."""
    return changed(
        row,
        phase="recompute",
        flops=part_of(row.flops, redo),
        model_flops=0.0,
        masked_flops=0.0,
        bytes_moved=part_of(row.bytes_moved, redo),
        saved_bytes=0.0,
        workspace_bytes=0.0,
        parameters=0.0,
        frozen_bytes=0.0,
        shard_group=None,
        communication_bytes=part_of(row.communication_bytes, redo),
        kernels=part_of(row.kernels, redo),
        host_s=part_of(row.host_s, redo),
        idle_s=part_of(row.idle_s, redo),
    )


def alignment(*sizes: Number) -> Number:
    """The largest power of two, up to 64, that divides all ``sizes``: rows of a matrix begin at multiples of it.

    A size that ranks cannot share evenly is a fraction: the fullest of them has the next whole number.

    >>> alignment(768.0, 50257 / 2).item(), alignment(768.0, 50304 / 2).item()
    (1.0, 64.0)
    """
    whole = np.asarray(0, dtype=np.int64)
    for size in sizes:
        whole = whole | np.ceil(np.asarray(size) - 1e-6).astype(np.int64)  # the lowest bit of the union is the lowest of all
    return np.asarray(np.minimum(whole & -whole, 64), dtype=float)


def linear(
    operator: str,
    block: str,
    work: Matmul,
    *,
    width: float,
    saved_bytes: Number = 0.0,
    parameters: Number = 0.0,
    shard_group: ShardGroup = "dense",
    kernels: Number = 1.0,
    backward_workspace_bytes: Number = 0.0,
    useful: Number = 1.0,
    imbalance: Number = 1.0,
    has_weight: bool = True,
) -> tuple[Row, ...]:
    """A linear layer: y = x W forward; dx = dy W' and dW = x' dy backward, each 2 m n k flops.

    ``width`` is the bytes of one activation element. The weight is read in both passes. ``useful`` is the part of the
    flops that the model needs (less than 1 where expert capacity is padded or the fullest rank computes more).
    """
    m, n, k, b = work.m, work.n, work.k, work.batch
    # what precedes a dense layer writes its input in fp8; tokens come to their experts in 16 bit, and are cast there
    work = changed(work, aligned=alignment(n, k), cast=b * m * k if work.grouped else 0.0)
    moved = width * b * (m * k + k * n + m * n)
    # backward, dy is cast once for both gradients
    dx = changed(work, n=k, k=n, cast=b * m * n)
    dw = changed(work, m=k, n=n, k=m, cast=0.0)
    gradient = Row(
        name=Message("{0} input gradient", operator),
        block=block,
        phase="backward",
        operator=operator,
        role="input gradient",
        has_weight=has_weight,
        flops=work.flops,
        model_flops=work.flops * useful,
        bytes_moved=moved,
        kernels=kernels,
        work=dx,
        imbalance=imbalance,
    )
    kept = {"saved_bytes": saved_bytes, "parameters": parameters, "shard_group": shard_group}
    return (
        changed(gradient, name=operator, phase="forward", role="product", work=work, **kept),
        changed(gradient, workspace_bytes=backward_workspace_bytes),
        changed(gradient, name=Message("{0} weight gradient", operator), role="weight gradient", work=dw),
    )


def pointwise(
    operator: str,
    block: str,
    *,
    forward_bytes: Number,
    backward_bytes: Number,
    kernels: Number = 1.0,
    backward_kernels: Number | None = None,
    saved_bytes: Number = 0.0,
    parameters: Number = 0.0,
    workspace_bytes: Number = 0.0,
    core: bool = False,
) -> tuple[Row, ...]:
    """Memory-bound work (norms, activations, dropout, residuals): bytes and kernels forward and backward."""
    return (
        Row(
            name=operator,
            block=block,
            phase="forward",
            operator=operator,
            bytes_moved=forward_bytes,
            saved_bytes=saved_bytes,
            parameters=parameters,
            shard_group="dense",
            kernels=kernels,
            core=core,
            workspace_bytes=workspace_bytes,
        ),
        Row(
            name=Message("{0} gradient", operator),
            block=block,
            phase="backward",
            operator=operator,
            bytes_moved=backward_bytes,
            kernels=kernels if backward_kernels is None else backward_kernels,
        ),
    )


def communication(
    operator: str,
    block: str,
    phase: Phase,
    collective: Collective,
    group: Group,
    message_bytes: Number,
    present: Number,
    beside: Row | None = None,
) -> Row:
    """A collective of ``message_bytes`` where ``present`` is 1 (the group has more than one rank)."""
    return Row(
        name=operator,
        block=block,
        phase=phase,
        operator=operator,
        communication_bytes=message_bytes * present,
        collective=collective,
        group=group,
        kernels=1.0 * present,
        beside=beside,
    )


def gradient_rows(rows: tuple[Row, ...], operator: str) -> tuple[Row, Row]:
    """The input gradient and the weight gradient of the linear layer ``operator`` among ``rows``."""
    found = {row.role: row for row in rows if row.operator == operator}
    return found["input gradient"], found["weight gradient"]
