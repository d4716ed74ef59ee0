"""The planner's own messages in the language of the session: ``said(text)`` (``planner.common.translation``)."""

from __future__ import annotations

from planner.common.translation import translated, translated_label, translated_word
from planner.prices.price import Price
from planner.web.text import language, t


def said(text: str) -> str:
    """A message of the planner in the language of the session; what is unknown stays as it is."""
    return translated(text, language())


def word(text: str) -> str:
    """A single word (a term of a price, where a value comes from, a part of memory or of a step) in that language."""
    return translated_word(text, language())


def label(text: str) -> str:
    """A cell of a table (an operator, a label) in that language."""
    return translated_label(text, language())


def priced(price: Price) -> str:
    """``price.describe()`` in that language."""
    return t("show.comma").join(said(words) for words in (price.describe(), price.basis) if words)
