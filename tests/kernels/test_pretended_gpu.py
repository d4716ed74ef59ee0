"""The harness on GPUs that are pretended: every family, every card's ladder of steps, and what happens when a device fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pretended_cuda import CARDS, CONTEXT_BYTES, FAULTS, Card, Pretended
from step_memory import predicted

from kernels import record as records
from kernels.__main__ import main
from kernels.case import Case
from kernels.device import busy, versions
from kernels.families import collectives, distributed_steps
from kernels.families.training import cases as training_cases
from kernels.footprint import SHARE, fitting, ladder, peak_bytes
from kernels.models import Step, decoder, gpu_steps
from kernels.power import PowerMeter
from kernels.runner import FAMILIES, Family
from kernels.session import Session
from kernels.supervisor import LOST

KERNELS = "dispatch,memory,gemm,attention,grouped_gemm,moe,elementwise,serving,optimizer,copies,compile,out_of_memory"
SEED = "MoE 8 x top 2, 1 shared"
SHORT = {SEED, "dense 125M", "dense 1B, recompute"}


def free_bytes(card: Card) -> int:
    return card.memory_bytes - CONTEXT_BYTES


def half(card: Card) -> str:
    return "bf16" if card.capability >= (8, 0) else "fp16"


def usable(step: Step, card: Card) -> bool:
    return card.capability >= (8, 0) or step.precision not in ("bf16-pure", "tf32")


def few_layers() -> list[Step]:
    """Every kind of step once, two layers deep: a pretended operator costs the same at every size."""
    labels = {
        "dense 125M", SEED, "MoE 64 x top 6, 2 shared", "dense 1B, recompute", "encoder large", "dense 350M, eager attention",
        "MoE 8 x top 2, loop", "MoE 8 x top 2, capacity 1.25", "dense 350M, fp32", "dense 1B, 4 micro-batches",
        "dense 1B, 8-bit Adam", "dense 3B, LoRA 16",
    }  # fmt: skip
    return [replace(s, model=replace(s.model, num_layers=2)) for s in gpu_steps() if s.label in labels]


def thinned(family: Family) -> Family:
    """One case of each kind (name, dtype), without layers of so many experts that a loop takes minutes."""

    def cases(session: Session) -> Iterator[Case]:
        seen: set[tuple[str, str]] = set()
        for case in family.cases(session):
            key = (case.name, case.dtype)
            experts = case.shape.get("model", case.shape).get("num_experts", 0)
            if key not in seen and experts <= 8:
                seen.add(key)
                yield case

    return replace(family, cases=cases)


@pytest.fixture
def small(monkeypatch: Any) -> None:
    monkeypatch.setattr("kernels.families.training.gpu_steps", few_layers)
    monkeypatch.setattr("kernels.families.dispatch.CHAIN", 10)
    shallow = lambda layers, *sizes, **more: decoder(2, *sizes, **more)  # noqa: E731
    monkeypatch.setattr("kernels.families.out_of_memory.decoder", shallow)
    monkeypatch.setattr("kernels.runner.FAMILIES", {n: f if n == "training" else thinned(f) for n, f in FAMILIES.items()})


def measured(card: Card, out: Path, only: str, more: tuple[str, ...] = (), **device: Any) -> tuple[int, Any]:
    with Pretended(card, **device) as found:
        code = main(["run", "--out", str(out), "--budget", "600s", "--only", only, "--worker", *more])
    return code, found


def no_surprises(record: dict[str, Any]) -> None:
    """Whatever was skipped was skipped for a reason that the harness knows, and nothing for lack of memory."""
    for sample in record["samples"]:
        assert not sample["reason"].split(":")[0].endswith(("Error", "Exception")), sample
        assert "out of memory" not in sample["reason"], sample


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["v100-sxm2-16gb", "h100-sxm5-80gb"])
def test_every_family_runs(name: str, tmp_path: Path) -> None:
    card, out = CARDS[name], tmp_path / "record.json"
    code, _ = measured(card, out, KERNELS)
    assert code == 0
    record = records.read(out)
    no_surprises(record)
    families = {s["family"] for s in record["samples"] if s["status"] == "measured"}
    assert families >= set(KERNELS.split(",")) - {"compile"}
    grouped = [s for s in record["samples"] if s["family"] == "grouped_gemm" and s["status"] == "measured"]
    assert {s["extra"]["kernel"] for s in grouped} == {"grouped" if name.startswith("h100") else "loop"}
    fp8 = [s for s in record["samples"] if s["dtype"] == "fp8"]
    assert {s["status"] for s in fp8} == {"measured" if card.capability >= (8, 9) else "skipped"}
    assert not records.mark_path(out).exists()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", CARDS)
def test_training_steps_run_on_every_card(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """All kinds of step on two cards, and on the others the mixture that the project began with beside a dense model."""
    card, out = CARDS[name], tmp_path / "record.json"
    every = [s for s in few_layers() if usable(s, card)]
    steps = every if name in ("v100-sxm2-16gb", "h100-sxm5-80gb") else [s for s in every if s.label in SHORT]
    monkeypatch.setattr("kernels.families.training.gpu_steps", lambda: steps)
    code, device = measured(card, out, "training")
    assert code == 0
    record = records.read(out)
    no_surprises(record)
    found = {s["shape"]["label"]: s for s in record["samples"] if s["status"] == "measured"}
    assert set(found) == {s.label for s in steps}
    assert device.refused == 0, "the ladder chose a form that did not fit"
    for sample in found.values():
        extra = sample["extra"]
        assert extra["saved_bytes"] > 0
        assert 0 < extra["peak_allocated_bytes"] < SHARE * free_bytes(card) * 1.05
        assert extra["seen"] == {} or extra["seen"]["clock_reasons"] == ["software power cap", "software thermal slowdown"]
    assert found["dense 1B, recompute"]["status"] == "measured"


@pytest.mark.parametrize("name", CARDS)
def test_every_step_has_a_form_that_fits(name: str) -> None:
    """By the planner's own peak: on 8 GB, too, and the mixture that the project began with among them."""
    card = CARDS[name]
    for step in gpu_steps():
        if not usable(step, card):
            continue
        precision = step.precision or half(card)
        form = fitting(step, precision, free_bytes(card))[0]
        assert predicted(form, precision) < 0.95 * free_bytes(card), (step.label, form.reduced)
        assert form.model.num_experts == step.model.num_experts
        assert form.model.top_k == step.model.top_k
        assert form.model.num_layers > form.model.num_dense_layers


