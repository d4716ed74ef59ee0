"""A market of few quotes, all that follows from it worked out by hand: who counts, medians, ratios, intervals, estimates."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from planner.common.errors import PlannerError
from planner.hardware.cluster import load_accelerator
from planner.prices import market
from planner.prices.market import Commitment, class_prices, commitment, find_price
from planner.prices.price import Price

DAY = datetime.date(2026, 6, 1)
H100, A100, L4 = "h100-sxm5-80gb", "a100-sxm4-80gb", "l4"
Z = 1.6448536269514722


def quote(provider: str, usd: float, term: str = "on-demand", accelerator: str = H100, **fields: Any) -> Price:
    given = {"item": f"{provider} node", "date": "2026-06-01", "num_gpus": 8, "source": "test", **fields}
    return Price(usd_per_gpu_hour=usd, term=term, provider=provider, accelerator=accelerator, **given)


ON_DEMAND = (quote("Ax", 2.0), quote("Bx", 3.0), quote("Cx", 5.0), quote("Dx", 6.0))
L4S = (quote("Ax", 1.0, accelerator=L4), quote("Bx", 2.0, accelerator=L4), quote("Cx", 4.0, accelerator=L4))
YEARLY = (quote("Ax", 1.2, "reserved-1-year"), quote("Bx", 2.1, "reserved-1-year"), quote("Cx", 4.0, "reserved-1-year"))
ALL = (*ON_DEMAND, *L4S, *YEARLY)
Books = Callable[..., None]


@pytest.fixture
def quoted(monkeypatch: pytest.MonkeyPatch) -> Books:
    """Puts quotes in the tables' place; ``resellers`` are of that class, all others gpu-clouds."""

    def put(*quotes: Price, resellers: tuple[str, ...] = (), cards: tuple[str, ...] = (H100, A100, L4)) -> None:
        monkeypatch.setattr(market, "load_prices", lambda: quotes)
        monkeypatch.setattr(market, "_classes", lambda: dict.fromkeys(resellers, "reseller"))
        monkeypatch.setattr(market, "accelerator_names", lambda: list(cards))

    return put


def asked(**fields: Any) -> Price:
    return find_price(H100, **{"today": DAY, **fields})


def reach(price: Price) -> float:
    """Standard deviation of the logarithm behind an interval, which is even in it."""
    lower, upper = price.interval_usd_per_gpu_hour
    assert lower * upper == pytest.approx(price.usd_per_gpu_hour**2)
    return math.log(upper / price.usd_per_gpu_hour) / Z


def spread_of(*prices: float) -> float:
    """Sum of squares of logarithms around their mean."""
    return float(np.var(np.log(prices)) * len(prices))


def test_the_price_is_the_lower_median_of_the_newest_quotes_of_those_who_sell_at_first_hand(quoted: Books) -> None:
    """Left out: an older quote, one of a smaller instance, a dearer one of the same day, a reseller's beside three others, and
    one 401 days old. 2, 3, 5 and 6 USD are left."""
    quoted(
        *ALL, quote("Ax", 0.1, date="2026-05-31"), quote("Bx", 0.2, num_gpus=4), quote("Cx", 7.0), quote("Rx", 0.3),
        quote("Ox", 0.4, date="2025-04-26"), resellers=("Rx",),
    )  # fmt: skip
    found = asked()
    assert (found.usd_per_gpu_hour, found.provider, str(found.basis)) == (3.0, "Bx", "median of 4 providers")
    assert [p.usd_per_gpu_hour for p in market.market(H100, "on-demand")] == [2.0, 3.0, 5.0, 6.0]
    pooled = (spread_of(2, 3, 5, 6) + spread_of(1, 2, 4)) / (3 + 2)
    assert reach(found) == pytest.approx(math.sqrt((spread_of(2, 3, 5, 6) + 2.0 * pooled) / (3 + 2)))


