"""Write planner/model/huggingface/defaults.json from transformers' configuration classes: python benchmarks/config_defaults.py

A default that follows from another field (heads of keys from heads, a list with one entry a layer) is left out: it would be wrong
for any other size.
"""

from __future__ import annotations

import json
from typing import Any

from transformers import CONFIG_MAPPING

from planner.model.huggingface import ENCODERS, READERS, SEQUENCE_TO_SEQUENCE, VISION
from planner.model.huggingface.projectors import ENCODER_OF
from planner.model.huggingface.source import DEFAULTS

ASIDE = frozenset(
    (
        "architectures",
        "transformers_version",
        "id2label",
        "label2id",
        "output_hidden_states",
        "return_dict",
        "dtype",
        "problem_type",
        "output_attentions",
        "initializer_range",
        "use_cache",
        "rope_parameters",
        "rms_norm_eps",
        "layer_norm_eps",
        "layer_norm_epsilon",
        "norm_eps",
        "norm_epsilon",
        "_name_or_path",
        "router_aux_loss_coef",
        "output_router_logits",
        "model_type",
        "chunk_size_feed_forward",
        "is_encoder_decoder",
        "rope_theta",
        "per_layer_config",  # follows from the layers
    )
)
"""Fields without effect on sizes."""


def stated(kind: str) -> dict[str, Any]:
    """Defaults of one ``model_type`` that do not follow from others, and its second names."""
    made = CONFIG_MAPPING[kind]
    base, second = _plain(made()), getattr(made, "attribute_map", {})
    derived: set[str] = set()
    for field in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
        name = field if field in base else second.get(field)
        if name is None or not isinstance(base.get(name), int):
            continue
        try:
            other = _plain(made(**{name: 2 * base[name]}))
        except Exception:  # a class that refuses the doubled size tells nothing
            continue
        derived |= {key for key, value in base.items() if key != name and not isinstance(value, dict) and value != other.get(key)}
    layers = base.get("num_hidden_layers") or base.get("num_layers")
    kept = {
        key: value
        for key, value in base.items()
        if value is not None
        and key not in ASIDE | derived
        and not key.endswith("_token_id")
        and not (isinstance(value, list) and len(value) == layers)
    }
    return {**kept, **({"attribute_map": second} if second else {})}


def _plain(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(config.to_dict(), default=str))
    return found


def main() -> None:
    """Write the file: one type a line."""
    kinds = {*READERS, *ENCODERS, *SEQUENCE_TO_SEQUENCE, *ENCODER_OF, *(default for _, _, default in VISION.values())}
    lines = [
        f"{json.dumps(kind)}: {json.dumps(stated(kind), sort_keys=True)}" for kind in sorted(kinds) if kind in CONFIG_MAPPING
    ]
    DEFAULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
