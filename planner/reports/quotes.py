"""The price of a GPU-hour in tables of several columns: dollars in the cells, whose quote it is in lines below."""

from __future__ import annotations

from collections.abc import Sequence

from planner.common import clock
from planner.common.message import Message
from planner.prices.price import Price, price_amount, price_text
from planner.reports.line import Line


def price_cells(prices: Sequence[Price | None], none: str = "-") -> list[str]:
    """One cell a column: the whole quote where there is one column, else its dollars, which do not break a narrow table."""
    today = clock.today()
    if len(prices) == 1:
        return [none if prices[0] is None else price_text(prices[0], today)]
    return [none if price is None else price_amount(price) for price in prices]


def price_lines(labels: Sequence[str], prices: Sequence[Price | None]) -> list[Line]:
    """What the cells leave out: one line where all columns have the same quote, else one for each; none of a single column."""
    today = clock.today()
    texts = [None if price is None else price_text(price, today) for price in prices]
    if len(texts) < 2 or not any(texts):
        return []
    if len(set(texts)) == 1:
        return [Line(Message("price per GPU-hour: {0}", texts[0]))]
    found = zip(labels, texts, strict=True)
    return [Line(Message("{0}: price per GPU-hour: {1}", label, text)) for label, text in found if text is not None]
