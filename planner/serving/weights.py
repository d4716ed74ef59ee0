"""Bytes of weights as they are stored: of the whole model, and of the fullest GPU."""

from __future__ import annotations

from collections import Counter

from planner.model.architecture import LayerKind
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters
from planner.serving.setting import Setting


def total_bytes(setting: Setting) -> float:
    """Bytes of one copy of the model: each matrix by its format with scales, the rest in the activations' type."""
    m = setting.model
    alike = Counter(m.layer_kinds)
    layers = sum(n * sum(setting.tensor_bytes(t) for t in layer_parameters(m, kind)) for kind, n in alike.items())
    return layers + sum(setting.tensor_bytes(t) for t in (*embedding_parameters(m), *head_parameters(m)))


def stage_bytes(setting: Setting) -> tuple[float, ...]:
    """Bytes on one GPU of each pipeline stage; what is offloaded lies in host memory."""
    if not setting.stage_weights:
        setting.stage_weights.extend(_stage_bytes(setting))
    return tuple(setting.stage_weights)


def _stage_bytes(setting: Setting) -> tuple[float, ...]:
    found = []
    last = len(setting.stages) - 1
    for i, kinds in enumerate(setting.stages):
        layers = sum(n * _layer_bytes(setting, kind) for kind, n in Counter(kinds).items())
        entrance = setting.embedding_bytes if i == 0 else 0.0
        exit_ = setting.head_bytes if i == last else 0.0
        if i == last and i > 0 and setting.model.tied_embeddings:  # the tied matrix is needed at both ends
            exit_ += setting.local_bytes(embedding_parameters(setting.model), "embedding.words")
        found.append(layers + entrance + exit_)
    return tuple(found)


def _layer_bytes(setting: Setting, kind: LayerKind) -> float:
    setting = setting.of(kind)
    offloaded = setting.serving.expert_offload * setting.layer_bytes(kind, "experts.") if kind.moe else 0.0
    return setting.layer_bytes(kind) - offloaded


def host_bytes(setting: Setting) -> float:
    """Bytes of a replica's experts in host memory."""
    m, share = setting.model, setting.serving.expert_offload
    experts = [t for kind in m.layer_kinds if kind.moe for t in layer_parameters(m, kind) if t.name.startswith("experts.")]
    return share * sum(setting.tensor_bytes(t) for t in experts)
