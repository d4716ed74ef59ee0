"""A whole training step: forward, loss, backward, clipping, AdamW; with peak memory, saved bytes and average power."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from kernels import probes
from kernels.case import DTYPES, Case, Work
from kernels.faults import check_alive, out_of_memory
from kernels.footprint import fitting, peak_bytes
from kernels.lora import add_adapters
from kernels.models import Step, cpu_steps, gpu_steps
from kernels.moe_layer import grouped_mm_problem
from kernels.optimizers import Optimizer, adam_8bit, adamw, bitsandbytes
from kernels.probes import fused_attention
from kernels.session import Session
from kernels.timing import Timing
from kernels.transformer import Choices, build, fused_norm, shares_kv_heads

FAMILY = "training"
MOST_KERNELS = 60
"""Lines of a profiled step; the rest is added up."""
FORMS = 4
"""How many smaller forms of a step are tried when memory runs out."""


def cases(session: Session) -> Iterator[Case]:
    """Every step of the list, in its order, on a GPU in the form that should fit."""
    for step in gpu_steps() if session.cuda else cpu_steps():
        yield training_case(step, session)


def training_case(step: Step, session: Session) -> Case:
    """The sample of one step; on a GPU with smaller forms behind it, should memory run out."""
    precision = step.precision or session.half
    case: Case | None = None
    for form in reversed(forms(step, precision, session)):
        case = Case(
            family=FAMILY,
            name="training step",
            shape=form.fields(precision),
            dtype=precision.removesuffix("-pure"),
            build=lambda s, form=form: training_work(form, precision, s),
            smaller=case,
        )
    assert case is not None
    return case


def forms(step: Step, precision: str, session: Session) -> list[Step]:
    """The step as it should fit, then a few forms that each take a tenth less memory than the one before."""
    if not session.cuda:
        return [step]
    free, _ = torch.cuda.mem_get_info(session.device)
    grouped = not grouped_mm_problem("cuda", DTYPES[precision.removesuffix("-pure")])
    return apart(fitting(step, precision, float(free), grouped=grouped, fused_norm=fused_norm("cuda")), precision)


def apart(fit: list[Step], precision: str) -> list[Step]:
    """The first of the forms, and a few more that each take a tenth less memory than the one before."""
    found: list[Step] = []
    for form in fit:
        if len(found) < FORMS and (not found or peak_bytes(form, precision) < 0.9 * peak_bytes(found[-1], precision)):
            found.append(form)
    return found


@dataclass(kw_only=True)
class Trainer:
    """A model, its optimizer, and one step of them on fresh random tokens."""

    step: Step
    model: torch.nn.Module
    optimizer: Optimizer
    device: torch.device
    around: Callable[[bool], AbstractContextManager[Any]] = lambda last: nullcontext()  # each micro-batch; last one or not
    after_backward: Callable[[], Any] = lambda: None
    clip: Callable[[Iterable[torch.nn.Parameter]], Any] = lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 1.0)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Random tokens and labels, (b, s) each."""
        size = (self.step.micro_batch_size, self.step.seq_len)
        v = self.step.model.vocab_size
        return torch.randint(0, v, size, device=self.device), torch.randint(0, v, size, device=self.device)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        """The loss of one micro-batch."""
        loss: Tensor = self.model(ids, labels)
        return loss / self.step.num_microbatches

    def run(self) -> Tensor:
        """One optimizer step; returns the last micro-batch's loss."""
        loss = torch.zeros(())
        for i in range(self.step.num_microbatches):
            ids, labels = self.batch()
            with self.around(i == self.step.num_microbatches - 1), attention_kernels(self.step):
                loss = self.forward(ids, labels)
                loss.backward()
        self.after_backward()
        self.clip(self.model.parameters())
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def attention_kernels(step: Step) -> AbstractContextManager[None]:
    """Fused kernels only, where fused attention is asked for: no silent fall to another."""
    return fused_attention() if step.attention == "flash" else nullcontext()


def choices(step: Step, expert_group: Any = None) -> Choices:
    """How the model is to run."""
    return Choices(
        attention=step.attention,
        recompute=step.recompute,
        experts=step.experts,
        expert_group=expert_group,
        balance_loss=step.balance_loss,
        theta=step.theta,
    )


def make_trainer(step: Step, precision: str, device: torch.device) -> Trainer:
    """Model and optimizer on the device."""
    model = build(step.model, choices(step), device, DTYPES[precision.removesuffix("-pure")])
    if step.lora_rank:
        add_adapters(model, step.lora_rank)
    trained = [p for p in model.parameters() if p.requires_grad]
    made = adam_8bit if step.optimizer == "adamw-8bit" else adamw
    return Trainer(step=step, model=model, optimizer=made(trained, precision), device=device)


def stack(step: Step, precision: str, device: torch.device) -> dict[str, Any]:
    """What is fused and kept here, in the planner's words: the software stack that a prediction must assume."""
    dtype = DTYPES[precision.removesuffix("-pure")]
    batched = step.model.capacity_factor is not None  # one batched product
    grouped = step.experts == "auto" and (batched or not grouped_mm_problem(device.type, dtype))
    by_group = device.type == "cuda" and grouped and not batched and probes.found("cuda", dtype)["grouped_kernel"] == "loop"
    shared = step.model.num_kv_heads == step.model.num_heads or shares_kv_heads(device.type, dtype)
    return {
        "framework": "kernels",
        "attention_kernel": step.attention,
        "fused_norm": fused_norm(device.type),
        "repeats_kv_heads": not shared or step.attention == "eager",
        "grouped_experts": grouped,
        "grouped_kernel": "loop" if by_group else "one",
        "fused_optimizer": "fused" if step.optimizer == "adamw" or _has_8bit_kernel(device) else "foreach",
    }