def test_four_hundred_days_are_comparable_and_two_at_first_hand_are_too_few(quoted: Books) -> None:
    quoted(*ON_DEMAND[:2], quote("Ox", 0.4, date="2025-04-27"), quote("Rx", 0.3), resellers=("Rx",))
    assert [p.usd_per_gpu_hour for p in market.market(H100, "on-demand")] == [0.4, 2.0, 3.0]
    quoted(*ON_DEMAND[:1], quote("Ox", 0.4, date="2025-04-26"), quote("Rx", 0.3), resellers=("Rx",))
    assert [p.usd_per_gpu_hour for p in market.market(H100, "on-demand")] == [0.3, 2.0]
    assert str(find_price(H100, provider="Rx", today=DAY).basis) == ""
    quoted(*ON_DEMAND[:1])
    assert str(asked().basis) == "the only provider that quotes it"


def test_few_quotes_are_as_far_apart_as_those_of_all_gpus(quoted: Books) -> None:
    """Two of an A100 tell less than the two that all others together count for; without any others 0.45 is supposed."""
    two = (quote("Ax", 1.0, accelerator=A100), quote("Bx", 2.0, accelerator=A100))
    quoted(*L4S, *two)
    pooled = spread_of(1, 2, 4) / 2
    assert reach(find_price(A100, today=DAY)) == pytest.approx(math.sqrt((spread_of(1, 2) + 2 * pooled) / (1 + 2)))
    quoted(*two)
    assert reach(find_price(A100, today=DAY)) == pytest.approx(math.sqrt((spread_of(1, 2) + 2 * 0.45**2) / 3))


def test_a_price_moves_by_the_root_of_the_years_since_it_was_quoted(quoted: Books) -> None:
    """Ax went from 1 to 2 USD in 365 days, Bx from 6 to 3 in 730, cheapest of each day; Cx's quote of a quarter is too near."""
    older = (
        quote("Ax", 1.0, date="2025-06-01"), quote("Ax", 1.5, date="2025-06-01"), quote("Bx", 6.0, date="2024-06-01"),
        quote("Bx", 2.0, date="2025-01-01"), quote("Cx", 50.0, date="2026-03-05"), quote("Ax", 9.0, "spot", date="2024-06-01"),
    )  # fmt: skip
    quoted(*ALL, *older)
    yearly = (math.log(2.0) ** 2 * 365.25 / 365 + math.log(0.5) ** 2 * 365.25 / 730) / 2
    later = asked(today=datetime.date(2029, 6, 1))  # 1,096 days
    assert reach(later) ** 2 - reach(asked()) ** 2 == pytest.approx(yearly * 1096 / 365.25)
    quoted(*ALL)
    later = asked(today=datetime.date(2029, 6, 1))
    assert reach(later) ** 2 - reach(asked()) ** 2 == pytest.approx(0.15**2 * 1096 / 365.25)


def test_a_term_that_binds_is_the_median_times_the_median_ratio_of_one_providers_two_terms(quoted: Books) -> None:
    """0.6, 0.7 and 0.8 of 3 USD, though Dx, who asks 6, binds nobody; a pair is of one instance, day and region."""
    quoted(*ALL, quote("Dx", 0.6, "reserved-1-year", item="another"), quote("Dx", 0.6, "reserved-1-year", region="moon"))
    found = asked(term="reserved-1-year")
    assert found.usd_per_gpu_hour == pytest.approx(0.7 * 3.0)
    assert found.provider == ""
    assert str(found.basis) == "Bx's on-demand price times 0.70, the median of 3 pairs of one provider's two terms"
    ratios = float(np.std(np.log([0.6, 0.7, 0.8])))
    assert reach(found) == pytest.approx(math.hypot(reach(asked()), ratios))
    assert market.over_on_demand("reserved-1-year", H100) == pytest.approx(0.7)


