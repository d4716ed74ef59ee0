"""Which linear layers of a model carry adapters, and what trains beside them."""

from __future__ import annotations

from functools import lru_cache

from planner.common.errors import PlannerError
from planner.model.architecture import LayerKind, Model
from planner.model.linears import Linear, head_linear, layer_linears, names_of
from planner.model.parameters import parameters_total
from planner.workload.job import Job
from planner.workload.tuning import Adapter


@lru_cache(maxsize=4096)
def adapted(model: Model, kind: LayerKind, adapter: Adapter) -> tuple[Linear, ...]:
    """The linear layers of one layer that carry adapters. PlannerError for a name that the model has nowhere."""
    check_targets(model, adapter)
    return tuple(linear for linear in layer_linears(model, kind) if _carries(linear, adapter))


def adapted_head(model: Model, adapter: Adapter) -> Linear | None:
    """The output layer where it carries an adapter."""
    head = head_linear(model)
    if head is None or adapter.target_modules == "all-linear":
        return None
    return head if _carries(head, adapter) else None


def _carries(linear: Linear, adapter: Adapter) -> bool:
    """Whether a linear layer of a model's layers, or a named output layer, gets an adapter."""
    if adapter.target_modules == "all-linear":
        return linear.module
    return any(linear.named(target) for target in adapter.target_modules)


@lru_cache(maxsize=1024)
def check_targets(model: Model, adapter: Adapter) -> None:
    """PlannerError for adapters that the model cannot carry, with the names that it has."""
    try:
        adapter.tuned(model.num_layers)
    except ValueError as error:
        raise PlannerError("{0} ({1}).", error, model.name) from None
    kinds = dict.fromkeys(model.layer_kinds)
    linears = [linear for kind in kinds for linear in layer_linears(model, kind)]
    head = head_linear(model)
    every = [*linears, head] if head is not None else linears
    if adapter.target_modules != "all-linear":
        for target in adapter.target_modules:
            if not any(linear.named(target) for linear in every):
                has = ", ".join(dict.fromkeys(f"{x.path.split('.', 1)[-1]} ({x.part})" for x in every))
                raise PlannerError(
                    "job.adapter.target_modules: {0!r} is no linear layer of {1}; it has {2}; or all-linear.",
                    target,
                    model.name,
                    has,
                )
    carrying = [x for x in every if _carries(x, adapter)]
    widest = max((min(x.inputs, x.outputs) for x in carrying), default=adapter.rank)
    if adapter.rank > widest:  # which the product B A cannot have
        raise PlannerError(
            "job.adapter.rank = {0}: above the narrower side of every layer that it adapts; at most {1} ({2}), usually 8 to 64.",
            adapter.rank,
            widest,
            model.name,
        )
    for name in adapter.modules_to_save:
        if saved_module(model, name) is None:
            names = names_of(model)
            raise PlannerError(
                "job.adapter.modules_to_save: {0!r} cannot be trained beside adapters here; use {1} (words) or {2} (head).",
                name,
                names.words,
                names.head,
            )


def saved_module(model: Model, name: str) -> str | None:
    """ "words" or "head" for a module that is trained in full, None for any other name."""
    names = names_of(model)
    if name in (names.words, "words", "embed_tokens", "wte"):
        return "words"
    if name in (names.head, "head", "lm_head") and model.head != "none":
        return "head"
    return None


@lru_cache(maxsize=256)
def adapter_parameters(model: Model, adapter: Adapter) -> int:
    """Elements of all adapters: what peft calls trainable, without modules trained in full."""
    kinds = model.layer_kinds
    layers = sum(
        linear.adapter_parameters(adapter.rank)
        for i in adapter.tuned(model.num_layers)
        if not model.of(kinds[i]).shared_weights
        for linear in adapted(model, kinds[i]._replace(role=0), adapter)
    )
    head = adapted_head(model, adapter)
    return layers + (head.adapter_parameters(adapter.rank) if head else 0)


def saved_parameters(model: Model, adapter: Adapter) -> int:
    """Elements of the modules that are trained in full beside the adapters, each a copy of its own."""
    wanted = {saved_module(model, name) for name in adapter.modules_to_save}
    width = model.embedding_projection_size or model.hidden_size
    return model.vocab_size * width * len(wanted - {None})


def tuned_model(model: Model, job: Job) -> Model:
    """The model with a role for each of its layers; the model itself where all of it trains."""
    return model if job.adapter is None else _with_roles(model, job.adapter)


@lru_cache(maxsize=256)
def _with_roles(model: Model, adapter: Adapter) -> Model:
    """Roles (``model.ROLES``): adapted layers; frozen ones above the lowest of them, which pass gradients; frozen ones below."""
    check_targets(model, adapter)
    kinds = model.layer_kinds
    carrying = [i for i in adapter.tuned(model.num_layers) if adapted(model, kinds[i], adapter)]
    words = any(saved_module(model, name) == "words" for name in adapter.modules_to_save)
    if not carrying and not adapter.modules_to_save and adapted_head(model, adapter) is None:
        raise PlannerError(
            "job.adapter: none of the layers {0} of {1} has a layer that target_modules = {2} names.",
            list(adapter.tuned(model.num_layers)),
            model.name,
            list(adapter.target_modules),
        )
    first = min(carrying, default=model.num_layers)
    roles = [1 if i in set(carrying) else 3 if i > first or words else 4 for i in range(model.num_layers)]
    if carrying and not words:
        roles[first] = 2
    return model.with_roles(tuple(roles))


def parameters_trainable(model: Model, job: Job) -> int:
    """Parameters with a gradient: all of them, or adapters and modules trained in full (peft's count)."""
    if job.adapter is None:
        return parameters_total(model)
    check_targets(model, job.adapter)
    return adapter_parameters(model, job.adapter) + saved_parameters(model, job.adapter)
