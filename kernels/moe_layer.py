"""A mixture-of-experts layer: router, dispatch, experts, combine, shared experts, load-balance loss.

Shapes: t tokens, h hidden, E experts, k experts per token, f an expert's inner width. One token costs k experts' matrix
multiplies, whatever E is; E only decides how many weights there are to choose from.

    logits = x W_router                      (t, E)
    p, chosen = top_k(softmax(logits))       (t, k)
    y = sum_j p_j expert_{chosen_j}(x)  +  shared(x)
    expert(x) = (silu(x W_gate) * (x W_up)) W_down

Three ways to run the experts, equal in their results (tests/kernels/test_moe_layer.py):

``loop``     one expert after the other on the tokens that chose it: the reference, and the fallback
``grouped``  pairs sorted by expert, then one grouped matrix multiply over ragged groups (dropless)
``batched``  a fixed number of places per expert (``capacity_factor``), then one batched multiply; what does not fit is dropped
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import probes
from kernels.expert_parallel import exchange_experts
from kernels.probes import grouped_mm

Implementation = Literal["auto", "loop", "grouped", "batched"]


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """Sizes and choices of one layer. ``capacity_factor`` None means dropless."""

    hidden_size: int
    num_experts: int
    top_k: int
    expert_hidden_size: int
    num_shared_experts: int = 0
    shared_hidden_size: int | None = None  # of one shared expert; None = as a routed one
    capacity_factor: float | None = None
    router_noise: float = 0.0  # standard deviation of what is added to the logits in training
    balance_loss: Literal["switch", "variation", "none"] = "switch"
    shared_stream: bool = False  # on a GPU: the shared experts beside the routed ones, on a stream of their own
    implementation: Implementation = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_experts:
            raise ValueError(f"top_k = {self.top_k}: must be 1 to num_experts = {self.num_experts}")
        if self.capacity_factor is not None and self.capacity_factor <= 0:
            raise ValueError(f"capacity_factor = {self.capacity_factor}: must be positive, or None for dropless")
        if self.capacity_factor is not None and self.implementation == "grouped":
            raise ValueError("implementation = 'grouped' is dropless; use 'batched' or 'loop' with a capacity_factor")
        if self.capacity_factor is None and self.implementation == "batched":
            raise ValueError("implementation = 'batched' needs a capacity_factor; use 'grouped' or 'loop' without one")

    def capacity(self, tokens: int) -> int:
        """Places of one expert: ceil(capacity_factor k t / E) (Switch, Fedus et al. 2021, equation 3)."""
        return math.ceil((self.capacity_factor or 0.0) * self.top_k * tokens / self.num_experts)


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Which experts each token takes, with which weight; ``loss`` asks for balance. Shapes (t, k), (t, k), ()."""

    experts: Tensor
    weights: Tensor
    loss: Tensor