def test_a_ratio_of_one_gpu_needs_three_pairs_and_else_is_that_of_all(quoted: Books) -> None:
    quoted(*ON_DEMAND, *L4S, *YEARLY, quote("Ax", 0.2, "reserved-1-year", L4), quote("Bx", 0.6, "reserved-1-year", L4))
    assert market.over_on_demand("reserved-1-year", L4) == pytest.approx(0.6)  # of 0.2, 0.3, 0.6, 0.7, 0.8
    quoted(*ON_DEMAND, *L4S, *YEARLY[:1], quote("Ax", 1.4, "reserved-3-year"))
    assert market.over_on_demand("reserved-3-year", H100) == pytest.approx(0.6)  # a longer term is no dearer
    quoted(*ON_DEMAND, quote("Ax", 3.0, "spot"))
    assert market.over_on_demand("spot", H100) == 1.0
    with pytest.raises(PlannerError, match="no provider quotes it beside on-demand"):
        market.over_on_demand("reserved-1-year", H100)


def test_no_error_names_a_term_that_nobody_asked_for(quoted: Books) -> None:
    """Three years are priced without a pair of one year, by ratio and on offer; a GPU quoted at one year alone says so."""
    three = quote("Ax", 0.8, "reserved-3-year")
    quoted(*ON_DEMAND, three)
    assert market.over_on_demand("reserved-3-year", H100) == pytest.approx(0.4)
    assert asked(term="reserved-3-year").usd_per_gpu_hour == pytest.approx(0.4 * 3.0)
    quoted(*ON_DEMAND, *L4S, quote("Bx", 1.0, "reserved-3-year", accelerator=L4), quote("Zx", 1.8, "reserved-3-year"))
    found = asked(term="reserved-3-year")  # by ratio half of 3 USD, but nobody sells below 1.80
    assert (found.usd_per_gpu_hour, found.provider) == (1.8, "Zx")
    quoted(*L4S, quote("Zx", 1.8, "reserved-1-year"))
    with pytest.raises(PlannerError, match=r"^price\.term = 'on-demand': h100-sxm5-80gb is quoted at reserved-1-year alone"):
        asked()


def test_what_a_marketplace_sells_is_compared_with_any_instance_of_its_day(quoted: Books) -> None:
    quoted(*ON_DEMAND, quote("Ax", 1.0, "marketplace", item="community"), quote("Bx", 1.0, "spot", item="community"))
    assert market.over_on_demand("marketplace", H100) == pytest.approx(0.5)
    with pytest.raises(PlannerError, match="no provider quotes it"):
        market.over_on_demand("spot", H100)


def test_no_price_lies_below_the_cheapest_offer_of_its_term(quoted: Books) -> None:
    """By ratio 0.5 of 3 USD; the only offer of three years is 2.5 of 5, of a year 2.8 of 5: the offer is taken, and where the
    shorter term is cheaper still, that one. The interval reaches as far as by ratio."""
    year = (L4S[0], quote("Ax", 1.0, "reserved-1-year", L4))  # of which nothing is taken off
    quoted(*ON_DEMAND, *year, quote("Cx", 2.5, "reserved-3-year"))
    found = asked(term="reserved-3-year")
    assert (found.usd_per_gpu_hour, found.provider) == (2.5, "Cx")
    assert str(found.basis) == "the cheapest quote of this term; by ratio to on demand it would be $1.50"
    assert reach(found) == pytest.approx(reach(asked()))
    quoted(
        *ON_DEMAND,
        *year,
        quote("Cx", 2.5, "reserved-3-year"),
        quote("Ax", 1.1, "reserved-1-year"),
        quote("Bx", 1.65, "reserved-1-year"),
        quote("Cx", 2.75, "reserved-1-year"),
    )
    cheaper = asked(term="reserved-3-year")
    assert (cheaper.usd_per_gpu_hour, cheaper.term, cheaper.provider) == (pytest.approx(1.65), "reserved-3-year", "")
    assert str(cheaper.basis).startswith("as reserved-1-year, for the cheapest quote of this term is $2.50; by ratio")
    old = quote("Cx", 2.5, "reserved-3-year", date="2025-04-26")
    quoted(*ON_DEMAND, *year, old, quote("Cx", 5.0, date="2025-04-26"), quote("Cx", 5.0))
    assert asked(term="reserved-3-year").usd_per_gpu_hour == pytest.approx(1.5)  # nobody sells at that any more


