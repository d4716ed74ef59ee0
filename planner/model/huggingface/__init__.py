"""Models from Hugging Face's config.json: one reader per family, with transformers' defaults and no silent guesses.

What reads (``config.py``) is loaded at first use: a model of the catalog needs none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.model.huggingface.config import ENCODER_DECODERS as ENCODER_DECODERS
    from planner.model.huggingface.config import ENCODERS as ENCODERS
    from planner.model.huggingface.config import FAMILIES as FAMILIES
    from planner.model.huggingface.config import READERS as READERS
    from planner.model.huggingface.config import REFUSED as REFUSED
    from planner.model.huggingface.config import SEQUENCE_TO_SEQUENCE as SEQUENCE_TO_SEQUENCE
    from planner.model.huggingface.config import VISION as VISION
    from planner.model.huggingface.config import known_types as known_types
    from planner.model.huggingface.config import model_from_config as model_from_config
    from planner.model.huggingface.forms import config_of as config_of

_WHERE = dict.fromkeys(("ENCODERS", "ENCODER_DECODERS", "FAMILIES", "READERS", "REFUSED", "SEQUENCE_TO_SEQUENCE"), "config")
_WHERE |= {"VISION": "config", "known_types": "config", "model_from_config": "config", "config_of": "forms"}

__all__ = sorted(_WHERE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'planner.model.huggingface' has no attribute {name!r}")
    return getattr(importlib.import_module(f"planner.model.huggingface.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
