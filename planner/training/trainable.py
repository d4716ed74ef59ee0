"""What fine-tuning trains and stores: parameters with and without gradients, the adapter's file, notes for an answer."""

from __future__ import annotations

from functools import lru_cache

from planner.common.message import Message
from planner.common.units import DTYPE_BYTES, GB
from planner.model.architecture import Model
from planner.model.catalog import load_model, model_names
from planner.model.parameters import parameters_total
from planner.operators.teacher import teacher_model
from planner.performance.feasibility import both_speak
from planner.workload.adapters import adapter_parameters, parameters_trainable, saved_parameters
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.precision import adapter_dtype
from planner.workload.resolve import JobLike, ModelLike, as_job, as_model


def trainable_parameters(model: ModelLike, job: JobLike) -> int:
    """Parameters with a gradient: all of them, or adapters and modules trained in full (peft's count).

    Names, mappings of fields or objects are accepted, as in ``plan``; PlannerError for unknown names and bad fields.
    """
    return parameters_trainable(as_model(model), as_job(job))


def frozen_parameters(model: Model, job: Job) -> int:
    """Parameters without a gradient: the model under adapters, a teacher that runs."""
    own = parameters_total(model) if job.adapter is not None else 0
    runs = job.teacher is not None and job.teacher.cached_top_k is None
    return own + (parameters_total(teacher_model(job.teacher)) if runs and job.teacher is not None else 0)


def stored_bytes(model: Model, job: Job, framework: Framework) -> float:
    """Bytes of the file that tuning writes: adapters in their type and modules beside them, or the whole model in 16 bit."""
    base = 4.0 if job.precision in ("fp32", "tf32") else 2.0
    if job.adapter is None:
        return base * parameters_total(model)
    width = DTYPE_BYTES["fp32"] if adapter_dtype(job, framework) == "fp32" else base
    return width * adapter_parameters(model, job.adapter) + base * saved_parameters(model, job.adapter)


def tuning_notes(model: Model, job: Job) -> tuple[str, ...]:
    """What a reader should know of adapters, quantized weights or a teacher."""
    notes: list[str] = []
    if job.adapter is not None:
        trains, total = trainable_parameters(model, job), parameters_total(model)
        notes.append(
            Message("{0:,} parameters train ({1:.3%} of the model's {2:,}); the others are frozen", trains, trains / total, total)
        )
    if job.quantization is not None and any(kind.moe for kind in model.layer_kinds):
        notes.append("experts count as quantized; transformers 5 stores them as one tensor, which bitsandbytes leaves in 16 bit")
    if job.teacher is not None and job.teacher.cached_top_k is not None:
        tokens = job.tokens_per_step * (job.steps_per_epoch or 1.0)
        what = "an epoch" if job.steps_per_epoch else "a step"
        notes.append(
            Message("the teacher's cached logits take {0:,.1f} GB on disk for {1}", job.teacher.cache_bytes(tokens) / GB, what)
        )
        notes.append("the teacher's pass over the data that made them is not counted: a forward pass of each token, once")
    return tuple(notes)


@lru_cache(maxsize=64)
def teachers(model: Model) -> tuple[str, ...]:
    """Catalog models that ``model`` can learn from: its vocabulary, at least its size; the nearest in size first."""
    own = parameters_total(model)
    sizes = {
        name: parameters_total(other)
        for name, other in ((name, load_model(name)) for name in model_names())
        if other.vocab_size == model.vocab_size and both_speak(other, model)
    }
    return tuple(sorted((name for name, size in sizes.items() if size >= own), key=lambda name: sizes[name]))