def test_an_estimate_follows_peak_memory_and_bandwidth_and_never_falls_with_one(quoted: Books) -> None:
    """Prices of five GPUs that are 0.001 of memory's root times bandwidth's fourth root: that of a sixth is, too."""
    cards = (H100, A100, L4, "t4", "a10", "l40s", "h200-sxm-141gb", "v100-sxm2-32gb")

    def law(card: str) -> float:
        found = load_accelerator(card)
        return float(1e-7 * found.memory_bytes**0.5 * found.memory_bandwidth_bytes_per_s**0.25)

    quoted(*(quote("Ax", law(card), accelerator=card) for card in cards if card != H100), cards=cards)
    found = asked()
    assert found.usd_per_gpu_hour == pytest.approx(law(H100), rel=1e-3)
    assert (found.date, found.provider) == ("2026-06-01", "")
    assert str(found.basis).startswith("estimated from 7 accelerators that are rented")
    assert reach(found) == pytest.approx(0.45, rel=1e-3)  # as providers differ; the law itself leaves nothing
    with pytest.raises(PlannerError, match="an estimate"):
        asked(provider="Ax")
    quoted(*(quote("Ax", 1.0 / law(card), accelerator=card) for card in cards if card != H100), cards=cards)
    logs = [-math.log(law(card)) for card in cards if card != H100]
    assert asked().usd_per_gpu_hour == pytest.approx(math.exp(float(np.mean(logs))), rel=1e-3)
    left = math.sqrt(float(np.var(logs)) * 7 / (7 - 4))
    assert reach(asked()) == pytest.approx(math.hypot(0.45, left), rel=1e-3)


def test_of_one_provider_the_newest_then_the_cheapest_and_the_instance_that_is_asked_for(quoted: Books) -> None:
    quoted(
        *ON_DEMAND, quote("Ax", 2.5), quote("Ax", 1.0, date="2026-05-01"), quote("Ax", 4.0, item="small", region="moon"),
        quote("Ax", 0.5, "spot"),
    )  # fmt: skip
    assert asked(provider="ax").usd_per_gpu_hour == 2.0
    assert asked(provider="Ax", item="small").usd_per_gpu_hour == asked(region="Moon").usd_per_gpu_hour == 4.0
    assert asked(provider="Ax", item="none such").usd_per_gpu_hour == 2.0
    assert asked(provider="Ax", term="spot").usd_per_gpu_hour == 0.5
    assert asked(provider="Ax").interval_usd_per_gpu_hour == (2.0, 2.0)


def test_classes_have_medians_of_their_own(quoted: Books) -> None:
    quoted(*ON_DEMAND, quote("Rx", 4.5), resellers=("Dx", "Rx", "Cx"))
    found = class_prices(H100, today=DAY)
    assert {name: price.usd_per_gpu_hour for name, price in found.items()} == {"gpu-cloud": 2.0, "reseller": 5.0}
    assert reach(found["gpu-cloud"]) == pytest.approx(math.sqrt((spread_of(2, 3) + 2 * market._book().spread ** 2) / 3))


def test_those_most_quoted_come_first_of_what_can_be_rented(quoted: Books) -> None:
    quoted(*ON_DEMAND, *L4S, quote("Ax", 1.0, accelerator="no such"), quote("Ax", 1.0, accelerator=A100))
    assert market.rented_accelerators() == [H100, L4, A100]


def test_ones_own_price_binds_to_nothing_and_a_term_to_its_least_order() -> None:
    own = commitment("own price")
    assert (own.length_days, own.upfront_fraction, own.minimum_gpus, own.interruptible) == (0, 0.0, 1, False)
    bound = Commitment(
        name="x", length_days=10.0, upfront_fraction=0.25, minimum_gpus=16, interruptible=False, source="", kind="given"
    )
    assert [bound.minimum_usd(quote("Ax", 2.0), n) for n in (8, 32)] == [2.0 * 16 * 240, 2.0 * 32 * 240]
    assert bound.upfront_usd(quote("Ax", 2.0), 8) == 0.25 * 2.0 * 16 * 240