@pytest.mark.parametrize("name", CARDS)
def test_forms_of_fit_and_validate_stay_apart(name: str) -> None:
    card = CARDS[name]
    forms = {}
    for step in gpu_steps():
        if usable(step, card):
            precision = step.precision or half(card)
            form = fitting(step, precision, free_bytes(card))[0]
            forms[step.label] = {k: v for k, v in form.fields(precision).items() if k not in ("label", "role", "reduced")}
    roles = {s.label: s.role for s in gpu_steps()}
    fits = [f for label, f in forms.items() if roles[label] == "fit"]
    assert all(f not in fits for label, f in forms.items() if roles[label] == "validate")


def test_the_counted_footprint_is_the_planners_peak() -> None:
    """Counting serves to choose: never 3 % below the planner's peak, and at most a quarter above, where the model is tiny."""
    for step in gpu_steps():
        precision = step.precision or "bf16"
        for form in islice(ladder(step), 0, None, 40):
            ours = peak_bytes(form, precision, grouped=step.experts == "auto")
            assert 0.97 < ours / predicted_as(form, precision) < 1.25, (form.label, form.reduced)


def predicted_as(step: Step, precision: str) -> float:
    """The planner's peak with fused norms, as a GPU has them."""
    return predicted(step, precision, fused_norm=True)


@pytest.mark.parametrize("name", ["v100-sxm2-16gb", "rtx-3070-8gb"])
def test_peak_memory_of_pretended_steps_is_the_planners(name: str) -> None:
    from kernels.families.training import make_trainer, stack

    card, errors = CARDS[name], []
    for step in few_layers():
        precision = step.precision or half(card)
        if not usable(step, card) or step.experts == "loop":  # the loop's group sizes are made up here
            continue
        form = fitting(step, precision, free_bytes(card))[0]
        with Pretended(card) as device:
            trainer = make_trainer(form, precision, torch.device("cuda", 0))
            trainer.run()
            device.peak = device.now
            trainer.run()
            peak, found = device.peak, stack(form, precision, torch.device("cuda", 0))
            del trainer
        errors.append(predicted(form, precision, **found) / peak - 1.0)
    assert float(np.median(np.abs(errors))) <= 0.02
    assert float(np.max(np.abs(errors))) <= 0.08, errors