class Router(nn.Module):
    """Scores of all experts; softmax in fp32; the k best, their weights normalized to one when k > 1."""

    def __init__(self, config: MoEConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Routing:
        logits = F.linear(x, self.weight)
        if self.training and self.config.router_noise > 0:  # softmax(logits + noise): spreads early choices (GShard)
            logits = logits + self.config.router_noise * torch.randn_like(logits)
        wide = logits.dtype if logits.dtype == torch.float64 else torch.float32
        probabilities = torch.softmax(logits, dim=-1, dtype=wide)
        weights, experts = torch.topk(probabilities, self.config.top_k, dim=-1)
        if self.config.top_k > 1:  # with k = 1 the weight itself must carry the router's gradient (Switch)
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if self.config.balance_loss == "switch":
            loss = switch_balance_loss(probabilities, experts)
        elif self.config.balance_loss == "variation":
            loss = load_variation(probabilities)
        else:  # a model that serves asks for no balance
            loss = probabilities.new_zeros(())
        return Routing(experts=experts, weights=weights.to(x.dtype), loss=loss)


def switch_balance_loss(probabilities: Tensor, experts: Tensor) -> Tensor:
    """E sum_i f_i P_i: f the share of token-expert pairs, P the mean probability. 1 when balanced, E when one expert has all.

    Source: Switch Transformers (Fedus et al. 2021), equations 4 to 6. Gradients flow through P only: f counts choices.
    """
    num_experts = probabilities.shape[-1]
    chosen = experts.reshape(-1)
    ones = torch.ones_like(chosen, dtype=probabilities.dtype)
    share = torch.zeros(num_experts, dtype=probabilities.dtype, device=chosen.device).scatter_add_(0, chosen, ones)
    return num_experts * (share / chosen.numel() * probabilities.mean(dim=0)).sum()


def load_variation(probabilities: Tensor) -> Tensor:
    """Standard deviation over mean of the experts' load, by probability so that it has a gradient. 0 when balanced.

    Source: importance loss of Shazeer et al. 2017 (there squared), equation 6.
    """
    load = probabilities.sum(dim=0)
    return load.std(unbiased=False) / load.mean()


class SwiGLU(nn.Module):
    """(silu(x W_gate) * (x W_up)) W_down: a dense feed-forward, or the experts that every token passes."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, inner_size, bias=False)
        self.up = nn.Linear(hidden_size, inner_size, bias=False)
        self.down = nn.Linear(inner_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """The weights of several experts as two tensors, (experts, 2 f, h) and (experts, h, f), and three ways to use them."""

    def __init__(self, num_experts: int, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(num_experts, 2 * inner_size, hidden_size))
        self.down = nn.Parameter(torch.empty(num_experts, hidden_size, inner_size))
        for weight in (self.gate_up, self.down):
            nn.init.normal_(weight, std=0.02)

    def one(self, expert: int, x: Tensor) -> Tensor:
        """One expert on its tokens, (n, h) to (n, h)."""
        return F.linear(_swiglu(F.linear(x, self.gate_up[expert])), self.down[expert])

    def ragged(self, x: Tensor, ends: Tensor) -> Tensor:
        """Rows of ``x`` sorted by expert; expert i has the rows before ``ends[i]`` that no earlier one has."""
        inner = _swiglu(grouped_mm(x, self.gate_up.transpose(-2, -1), ends))
        return grouped_mm(inner, self.down.transpose(-2, -1), ends)

    def sliced(self, x: Tensor, ends: Tensor) -> Tensor:
        """As ``ragged``, expert by expert; the host must know the group sizes."""
        bounds = [0, *ends.tolist()]
        return torch.cat([self.one(i, x[start:end]) for i, (start, end) in enumerate(pairwise(bounds))])

    def batched(self, x: Tensor) -> Tensor:
        """(experts, places, h) to the same."""
        return torch.bmm(_swiglu(torch.bmm(x, self.gate_up.transpose(-2, -1))), self.down.transpose(-2, -1))


def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def grouped_mm_problem(device_type: str, dtype: torch.dtype) -> str:
    """Why grouped multiplication does not serve here, found by trying (``kernels.probes``); empty when it does."""
    return str(probes.found(device_type, dtype)["grouped_mm"])


class MoELayer(nn.Module):
    """The layer. With ``group`` (a process group of n ranks) each rank holds E / n experts and all ranks' tokens meet there."""

    def __init__(self, config: MoEConfig, group: Any = None) -> None:
        super().__init__()
        self.config, self.group = config, group
        ranks = torch.distributed.get_world_size(group) if group is not None else 1
        if config.num_experts % ranks:
            raise ValueError(f"num_experts = {config.num_experts}: must be a multiple of the {ranks} expert-parallel ranks")
        if ranks > 1 and config.capacity_factor is not None:
            raise ValueError(f"capacity_factor = {config.capacity_factor}: expert parallelism here is dropless; use None")
        self.router = Router(config)
        self.experts = Experts(config.num_experts // ranks, config.hidden_size, config.expert_hidden_size)
        inner = config.num_shared_experts * (config.shared_hidden_size or config.expert_hidden_size)
        self.shared = SwiGLU(config.hidden_size, inner) if inner else None
        self.second: Any = None  # the stream of the shared experts, made when it is first used

    def implementation(self, x: Tensor) -> str:
        """What runs the experts for this input: the configured choice, or the fastest that works here."""
        if self.config.implementation != "auto":
            return self.config.implementation
        if self.config.capacity_factor is not None:
            return "batched"
        return "loop" if grouped_mm_problem(x.device.type, x.dtype) else "grouped"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., h) to (..., h), and the load-balance loss."""
        tokens = x.reshape(-1, x.shape[-1])
        beside = self._beside(tokens) if self.config.shared_stream and x.is_cuda else None
        routing = self.router(tokens)
        if self.group is not None:
            y = self._parallel(tokens, routing)
        else:
            y = getattr(self, f"_{self.implementation(x)}")(tokens, routing)
        if self.shared is not None:
            y = y + (self.shared(tokens) if beside is None else self._joined(beside))
        return y.view_as(x), routing.loss

    def _beside(self, x: Tensor) -> Tensor | None:
        """The shared experts on the layer's second stream, which starts when the input is there."""
        if self.shared is None:
            return None
        if self.second is None:
            self.second = torch.cuda.Stream(x.device)
        self.second.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(self.second):
            y: Tensor = self.shared(x)
        x.record_stream(self.second)
        return y

    def _joined(self, beside: Tensor) -> Tensor:
        """Wait for the second stream."""
        current = torch.cuda.current_stream(beside.device)
        current.wait_stream(self.second)
        beside.record_stream(current)
        return beside

    def _loop(self, x: Tensor, routing: Routing) -> Tensor:
        y = torch.zeros_like(x)
        for expert in range(self.config.num_experts):
            token, place = torch.where(routing.experts == expert)
            if self.config.capacity_factor is not None:  # earlier tokens win
                capacity = self.config.capacity(x.shape[0])
                token, place = token[:capacity], place[:capacity]
            out = self.experts.one(expert, x[token]) * routing.weights[token, place, None]
            y = y.index_add(0, token, out)
        return y

    def _grouped(self, x: Tensor, routing: Routing) -> Tensor:
        order, _, ends = self._sorted(routing.experts)
        inputs = x.index_select(0, order // self.config.top_k)
        return self._combined(self.experts.ragged(inputs, ends), order, routing.weights)

    def _parallel(self, x: Tensor, routing: Routing) -> Tensor:
        order, _, ends = self._sorted(routing.experts)
        inputs = x.index_select(0, order // self.config.top_k)
        choice = self.config.implementation
        slow = choice == "loop" or (choice == "auto" and grouped_mm_problem(x.device.type, x.dtype))
        run = self.experts.sliced if slow else self.experts.ragged
        return self._combined(exchange_experts(inputs, ends, self.group, run), order, routing.weights)

    def _batched(self, x: Tensor, routing: Routing) -> Tensor:
        """Each pair has a place in its expert's buffer; pairs beyond the capacity go to one row that is thrown away."""
        experts, capacity = self.config.num_experts, self.config.capacity(x.shape[0])
        order, chosen, ends = self._sorted(routing.experts)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]]).to(torch.int64)
        place = torch.arange(order.numel(), device=x.device) - starts[chosen]
        row = torch.where(place < capacity, chosen * capacity + place, experts * capacity)
        buffer = x.new_zeros(experts * capacity + 1, x.shape[-1]).index_copy(
            0, row, x.index_select(0, order // self.config.top_k)
        )
        out = self.experts.batched(buffer[:-1].view(experts, capacity, -1)).view(experts * capacity, -1)
        kept = torch.cat([out, out.new_zeros(1, x.shape[-1])]).index_select(0, row)
        return self._combined(kept, order, routing.weights)

    def _sorted(self, experts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs ordered by expert (t k), their experts, and where each expert's pairs end (E, int32): no host waits here."""
        chosen, order = torch.sort(experts.reshape(-1), stable=True)
        ids = torch.arange(self.config.num_experts, device=experts.device)
        return order, chosen, torch.searchsorted(chosen, ids, right=True, out_int32=True)

    def _combined(self, out: Tensor, order: Tensor, weights: Tensor) -> Tensor:
        """Back to token order, weighted, summed over the k experts of a token."""
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel(), device=order.device)
        pairs = out.index_select(0, back).view(*weights.shape, -1)
        return (pairs * weights.unsqueeze(-1)).sum(dim=1)
