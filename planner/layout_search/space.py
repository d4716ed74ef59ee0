"""The space of layouts of a job on one cluster, cut into blocks whose columns broadcast against each other.

This is the only enumeration: ``plan``, ``search``, ``limit``, ``size``, ``tune``, ``audit`` and the page choose from it. By
default it holds the *usual* layouts; UNUSUAL names the others with the reason, and ``allow`` admits them.

A block holds layouts of one pp whose stages hold the same layers, of one tp or of several. Its last axis lists degrees,
micro-batch and recomputation; before it stand sharding (ZeRO stage and group), optimizer offload, activation offload, and the
schedule with its chunks per stage. What depends on few of these axes is computed on few numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, at_columns
from planner.common.errors import PlannerError, as_texts, one_of
from planner.model.parameters import parameters_total
from planner.performance.pipeline import Stage, stages
from planner.workload.adapters import adapter_parameters, check_targets, saved_parameters
from planner.workload.framework import CORE_ATTENTION, modules_of
from planner.workload.layout import FIELDS, RECOMPUTE, SCHEDULE, Layouts
from planner.workload.precision import precisions
from planner.workload.question import Question

SHORTEST_CONTEXT = 4096
"""Tokens of a sequence on one context-parallel rank, at least: the shortest of 62 published runs with context parallelism
(Llama 3 405B and Grok-1, 8,192 tokens over 2 ranks: NVIDIA-NeMo/Megatron-Bridge, docs/performance-summary.md). Shorter slices
leave the ring exchange, whose latency is not measured, in the open."""
LARGEST_MICRO_BATCH_TOKENS = 131_072
"""Tokens of a micro-batch on one rank, at most: far beyond where matrix multiplications gain from more rows."""
LEAST_OFFLOADED = 0.05
"""Of a GPU, that optimizer states on the host free at least: less lies within the error of predicted memory, whose median is
5 to 10 % (docs/accuracy.md), and the copies take time."""
UNUSUAL = {
    "offload": "states or activations on the host: copies contend for its memory and its links, which is not modelled",
    "short-context": f"context parallelism with fewer than {SHORTEST_CONTEXT:,} tokens on a rank: no published run does it",
    "edge-chunks": "virtual stages that hold embedding or loss alone: their imbalance is not modelled",
    "expert-tensor": "expert tensor parallelism other than 1 and tp, the values that Megatron-Core takes, and any beside expert "
    "parallelism: experts spread whole are preferred (NVIDIA-NeMo/Megatron-Bridge, docs/training/moe-optimization.md)",
    "split-nodes": "tensor-parallel groups that neither divide a node nor fill whole ones: some of them straddle two nodes",
    "shard-groups": "ZeRO groups other than one node and all ranks: they cross nodes, or leave links of a node idle",
    "node-pipeline": "pipeline stages of a framework that shards its layers (FSDP) within one node: no measured run has them",
    "wide-tensor": "tensor parallelism over a network: every layer waits for it, where a pipeline stage waits once a micro-batch",
    "idle-recompute": "recomputation of a fused attention core: it takes time and saves one number per query and head",
    "large-micro-batches": f"micro-batches of more than {LARGEST_MICRO_BATCH_TOKENS:,} tokens on a rank: nothing is gained",
}
"""Layouts that are looked at only where they are allowed by name, or where nothing else fits; and why."""
EVERYTHING = frozenset(UNUSUAL)
OF_ROWS = ("tp", "sequence_parallel", "cp", "ep", "etp", "dp", "micro_batch_size", "recompute")
"""Columns of a block's last axis."""
BESIDE_ROWS = frozenset(("offload", "edge-chunks", "shard-groups"))
"""Of UNUSUAL what is not of these columns, nor of tp and pp: with it or without, the rows are the same."""
MAX_COLUMNS = 5_000_000
"""Layouts listed one by one at most: 15 columns of them take 600 MB."""


def allowed(names: Iterable[str]) -> frozenset[str]:
    """What ``allow`` admits; "all" admits everything. PlannerError for an unknown name."""
    wanted = as_texts(names, "allow")
    for name in wanted:
        if name not in (*UNUSUAL, "all"):
            raise PlannerError("allow = {0!r}: {1}.", name, one_of(name, (*UNUSUAL, "all")))
    return EVERYTHING if "all" in wanted else frozenset(wanted)