@pytest.mark.usefixtures("small")
def test_a_torch_without_kernels_for_the_card_says_which_to_install(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "record.json"
    code, _ = measured(CARDS["v100-sxm2-16gb"], out, "gemm", fault="no kernel image")
    assert code == 2
    said = capsys.readouterr().err
    assert "Tesla V100-SXM2-16GB" in said
    assert "cu126" in said
    assert "sm_75" in said
    assert not out.exists()


@pytest.mark.usefixtures("small")
def test_a_lost_device_keeps_the_record_and_another_process_goes_on(tmp_path: Path) -> None:
    card, out = CARDS["rtx-3090-24gb"], tmp_path / "record.json"
    code, device = measured(card, out, "memory,gemm", fault="illegal access", after=25)
    assert code == LOST
    assert device.dead
    before = records.read(out)
    assert not before["finished"]
    kept = [s for s in before["samples"] if s["status"] == "measured"]
    assert kept
    assert "illegal memory access" in before["samples"][-1]["reason"]
    records.note_lost(out, "the device was lost in this case")
    code, _ = measured(card, out, "memory,gemm", more=("--resume",))
    assert code == 0
    after = records.read(out)
    assert after["finished"]
    assert after["samples"][: len(before["samples"])] == before["samples"]
    assert {s["family"] for s in after["samples"] if s["status"] == "measured"} == {"memory", "gemm"}
    keys = [(s["family"], s["name"], str(s["shape"]), s["dtype"]) for s in after["samples"]]
    assert len(keys) == len(set(keys)), "nothing is measured twice"


@pytest.mark.usefixtures("small")
def test_memory_that_runs_out_in_a_library_is_no_fault_of_the_device(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    code, _ = measured(CARDS["rtx-3090-24gb"], out, "memory", fault="cublas memory", after=30)
    assert code == 0
    skipped = [s for s in records.read(out)["samples"] if s["status"] == "skipped"]
    assert skipped
    assert all(s["reason"].startswith("out of memory: ") for s in skipped), skipped
    assert FAULTS["cublas memory"].split(" when")[0] in skipped[-1]["reason"]


def test_a_step_that_does_not_fit_gives_way_to_a_smaller_form(tmp_path: Path, monkeypatch: Any) -> None:
    """Others take memory between the choice and the step: what is recorded is the form that ran."""
    steps = [replace(s, model=replace(s.model, num_layers=2)) for s in gpu_steps() if s.label == "dense 350M"]
    monkeypatch.setattr("kernels.families.training.gpu_steps", lambda: steps)
    out = tmp_path / "record.json"
    tight = replace(CARDS["rtx-3070-8gb"], memory_bytes=int(1.9 * 2**30))
    with Pretended(tight):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d=None: (int(6e9), int(8e9)))
        assert main(["run", "--out", str(out), "--budget", "600s", "--only", "training", "--worker"]) == 0
    record = records.read(out)
    (sample,) = record["samples"]
    assert sample["status"] == "measured"
    assert sample["shape"]["reduced"]
    assert record["device"]["did_not_fit"]


def test_cases_of_a_gpu_are_what_the_card_can_hold(tmp_path: Path) -> None:
    """The list itself, whole models and all: one case per step, on the smallest card, too."""
    with Pretended(CARDS["rtx-3070-8gb"]):
        session = Session(torch.device("cuda", 0), 60.0, None, ["test"])
        found = list(training_cases(session))
    assert [c.shape["label"] for c in found] == [s.label for s in gpu_steps()]
    chains: Callable[[Case], int] = lambda c: 1 + (chains(c.smaller) if c.smaller else 0)  # noqa: E731
    assert all(chains(c) >= 2 for c in found)


class Others:
    """The second of two ranks does what the first does."""

    def number(self, value: int) -> int:
        return value

    def problem(self, problem: str) -> str:
        return problem


class Alike(torch.nn.Module):
    """Stands for DistributedDataParallel, which asks for real processes."""

    def __init__(self, inner: torch.nn.Module, device_ids: Any = None) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Any) -> Any:
        return self.inner(*inputs)


@pytest.fixture
def two_ranks(monkeypatch: Any) -> None:
    """Two machines with a GPU each... of which one is here: messages arrive as they were sent."""
    for name in (
        "all_reduce",
        "broadcast",
        "all_to_all_single",
        "all_gather_into_tensor",
        "reduce_scatter_tensor",
        "all_gather_single",
        "reduce_scatter_single",
    ):
        monkeypatch.setattr(torch.distributed, name, lambda *a, **k: None, raising=False)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group=None: 0)
    monkeypatch.setattr(torch.distributed, "new_group", lambda ranks: tuple(ranks))
    monkeypatch.setattr(torch.distributed, "P2POp", lambda *a: a)
    monkeypatch.setattr(torch.distributed, "batch_isend_irecv", lambda operations: [])
    monkeypatch.setattr(torch.distributed, "group", SimpleNamespace(WORLD="all"))
    monkeypatch.setattr(distributed_steps, "DistributedDataParallel", Alike)
    sharded = SimpleNamespace(fully_shard=lambda module, mp_policy: module, MixedPrecisionPolicy=lambda **k: None)
    monkeypatch.setattr(distributed_steps, "_fsdp_module", lambda: sharded)
    whole = distributed_steps.decoder
    monkeypatch.setattr(distributed_steps, "decoder", lambda layers, *sizes, **more: whole(2, *sizes, **more))