def _has_8bit_kernel(device: torch.device) -> bool:
    return device.type == "cuda" and bitsandbytes() is not None


Maker = Callable[[Step, str, torch.device], Trainer]


def training_work(
    step: Step, precision: str, session: Session, make: Maker = make_trainer, *, sharded: bool = False, **more: Any
) -> Work:
    """The timed step; ``more`` goes into the record's description of the software stack.

    What autograd saves is not counted where weights are ``sharded``: gathered weights would count as activations.
    """
    session.watch.release()
    before = _reset(session)
    trainer = make(step, precision, session.device)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    losses = [float(trainer.run())]  # allocates the optimizer's states
    saved = None if sharded else saved_bytes(trainer)
    _reset(session)

    def finish(timing: Timing) -> dict[str, Any]:
        memory = _memory(session, before)
        tokens = step.micro_batch_size * step.num_microbatches * step.seq_len
        return {
            "parameters": parameters,
            "saved_bytes": saved,
            "tokens_per_s": tokens / timing.median_s,
            "first_loss": losses[0],
            **_power(session.seen, timing),
            **memory,
            **_profiled(session, trainer),
            "stack": {**stack(step, precision, session.device), **more},
        }

    def check() -> float:
        """The first loss of a random model is about ln V: anything else, and the step is not a step."""
        expected = torch.log(torch.tensor(float(step.model.vocab_size))).item() / step.num_microbatches
        return abs(losses[0] - expected) / expected

    return Work(run=trainer.run, check=check, tolerance=0.25, finish=finish, cold=False, warm_up=2, least=5)


def _power(seen: dict[str, Any], timing: Timing) -> dict[str, Any]:
    """Average power, and joules of one step by the board's counter where the timing lasted for half a second."""
    found = {"power_w": seen.get("power_w")}
    if "energy_j" in seen and timing.median_s * timing.repeats > 0.5:
        found["energy_j_per_step"] = seen["energy_j"] / timing.repeats
    return found


def _profiled(session: Session, trainer: Trainer) -> dict[str, Any]:
    """Once per model, the kernels of one step: (name, launches, seconds), the longest first. On a CPU its operators."""
    key = json.dumps([trainer.step.model.fields(), trainer.step.recompute, trainer.step.attention], sort_keys=True)
    if key in session.profiled or session.ranks > 1 or session.case_budget_s < (1.0 if session.cuda else 10.0):
        return {}
    session.profiled.add(key)
    kinds = torch.profiler.ProfilerActivity
    try:
        with torch.profiler.profile(activities=[kinds.CPU, *([kinds.CUDA] if session.cuda else [])]) as seen:
            trainer.run()
            session.watch.synchronize()
        return {"kernels": kernel_table(seen.key_averages(), session.cuda)}
    except Exception as error:  # the profiler needs counters that a driver or a container may deny
        if not out_of_memory(error):
            check_alive(session.device)
        return {"kernels_problem": f"{type(error).__name__}"}


def kernel_table(events: Any, cuda: bool) -> list[list[Any]]:
    """Rows [name, count, seconds] of the profiler's averages: device kernels on a GPU, operators' own time on a CPU."""
    rows = []
    for event in events:
        on_device = str(event.device_type).endswith(("CUDA", "HIP"))
        seconds = (event.self_device_time_total if cuda else event.self_cpu_time_total) * 1e-6
        if on_device == cuda and seconds > 0:
            rows.append([str(event.key)[:160], int(event.count), float(seconds)])
    rows.sort(key=lambda row: -row[2])
    rest = rows[MOST_KERNELS:]
    return [*rows[:MOST_KERNELS], *([["others", sum(r[1] for r in rest), sum(r[2] for r in rest)]] if rest else [])]


def _reset(session: Session) -> int:
    """Empty the allocator's cache, restart its peaks; bytes that stay allocated."""
    if not session.cuda:
        return 0
    session.watch.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(session.device)
    return int(torch.cuda.memory_allocated(session.device))


def _memory(session: Session, before: int) -> dict[str, Any]:
    """Peak bytes of the allocator since the last reset; ``before`` was there before the model."""
    if not session.cuda:
        return {"peak_allocated_bytes": None, "peak_reserved_bytes": None}
    session.watch.synchronize()
    free, total = torch.cuda.mem_get_info(session.device)
    return {
        "peak_allocated_bytes": int(torch.cuda.max_memory_allocated(session.device)) - before,
        "allocated_before_bytes": before,
        "peak_reserved_bytes": int(torch.cuda.max_memory_reserved(session.device)),
        "used_by_all_bytes": int(total - free),
    }


def saved_bytes(trainer: Trainer) -> int:
    """Bytes of all storages that one micro-batch's forward pass keeps for its backward pass, without weights, each once.

    Nothing is packed: a saved output that held its own graph would keep every activation of this pass for ever.
    """
    weights = {p.untyped_storage()._cdata for p in trainer.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # alive until the end, so that no later one takes its place

    def pack(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept.setdefault(storage._cdata, storage)

    def unpack(_: None) -> Tensor:
        raise RuntimeError("the pass that counts saved bytes has no backward pass")

    ids, labels = trainer.batch()
    with saved_tensors_hooks(pack, unpack), attention_kernels(trainer.step):
        loss = trainer.forward(ids, labels)
    del loss
    trainer.optimizer.zero_grad()
    return sum(storage.nbytes() for storage in kept.values())
