"""Token, position and type embeddings at the model's entrance."""

from __future__ import annotations

from planner.model.parameters import embedding_parameters
from planner.operators.norm import norm
from planner.operators.row import Row, communication, pointwise
from planner.operators.setting import Setting
from planner.operators.weights import on_one_rank

BLOCK = "embedding"


def embedding(setting: Setting) -> tuple[Row, ...]:
    """Rows of the embedding: table look-up, positions, norm, dropout (a one-byte mask is kept)."""
    m, w, t = setting.model, setting.width, setting.tokens
    h = float(m.hidden_size)
    elements = setting.sequence_tokens * h
    ids = 8.0 * t if setting.framework.activation_accounting == "autograd" else 0.0
    tables = 1.0 + (m.position_embedding == "learned") + (m.type_vocab_size > 0)
    split = setting.tensor_parallel * setting.sequence_parallel
    whole = setting.tensor_parallel * (1.0 - setting.sequence_parallel)
    message = w * t * h
    rows = (
        *pointwise(
            "look up",
            BLOCK,
            forward_bytes=2.0 * w * t * h * tables,
            backward_bytes=3.0 * w * t * h * tables,
            kernels=2.0 * tables,
            saved_bytes=ids * tables,
            parameters=on_one_rank(setting, embedding_parameters(m)),
        ),
        communication("scatter sequence", BLOCK, "forward", "reduce_scatter", "tp", message, split),
        communication("sum partial look-ups", BLOCK, "forward", "all_reduce", "tp", message, whole),
        communication("gather sequence gradient", BLOCK, "backward", "all_gather", "tp", message, split),
    )
    if m.embedding_norm:
        rows += norm("embedding norm", BLOCK, setting, elements, rows_of=h)
    if m.hidden_dropout > 0:
        rows += pointwise(
            "embedding dropout",
            BLOCK,
            forward_bytes=(2.0 * w + 1.0) * elements,
            backward_bytes=(2.0 * w + 1.0) * elements,
            saved_bytes=elements,
        )
    return rows