@pytest.mark.usefixtures("two_ranks")
@pytest.mark.parametrize("name", ["rtx-3070-8gb", "h100-sxm5-80gb"])
def test_families_of_several_gpus_run(name: str) -> None:
    with Pretended(CARDS[name]):
        session = Session(torch.device("cuda", 0), 600.0, None, ["test"], ranks=2, agree=Others())
        messages = [c for c in collectives.cases(session) if c.shape["bytes"] <= 2**20]
        session.family("collectives", messages[:12], 100.0)
        session.family("distributed_steps", distributed_steps.cases(session), 400.0)
    no_surprises(session.record)
    assert all(s["status"] == "measured" for s in session.record["samples"]), session.record["samples"]
    steps = {s["name"]: s for s in session.record["samples"] if s["family"] == "distributed_steps"}
    assert set(steps) == {"ddp", "fsdp2", "tensor parallel", "expert parallel"}
    assert steps["tensor parallel"]["shape"]["tp"] == 2
    assert not session.record["device"].get("did_not_fit")
    if name.startswith("h100"):  # the whole step fits there in every layout
        assert steps["ddp"]["extra"]["parameters"] > 1.9 * steps["tensor parallel"]["extra"]["parameters"]


def test_ranks_on_two_machines_make_three_groups(monkeypatch: Any) -> None:
    """Four ranks on two machines: each collective over all, over one machine, over one rank of each."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with Pretended(CARDS["h100-sxm5-80gb"]):
        session = Session(torch.device("cuda", 0), 600.0, None, ["test"], ranks=4, agree=Others())
        found = {(c.shape["span"], c.shape["ranks"]) for c in collectives.cases(session)}
    assert found == {("world", 4), ("node", 2), ("across", 2)}


def test_energy_is_of_the_counted_steps(tmp_path: Path, monkeypatch: Any) -> None:
    """The pretended board draws 350 W all the time: a step's joules are 350 times its seconds, warm-up left out."""
    steps = [replace(s, model=replace(s.model, num_layers=2)) for s in gpu_steps() if s.label == "dense 1B"]
    monkeypatch.setattr("kernels.families.training.gpu_steps", lambda: steps)
    out = tmp_path / "record.json"
    with Pretended(CARDS["a100-sxm4-40gb"], most=4):
        assert main(["run", "--out", str(out), "--budget", "600s", "--only", "training", "--worker"]) == 0
    (sample,) = records.read(out)["samples"]
    extra = sample["extra"]
    assert extra["seen"]["processes"] == 1
    if sample["time"]["median_s"] * sample["time"]["repeats"] > 0.5:
        assert extra["energy_j_per_step"] == pytest.approx(350.0 * sample["time"]["median_s"], rel=0.1)


def test_a_library_that_refuses_the_card_does_not_end_the_run(monkeypatch: Any) -> None:
    """cuDNN from 9.11 on raises on a V100 when asked for its version; a build without NCCL has none to tell."""

    def refuses() -> int:
        raise RuntimeError("cuDNN version 91900 is not compatible with devices with SM < 7.5.")

    with Pretended(CARDS["v100-sxm2-16gb"]):
        monkeypatch.setattr(torch.backends.cudnn, "version", refuses)
        found = versions()
    assert found["cudnn"] == ""
    assert found["nccl"] == "2.27.3"


def test_a_gpu_that_others_use_is_called_busy(monkeypatch: Any) -> None:
    with Pretended(CARDS["h200-sxm-141gb"]):
        meter = PowerMeter(torch.device("cuda", 0))
        assert busy(torch.device("cuda", 0), meter) == ""
        monkeypatch.setattr(meter._nvml, "nvmlDeviceGetComputeRunningProcesses", lambda h: [1, 2, 3])
        assert busy(torch.device("cuda", 0), meter) == "2 other process(es) compute on the GPU"
        assert meter.state()["ecc"] is True
        assert meter.state()["highest_sm_clock_hz"] == 1.98e9