@dataclass(frozen=True, kw_only=True)
class LayoutGrid:
    """Every layout of the question's job on its cluster that multiplies out, along the axes that the framework offers.

    Degrees divide the GPUs (tp also the heads, cp the sequence in two slices a rank, ep the experts; etp stays in a node);
    micro-batches divide what one data-parallel rank does a step; ZeRO groups divide the data-parallel ranks. Rules between
    the axes are left to ``planner.performance.feasibility``. ``allow`` names the UNUSUAL layouts that are admitted;
    ``micro_batch_size``, where given, is the only one of a rank, and divides what a rank does a step.
    """

    question: Question
    allow: frozenset[str] = EVERYTHING
    micro_batch_size: int | None = None

    @cached_property
    def tps(self) -> list[int]:
        """Tensor-parallel degrees, the parts of the space."""
        if not self._has("tp"):
            return [1]
        asked = self.question
        most = asked.cluster.num_gpus if "wide-tensor" in self.allow else self._joined
        found = [d for d in divisors(asked.cluster.num_gpus) if asked.model.num_heads % d == 0 and (d == 1 or d <= most)]
        return found if "split-nodes" in self.allow else [d for d in found if self._node % d == 0 or d % self._node == 0]

    def pps(self, tp: int) -> list[int]:
        """Pipeline degrees beside ``tp``."""
        asked = self.question
        shards_in_node = asked.framework.mixed_precision == "sharded_fp32" and asked.cluster.num_nodes == 1
        if not self._has("pp") or (shards_in_node and "node-pipeline" not in self.allow):
            return [1]
        return [d for d in divisors(asked.cluster.num_gpus // tp) if d <= asked.model.num_layers]

    def vpps(self, pp: int) -> list[int]:
        """Chunks per stage: 1, and all that the layers fill evenly, with embedding and loss counted where a stack can.

        Uneven cuts, which some frameworks take stage by stage (``uneven_vpp``), are not searched.
        """
        if pp == 1 or not self._has("vpp"):
            return [1]
        layers = self.question.model.num_layers
        # the first and last chunk may hold embedding and loss alone
        most = (layers + (2 if "edge-chunks" in self.allow else 0)) // pp
        edges = self.question.framework.edge_layers
        even = [v for v in range(2, most + 1) if any((layers + more) % (pp * v) == 0 for more in edges)]
        return [1, *even]

    def rows(self, tp: int, pp: int) -> Layouts:
        """The choices of a block's last axis, columns of shape ``(n,)``; vpp 1 and nothing sharded or offloaded."""
        rest = self.question.cluster.num_gpus // (tp * pp)
        choices: list[tuple[float, ...]] = []
        for cp in self._cps(rest):
            dp, batch = rest // cp, self.question.job.global_batch_size
            # a batch that does not divide is one impossible layout, counted with its reason
            micro = self._micro_batches(batch // dp, cp) if batch % dp == 0 else [1]
            experts = self._experts(tp, rest)
            choices += [
                (tp, s, cp, e, x, dp, b, r)
                for s, (e, x), b, r in itertools.product(self._sequence_parallel(tp), experts, micro, self._recompute)
            ]
        table = np.array(choices, dtype=float).reshape(-1, len(OF_ROWS)).T
        values = {f.name: np.zeros(1) for f in fields(Layouts)}
        values |= {name: np.ascontiguousarray(column) for name, column in zip(OF_ROWS, table, strict=True)}
        values |= {"pp": np.full(1, float(pp)), "vpp": np.ones(1)}
        return Layouts(**values)

    def cuts(self, pp: int) -> dict[tuple[Stage, ...], list[tuple[int, str]]]:
        """(vpp, schedule) of every way to run ``pp`` stages, by the stages' content."""
        found: dict[tuple[Stage, ...], list[tuple[int, str]]] = {}
        for vpp in self.vpps(pp):
            found.setdefault(stages(self.question.tuned().model, pp, vpp), []).extend((vpp, s) for s in self._schedules(pp, vpp))
        return found

    def block(self, rows: Layouts, schedules: list[tuple[int, str]]) -> Layouts:
        """All layouts of ``rows`` with every sharding, offload and (vpp, schedule) of ``schedules`` before the last axis."""
        zero, group = (np.array(column, dtype=float)[:, None] for column in zip(*self.shardings(rows), strict=True))
        vpp = np.array([float(v) for v, _ in schedules])
        schedule = np.array([float(SCHEDULE.index(s)) for _, s in schedules])
        return replace(
            rows,
            vpp=vpp.reshape(-1, 1, 1, 1, 1),
            zero=zero,
            shard_group_size=group,
            offload_optimizer=self._optimizer_switch.reshape(-1, 1, 1),
            offload_parameters=np.zeros((1, 1, 1)),
            offload_activations=self._switch("offload_activations", "offload_checkpoints").reshape(-1, 1, 1, 1),
            schedule=schedule.reshape(-1, 1, 1, 1, 1),
        )

    def shardings(self, rows: Layouts) -> tuple[tuple[int, int], ...]:
        """(ZeRO stage, ranks of a group; 0 = all ranks) of every sharding beside ``rows`` of one (tp, pp); those of several tps
        that have the same make one block."""
        return tuple(self._shardings(int(rows.dp[0] * rows.cp[0]), int(rows.tp[0])))

    def size(self, tp: int) -> int:
        """Number of layouts of one part."""
        total = 0
        for pp in self.pps(tp):
            rows = self.num_rows(tp, pp)
            ranks = self.question.cluster.num_gpus // (tp * pp)
            switches = len(self._optimizer_switch) * len(self._switch("offload_activations", "offload_checkpoints"))
            tails = len(self._shardings(ranks, tp)) * switches
            total += rows * tails * sum(map(len, self.cuts(pp).values()))
        return total

    def blocks(self) -> Iterator[Layouts]:
        """All layouts, a block of broadcasting columns at a time."""
        for tp in self.tps:
            for pp in self.pps(tp):
                rows = self.rows(tp, pp)
                yield from (self.block(rows, schedules) for schedules in self.cuts(pp).values())

    def columns(self) -> Layouts:
        """All layouts as columns of shape ``(n,)``, for ``evaluate``; PlannerError beyond MAX_COLUMNS."""
        size = sum(self.size(tp) for tp in self.tps)
        if size > MAX_COLUMNS:
            raise PlannerError("the space holds {0:,} layouts, too many to list at once; use planner.search instead.", size)
        parts = [block.at(np.arange(math.prod(block.shape))) for block in self.blocks()]
        return Layouts(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Layouts)})

    def num_rows(self, tp: int, pp: int) -> int:
        """Number of ``rows``."""
        rest, batch = self.question.cluster.num_gpus // (tp * pp), self.question.job.global_batch_size
        micro = sum(
            len(self._micro_batches(batch // (rest // cp), cp)) if batch % (rest // cp) == 0 else 1 for cp in self._cps(rest)
        )
        return micro * len(self._experts(tp, rest)) * len(self._sequence_parallel(tp)) * len(self._recompute)

    @property
    def _node(self) -> int:
        """GPUs of a node that take part."""
        return min(self.question.cluster.node.num_gpus, self.question.cluster.num_gpus)

    @property
    def _joined(self) -> int:
        """GPUs that reach each other without a network: of a node, or of a larger domain of NVLink or another fabric."""
        fast = [link for link in self.question.cluster.node.links if link.kind in ("nvlink", "xgmi", "fabric")]
        return max([self._node, *(link.span or self.question.cluster.num_gpus for link in fast)])

    def _has(self, feature: str) -> bool:
        return feature in self.question.framework.features

    def _switch(self, *features: str) -> Array:
        return np.arange(2.0 if any(map(self._has, features)) and "offload" in self.allow else 1.0)

    @cached_property
    def _optimizer_switch(self) -> Array:
        """Whether optimizer states go to the host; never those of a few adapters, which free nearly nothing."""
        adapter = self.question.job.adapter
        trained = parameters_total(self.question.model)
        if adapter is not None:
            check_targets(self.question.model, adapter)
            trained = adapter_parameters(self.question.model, adapter) + saved_parameters(self.question.model, adapter)
        shards = self.question.cluster.num_gpus if any(map(self._has, ("zero1", "zero2", "zero3"))) else 1
        freed = precisions(self.question.job, self.question.framework).model_states * trained / shards
        tiny = freed < LEAST_OFFLOADED * self.question.cluster.accelerator.memory_bytes
        return np.zeros(1) if tiny else self._switch("offload_optimizer")

    def _cps(self, rest: int) -> list[int]:
        s = self.question.job.seq_len
        shortest = 1 if "short-context" in self.allow else SHORTEST_CONTEXT
        usual = [d for d in divisors(rest) if d == 1 or (s % (2 * d) == 0 and s // d >= shortest)]
        return usual if self._has("cp") else [1]

    def _micro_batches(self, batch: int, cp: int) -> list[int]:
        """Micro-batch sizes of a rank that does ``batch`` sequences a step."""
        if self.micro_batch_size is not None:
            return [self.micro_batch_size]
        if "large-micro-batches" in self.allow:
            return divisors(batch)
        most = LARGEST_MICRO_BATCH_TOKENS * cp // self.question.job.seq_len
        return [b for b in divisors(batch) if b == 1 or b <= most]

    def _experts(self, tp: int, rest: int) -> list[tuple[int, int]]:
        """(ep, etp) that divide the ranks of a stage, tp x ``rest``."""
        m, ranks = self.question.model, tp * rest
        if not m.num_experts:
            return [(1, 1)]
        ep = [d for d in divisors(m.num_experts) if d == 1 or self._has("ep")]
        node, width = self._node, int(m.expert_ffn_hidden_size or 1)
        every = "expert-tensor" in self.allow
        usual = divisors(node) if every else sorted({1, tp} & set(divisors(node)))
        etp = [d for d in usual if width % d == 0] if self._has("etp") else [1]
        return [(e, x) for e, x in itertools.product(ep, etp) if ranks % (e * x) == 0 and (every or e == 1 or x == 1)]

    def _sequence_parallel(self, tp: int) -> list[int]:
        if tp == 1 or not self._has("sequence_parallel"):
            return [0]
        return [1] if self.question.model.num_experts else [0, 1]

    @cached_property
    def _recompute(self) -> list[int]:
        runs = self.question.on_stack().framework
        idle = (
            runs.attention_kernel == "flash"
            and runs.selective_recompute == "attention_core"
            and modules_of(runs) == CORE_ATTENTION
        )
        selective = self._has("selective_recompute") and (not idle or "idle-recompute" in self.allow)
        return [i for i, r in enumerate(RECOMPUTE) if r != "selective" or selective]

    def _shardings(self, ranks: int, tp: int) -> list[tuple[int, int]]:
        """(ZeRO stage, ranks of a group); 0 = all ranks. Groups of one rank and of all are stage 0 and group 0."""
        usual = divisors(ranks) if "shard-groups" in self.allow else [d for d in divisors(ranks) if d * tp == self._node]
        groups = [0, *(d for d in usual if 1 < d < ranks and self._has("hybrid_shard"))]
        none = [] if self.question.framework.mixed_precision == "sharded_fp32" else [(0, 0)]
        return [*none, *((z, g) for z in (1, 2, 3) if self._has(f"zero{z}") for g in groups)]

    def _schedules(self, pp: int, vpp: int) -> list[str]:
        if vpp > 1:
            return ["interleaved"]
        return ["1f1b", "zero-bubble"] if pp > 1 and self._has("zero_bubble") else ["1f1b"]


def divisors(number: int) -> list[int]:
    """All divisors, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return list(_divisors(number))


@lru_cache(maxsize=4096)
def _divisors(number: int) -> tuple[int, ...]:
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


def select(layouts: Layouts, rows: NDArray[np.bool_] | slice) -> Layouts:
    """The layouts at some positions of a block's last axis."""
    return Layouts(**{name: at_columns(getattr(layouts, name), rows) for name in FIELDS})


def side_by_side(parts: Sequence[Layouts]) -> Layouts:
    """One block's rows from those of several, alike before the last axis."""
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in OF_ROWS})


def slices(rows: int, tails: int, elements: int) -> Iterator[slice]:
    """Cut ``rows`` so that a block of ``tails`` choices each holds about ``elements`` numbers."""
    step = max(elements // max(tails, 1), 64)
    return (slice(start, start + step) for start in range(0, rows, step))
