"""Cut how: parallel degrees, sharding, micro-batch, recomputation and offload, for one layout or for millions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from planner.common.arguments import as_list
from planner.common.arrays import Array, Number, at_index
from planner.common.errors import PlannerError
from planner.common.message import Message, shown_value
from planner.common.spec import Spec

Degree = Annotated[int, Field(gt=0, strict=True)]


class Recompute(IntEnum):
    """What the backward pass computes again; columns of layouts hold these numbers."""

    NONE = 0
    SELECTIVE = 1
    FULL = 2


class Schedule(IntEnum):
    """In what order a pipeline's stages work on micro-batches; columns of layouts hold these numbers."""

    ONE_FORWARD_ONE_BACKWARD = 0
    INTERLEAVED = 1
    ZERO_BUBBLE = 2


RECOMPUTE = ("none", "selective", "full")
"""Names of Recompute, by its numbers."""
SCHEDULE = ("1f1b", "interleaved", "zero-bubble")
"""Names of Schedule, by its numbers."""


class Layout(Spec):
    """One way to spread a job over a cluster. Degrees are numbers of ranks; ``dp`` follows from the others."""

    tp: Degree = 1
    sequence_parallel: bool = False
    pp: Degree = 1
    vpp: Degree = 1  # model chunks per pipeline stage
    cp: Degree = 1
    ep: Degree = 1
    etp: Degree = 1  # tensor parallel degree inside an expert
    dp: Degree | None = None
    zero: Annotated[int, Field(ge=0, le=3, strict=True)] = 0  # 1 optimizer, 2 + gradients, 3 + parameters (FSDP)
    shard_group_size: Annotated[int, Field(ge=0, strict=True)] = 0  # ranks that ZeRO shards over; 0 = all of dp x cp
    micro_batch_size: Degree = 1
    recompute: Literal["none", "selective", "full"] = "none"
    schedule: Literal["1f1b", "interleaved", "zero-bubble"] | None = None  # None = interleaved when vpp > 1, else 1f1b
    offload_optimizer: bool = False
    offload_parameters: bool = False  # shards of ZeRO 3 live on the host, and come in for each gather
    offload_activations: bool = False

    @property
    def label(self) -> str:
        """Short text for tables, with what departs from the defaults; ``layout_text.layout_fields`` reads it back."""
        parts = [
            f"{n}{getattr(self, n)}" for n in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp") if getattr(self, n) not in (1, None)
        ]
        parts += ["sp"] if self.sequence_parallel else []
        parts += [f"zero{self.zero}"] if self.zero else []
        parts += [f"shard{self.shard_group_size}"] if self.shard_group_size else []
        parts += [f"mbs{self.micro_batch_size}", f"recompute {self.recompute}"]
        parts += ["zero-bubble"] if self.schedule == "zero-bubble" else []
        parts += ["offload optimizer"] if self.offload_optimizer else []
        parts += ["offload parameters"] if self.offload_parameters else []
        parts += ["offload activations"] if self.offload_activations else []
        return " ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Layouts:
    """Many layouts as columns, each of shape ``(n_layouts,)``, float64 (whole numbers: int64 products would wrap).

    ``recompute`` and ``schedule`` hold numbers of Recompute and Schedule; booleans are 0.0 or 1.0.
    """

    tp: Array
    sequence_parallel: Array
    pp: Array
    vpp: Array
    cp: Array
    ep: Array
    etp: Array
    dp: Array
    zero: Array
    shard_group_size: Array
    micro_batch_size: Array
    recompute: Array
    schedule: Array
    offload_optimizer: Array
    offload_parameters: Array
    offload_activations: Array

    def __len__(self) -> int:
        return int(self.tp.shape[0])

    def take(self, index: Any) -> "Layouts":
        """The rows that ``index`` selects (mask or positions)."""
        return Layouts(**{name: getattr(self, name)[index] for name in FIELDS})

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape that the columns broadcast to: ``(n,)``, or one axis for each choice of a block of layouts."""
        return np.broadcast_shapes(*(getattr(self, name).shape for name in FIELDS))

    def at(self, positions: NDArray[np.intp]) -> "Layouts":
        """The layouts at flat ``positions`` of a block, as columns of shape ``(n,)``."""
        index = np.unravel_index(positions, self.shape)
        return Layouts(**{name: at_index(getattr(self, name), index) for name in FIELDS})

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """The fields by name, as people read them: whole numbers, truth values, names of recomputation and schedule."""
        names = {"recompute": np.array(RECOMPUTE), "schedule": np.array(SCHEDULE)}
        flags = ("sequence_parallel", "offload_optimizer", "offload_parameters", "offload_activations")
        found: dict[str, NDArray[Any]] = {}
        for f in fields(self):
            column = getattr(self, f.name)
            if f.name in names:
                found[f.name] = names[f.name][column.astype(int)]
            elif f.name == "dp":  # a fraction where the degrees do not divide the GPUs
                found[f.name] = column
            else:
                found[f.name] = column.astype(bool if f.name in flags else int)
        return found

    def row(self, i: int) -> Layout:
        """Row ``i`` as a Layout."""
        values: dict[str, Any] = {f.name: int(getattr(self, f.name)[i]) for f in fields(self)}
        values["recompute"] = RECOMPUTE[values["recompute"]]
        values["schedule"] = SCHEDULE[values["schedule"]]
        return Layout(**values)

    @cached_property
    def ranks(self) -> Array:
        """Data-parallel ranks that hold the same dense parameters: dp x cp, shape ``(n,)``."""
        return self.dp * self.cp

    @cached_property
    def expert_ranks(self) -> Array:
        """Ranks that hold the same experts: world / (pp ep etp), shape ``(n,)`` (Megatron's expert data parallel)."""
        return self.tp * self.cp * self.dp / (self.ep * self.etp)

    @cached_property
    def shard_ranks(self) -> Array:
        """Ranks that ZeRO shards dense states over, shape ``(n,)``; 1 without ZeRO."""
        group = np.where(self.shard_group_size > 0, self.shard_group_size, self.ranks)
        return np.where(self.zero > 0, group, 1.0)

    @cached_property
    def expert_shard_ranks(self) -> Array:
        """Ranks that ZeRO shards expert states over, shape ``(n,)``: their own group, never wider than it."""
        group = np.where(self.shard_group_size > 0, np.minimum(self.shard_group_size, self.expert_ranks), self.expert_ranks)
        return np.where(self.zero > 0, group, 1.0)


FIELDS = tuple(f.name for f in fields(Layouts))
"""Names of the columns, in their order."""


def checked(layouts: Layouts) -> Layouts:
    """Columns made by hand, as float64; PlannerError that names one that is no column of numbers, or of another length."""
    found: dict[str, Array] = {}
    for name in FIELDS:
        given = getattr(layouts, name)
        try:
            column = np.asarray(given, dtype=float)
        except (TypeError, ValueError, OverflowError):
            column = np.zeros(())
        if column.ndim != 1 or len(column) != len(found.get("tp", column)) or not np.isfinite(column).all() or (column < 0).any():
            raise PlannerError(
                "layouts.{0} = {1}: must be a column of numbers of at least 0, as long as layouts.tp.",
                name,
                shown_value(given, 60),
                code="type",
                field=f"layouts.{name}",
                value=given,
            )
        found[name] = column
    return Layouts(**found)


def as_rows(layouts: Layout | Iterable[Layout | Mapping[str, Any]]) -> list[Layout]:
    """Layouts from their fields, or themselves; PlannerError where there is none."""
    rows: list[Layout | Mapping[str, Any]]
    rows = [layouts] if isinstance(layouts, Layout) else as_list(layouts, "layouts", Message("layouts, each a table of fields"))
    if not rows:
        raise PlannerError("layouts = {0!r}: the list is empty; give at least one layout.", rows)
    return [
        r.checked(Message("layout {0}", i)) if isinstance(r, Layout) else Layout.build(r, Message("layout {0}", i))
        for i, r in enumerate(rows)
    ]


def as_columns(layouts: Layouts | Layout | Iterable[Layout | Mapping[str, Any]], num_gpus: Number) -> Layouts:
    """Layouts in columns. ``dp`` left open becomes num_gpus / (tp cp pp), a fraction when they do not divide.

    ``num_gpus``: of one cluster, or of a cluster for each layout.
    """
    if isinstance(layouts, Layouts):
        return layouts
    specs = as_rows(layouts)

    def column(name: str) -> Array:
        return np.array([float(getattr(s, name) or 0) for s in specs])

    tp, pp, vpp, cp = column("tp"), column("pp"), column("vpp"), column("cp")
    schedule = [s.schedule or ("interleaved" if s.vpp > 1 else "1f1b") for s in specs]
    dp = np.array([float("nan") if s.dp is None else float(s.dp) for s in specs])
    return Layouts(
        tp=tp,
        sequence_parallel=column("sequence_parallel"),
        pp=pp,
        vpp=vpp,
        cp=cp,
        ep=column("ep"),
        etp=column("etp"),
        dp=np.where(np.isnan(dp), num_gpus / (tp * cp * pp), dp),
        zero=column("zero"),
        shard_group_size=column("shard_group_size"),
        micro_batch_size=column("micro_batch_size"),
        recompute=np.array([float(RECOMPUTE.index(s.recompute)) for s in specs]),
        schedule=np.array([float(SCHEDULE.index(s)) for s in schedule]),
        offload_optimizer=column("offload_optimizer"),
        offload_parameters=column("offload_parameters"),
        offload_activations=column("offload_activations"),
    )
