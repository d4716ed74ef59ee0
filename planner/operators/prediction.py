"""Multi-token prediction: modules behind the last layer that each predict one token further ahead (DeepSeek-V3, section 2.2).

A module normalizes the state that it is given and the next token's word, projects both together to the model's width, runs one
more layer, and shares the output layer: ``2 h^2 + 3 h`` weights and those of a layer, a second multiplication by the vocabulary
and a second loss. It lies on the last stage, which holds its own copy of the words where the model is cut into stages.
"""

from __future__ import annotations

from planner.common.message import Message
from planner.operators.head import head
from planner.operators.norm import norm
from planner.operators.row import Matmul, Row, changed, communication, linear
from planner.operators.setting import Setting

BLOCK = "prediction"


def prediction_rows(setting: Setting, layer: tuple[Row, ...]) -> tuple[Row, ...]:
    """Rows of all modules; ``layer``: those of the model's last layer, with its recomputation."""
    number = setting.job.multi_token_prediction
    if not number:
        return ()
    exit_ = tuple(changed(row, parameters=0.0) for row in head(setting))
    rows = (*_entrance(setting), *(changed(row, repeats=1.0) for row in layer), *exit_)
    return tuple(
        changed(row, name=Message("prediction {0}: {1}", i + 2, row.name) if number > 1 else Message("prediction: {0}", row.name))
        for i in range(number)
        for row in rows
    )


def _entrance(setting: Setting) -> tuple[Row, ...]:
    """Both norms, and the projection of both states together, cut by its outputs, which are gathered."""
    m, w, t, h = setting.model, setting.width, setting.tokens, float(setting.model.hidden_size)
    norms = 3.0 * h * (1.0 + m.norm_bias) * m.norm_weight  # the third stands in front of the output layer
    elements = setting.sequence_tokens * h
    projection = linear(
        "projection",
        BLOCK,
        Matmul(m=t, k=2.0 * h, n=h / setting.tp),
        width=w,
        saved_bytes=2.0 * setting.input_width * elements,
        parameters=2.0 * h * h / setting.tp,
    )
    return (
        *norm("state norm", BLOCK, setting, elements, rows_of=h, parameters=norms),
        *norm("word norm", BLOCK, setting, elements, rows_of=h),
        *projection,
        communication("gather projection", BLOCK, "forward", "all_gather", "tp", w * h * t, setting.tensor_parallel),
        communication(
            "scatter gradient", BLOCK, "backward", "reduce_scatter", "tp", w * h * t, setting.tensor_parallel, projection[2]
        ),
    )
