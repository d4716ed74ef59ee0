"""What an accelerator costs: the market's price with its interval, terms within a provider, an answer for every accelerator."""

from __future__ import annotations

import csv
import datetime
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from each import for_each

import planner
from planner.common.data import CATALOG
from planner.common.errors import PlannerError
from planner.hardware.cluster import Node, accelerator_names, load_accelerator, load_node, node_names
from planner.prices.currency import exchange_rate, exchange_rates, to_usd
from planner.prices.market import (
    COMPARABLE_DAYS,
    ORDER,
    as_price,
    class_prices,
    commitment,
    find_price,
    market,
    over_on_demand,
    price_note,
    provider_class,
)
from planner.prices.price import TABLE, TERMS, Price, load_prices, own_price
from planner.training.many import plan_many
from planner.training.planning import plan


def on_node(node: Node, fields: dict[str, str]) -> Price:
    price = as_price(fields, node.accelerator, node)
    assert price is not None
    return price


RENTED = sorted({p.accelerator for p in load_prices()})
PRICED = [name for name in accelerator_names() if name != "cpu"]


@for_each("name", PRICED)
def test_every_accelerator_has_a_price_with_an_interval_and_an_age_at_every_term(name: str) -> None:
    for term in TERMS:
        price = find_price(name, term=term)
        lower, upper = price.interval_usd_per_gpu_hour
        assert 0 < lower < price.usd_per_gpu_hour < upper
        assert price.term == term
        assert price.date
        assert price.source
        assert price.basis
    assert name in RENTED or "estimated" in find_price(name).basis


@for_each("name", PRICED)
def test_a_longer_commitment_is_never_dearer_and_spot_never_dearer_than_on_demand(name: str) -> None:
    by_length = [find_price(name, term=term).usd_per_gpu_hour for term in ORDER]
    assert by_length == sorted(by_length, reverse=True)
    if not market(name, "spot") or market(name, "on-demand"):
        assert find_price(name, term="spot").usd_per_gpu_hour <= by_length[0]


@for_each("name", RENTED)
def test_no_term_is_priced_below_what_everybody_who_sells_it_asks(name: str) -> None:
    """What nobody offers is no price to sign for; a shorter term, which may be cheaper because others sell it, is one."""
    newest = max((p.last_day() for p in market(name, "on-demand")), default=None)
    for term, shorter in (("spot", "on-demand"), *itertools.pairwise(reversed(ORDER))):
        asked = [p for p in market(name, term) if newest is None or (newest - p.last_day()).days <= COMPARABLE_DAYS]
        if asked:
            least = min(asked[0].usd_per_gpu_hour, find_price(name, term=shorter).usd_per_gpu_hour)
            assert find_price(name, term=term).usd_per_gpu_hour >= least * (1 - 1e-12)


def test_three_years_of_an_h100_cost_what_the_cheapest_provider_asks_and_ones_own_rent_takes_the_ratio_of_one_provider() -> None:
    """AWS, Azure and Google Cloud alone quote three years of an H100, none below 2.97 USD, though on demand others ask 4.41."""
    found = find_price("h100-sxm5-80gb", term="reserved-3-year")
    assert (found.provider, found.usd_per_gpu_hour) == ("AWS", 2.972)
    low, high = found.interval_usd_per_gpu_hour
    assert low < found.usd_per_gpu_hour < high
    assert over_on_demand("reserved-3-year", "h100-sxm5-80gb") == pytest.approx(0.44, abs=0.01)
    assert over_on_demand("reserved-3-year", "h100-sxm5-80gb", load_node("p5-48xlarge")) == pytest.approx(2.972 / 6.88, rel=1e-3)


@for_each("name", [n for n in node_names() if load_node(n).accelerator != "cpu"])
def test_on_a_providers_node_terms_are_that_providers(name: str) -> None:
    node = load_node(name)
    prices = [on_node(node, {"term": term}) for term in ORDER]
    quoted = {p.provider for p in load_prices() if p.accelerator == node.accelerator}
    if node.provider in quoted:
        assert {p.provider for p in prices} == {node.provider}
        assert [p.usd_per_gpu_hour for p in prices] == sorted((p.usd_per_gpu_hour for p in prices), reverse=True)


@pytest.mark.parametrize("written", ["SPOT", "Spot", " spot "])
def test_a_term_is_found_in_whatever_case_also_at_a_nodes_provider(written: str) -> None:
    for node in (n for n in map(load_node, node_names()) if n.provider and market(n.accelerator, "spot")):
        assert on_node(node, {"term": written}) == on_node(node, {"term": "spot"})


def test_a_node_takes_the_quote_of_its_own_instance() -> None:
    for node, item in (
        ("standard-nd96isr-h100-v5", "Standard_ND96isr_H100_v5"),
        ("p5-48xlarge", "p5.48xlarge"),
        ("g4-standard-48", "g4-standard-48"),
    ):
        assert on_node(load_node(node), {}).item == item
    question = {"model": "llama-2-7b", "cluster": "standard-nd96isr-h100-v5", "job": {"seq_len": 1024, "global_batch_size": 64}}
    assert plan(**question).price.provider == "Azure"  # type: ignore[arg-type, union-attr]
    other = plan(**question, price={"provider": "AWS"})  # type: ignore[arg-type]
    assert other.price.provider == "AWS"  # type: ignore[union-attr]


def test_the_median_mixes_comparable_quotes_only() -> None:
    for name in RENTED:
        ranked = market(name, "on-demand")
        if not ranked:
            continue
        days = [p.last_day() for p in ranked]
        assert (max(days) - min(days)).days <= COMPARABLE_DAYS
        assert len({p.provider for p in ranked}) == len(ranked)
        classes = [provider_class(p.provider) for p in ranked]
        assert "reseller" not in classes or classes.count("reseller") > len(classes) - 3


def test_hyperscalers_ask_more_than_gpu_clouds_for_an_h100() -> None:
    """aimultiple.com/gpu-index, May 2026: hyperscaler listings are typically 2 to 3 times higher."""
    by_class = class_prices("h100-sxm5-80gb")
    assert 1.7 < by_class["hyperscaler"].usd_per_gpu_hour / by_class["gpu-cloud"].usd_per_gpu_hour < 3.5


@pytest.mark.parametrize(
    ("name", "low", "high"), [("a100-sxm4-80gb", 0.8, 3.0), ("h100-sxm5-80gb", 1.99, 5.0), ("h200-sxm-141gb", 2.5, 7.0)]
)
def test_the_median_lies_in_the_range_that_a_price_guide_gives(name: str, low: float, high: float) -> None:
    """mercatus-ai.com/blog/cloud-gpu-pricing, May 2026: the span over long-tail, specialty and hyperscale providers."""
    assert low < find_price(name).usd_per_gpu_hour < high


def test_one_and_three_years_cost_what_discounts_are_published_as() -> None:
    """packet.ai, June 2026: reserved contracts take 20 to 40 % off; Azure's own three-year reservations 56 % off."""
    one, demand = (find_price("h100-sxm5-80gb", term=t).usd_per_gpu_hour for t in ("reserved-1-year", "on-demand"))
    assert 0.6 <= one / demand <= 0.8
    assert over_on_demand("reserved-3-year", "h100-sxm5-80gb") == pytest.approx(0.44, abs=0.08)


def test_an_interval_widens_with_age_and_the_markets_is_wider_than_one_providers() -> None:
    today = datetime.date(2026, 12, 1)
    now, later = (find_price("h100-sxm5-80gb", today=d) for d in (today, datetime.date(2030, 1, 1)))
    assert later.interval_usd_per_gpu_hour[1] > now.interval_usd_per_gpu_hour[1]
    assert later.usd_per_gpu_hour == now.usd_per_gpu_hour
    azure = find_price("h100-sxm5-80gb", provider="Azure", today=today)
    reach = [math.log(p.interval_usd_per_gpu_hour[1] / p.usd_per_gpu_hour) for p in (azure, now)]
    assert reach[0] < reach[1]


def test_a_wider_spread_of_quotes_never_narrows_what_a_plan_costs() -> None:
    question = {"model": "llama-2-7b", "cluster": "dgx-h100", "job": {"seq_len": 1024, "global_batch_size": 64, "num_steps": 100}}
    market_price = find_price("h100-sxm5-80gb")
    certain = plan(**question, price=market_price.usd_per_gpu_hour)  # type: ignore[arg-type]
    spread = plan(**question, price=market_price)  # type: ignore[arg-type]
    far = replace(market_price, upper_usd_per_gpu_hour=99.0, lower_usd_per_gpu_hour=0.1)
    wider = plan(**question, price=far)  # type: ignore[arg-type]
    reach = [(a.intervals["cost_usd"].lower, a.intervals["cost_usd"].upper) for a in (certain, spread, wider)]
    assert reach[0][0] > reach[1][0] > reach[2][0]
    assert reach[0][1] < reach[1][1] < reach[2][1]
    assert certain.cost_usd == spread.cost_usd == wider.cost_usd
    assert certain.intervals["run_s"] == wider.intervals["run_s"]


def test_the_interval_holds_nine_of_ten_providers() -> None:
    inside = [
        lower <= quote.usd_per_gpu_hour <= upper
        for name in RENTED
        for lower, upper in [find_price(name).interval_usd_per_gpu_hour]
        for quote in market(name, "on-demand")
    ]
    assert 0.85 <= np.mean(inside) <= 1.0


@pytest.mark.parametrize(
    ("small", "large"), [("rtx-4060-8gb", "rtx-4090-d-24gb"), ("rtx-5070-12gb", "rtx-5080-16gb"), ("gaudi2-96gb", "gaudi3-128gb")]
)
def test_an_estimate_never_makes_the_larger_card_the_cheaper(small: str, large: str) -> None:
    first, second = find_price(small), find_price(large)
    assert "estimated" in first.basis
    assert first.usd_per_gpu_hour <= second.usd_per_gpu_hour


# --- what a term binds to -----------------------------------------------------------------------------------------------------


def test_every_term_says_what_it_binds_to() -> None:
    for term in TERMS:
        assert commitment(term).source
    assert commitment("own price").length_days == 0
    with pytest.raises(PlannerError, match="reserved-1-year"):
        commitment("reserved-one-year")


def test_a_three_year_reservation_of_512_gpus_by_hand() -> None:
    """2 USD x 512 GPUs x 1,095 days x 24 hours; on demand binds to nothing."""
    price = replace(own_price(2.0), term="reserved-3-year")
    assert commitment("reserved-3-year").minimum_usd(price, 512) == 2 * 512 * 1095 * 24 == 26_910_720
    assert commitment("reserved-3-year").upfront_usd(price, 512) == 0
    assert commitment("capacity-block").upfront_usd(price, 8) == 2 * 8 * 24
    assert commitment("on-demand").minimum_usd(price, 512) == 0


# --- currencies ---------------------------------------------------------------------------------------------------------------


def test_rates_are_dated_sourced_and_those_of_the_ecb() -> None:
    """Reference rates of 30 October 2026: 1 EUR = 1.1172 USD = 7.4326 CNY."""
    assert exchange_rate("eur").usd_per_unit == pytest.approx(1.1172)
    assert to_usd(7.4326, "CNY") == pytest.approx(1.1172, rel=1e-5)
    assert to_usd(5.0, "JPY") / exchange_rate("JPY").usd_per_unit == pytest.approx(5.0)
    assert exchange_rate("USD").usd_per_unit == 1.0
    assert all(rate.source and len(rate.date) == 10 for code, rate in exchange_rates().items() if code != "USD")
    with pytest.raises(PlannerError, match="did you mean CNY"):
        exchange_rate("CNT")


def test_a_scenarios_own_price_may_be_in_another_currency() -> None:
    price = as_price({"price_per_gpu_hour": 10, "currency": "CNY"}, "h20-96gb")
    assert price is not None
    assert price.usd_per_gpu_hour == pytest.approx(10 * 1.1172 / 7.4326, rel=1e-5)
    for wrong, words in (
        ({"price_per_gpu_hour": 10}, "currency is missing"),
        ({"price_per_gpu_hour": -1, "currency": "EUR"}, "negative"),
    ):
        with pytest.raises(PlannerError, match=words):
            as_price(wrong, "h20-96gb")


# --- the table itself ---------------------------------------------------------------------------------------------------------


def test_a_provider_that_does_not_quote_an_accelerator_is_refused_whoever_else_does() -> None:
    """Also where nobody quotes it: an estimate is nobody's price."""
    for card in accelerator_names():
        if card != "cpu":
            for field in ("provider", "region"):
                with pytest.raises(PlannerError, match="no such quote"):
                    as_price({field: "Nowhere"}, card)


def test_a_quote_that_is_missing_is_told_with_all_that_was_asked_of_it() -> None:
    """The term, and for whom a provider quotes at others; each of these is a question that has an answer."""
    quotes = [p for p in load_prices() if p.accelerator == "h100-sxm5-80gb"]
    spot, others = ({p.provider for p in quotes if (p.term == "spot") is kind} for kind in (True, False))
    for provider in sorted(others - spot)[:3]:
        with pytest.raises(
            PlannerError, match=r"no such quote for h100-sxm5-80gb at price\.term = 'spot'; .*quotes it at "
        ) as told:
            as_price({"provider": provider, "term": "spot"}, "h100-sxm5-80gb")
        for term in str(told.value).rpartition(" quotes it at ")[2].rstrip(".").split(", "):
            found = as_price({"provider": provider, "term": term}, "h100-sxm5-80gb")
            assert found is not None
            assert (found.provider, found.term) == (provider, term)
    with pytest.raises(PlannerError, match=r"for h100-sxm5-80gb at price\.term = 'spot', price\.provider = 'AWS'; "):
        as_price({"provider": "AWS", "term": "spot", "region": "Nowhere"}, "h100-sxm5-80gb")


@pytest.mark.parametrize("card", ["h100-sxm5-80gb", "a100-sxm4-80gb", "l4"])
def test_a_region_without_a_quote_is_told_its_terms_or_whose_it_is(card: str) -> None:
    """A region quotes nothing, and what is said of it can be asked for: of every term, provider and region."""
    quotes = [p for p in load_prices() if p.accelerator == card]
    providers, regions = ({getattr(p, name) for p in quotes if p.region} - {""} for name in ("provider", "region"))
    there = {(p.term, p.provider, p.region) for p in quotes}
    told_of = set()
    for term, provider, region in itertools.product(sorted({p.term for p in quotes}), sorted(providers), sorted(regions)):
        if (term, provider, region) in there or not any((p.term, p.provider) == (term, provider) for p in quotes):
            continue
        with pytest.raises(PlannerError, match=r"^price\.region = ") as told:
            as_price({"provider": provider, "term": term, "region": region}, card)
        words = str(told.value)
        assert "?;" not in words
        assert f"{region} quotes" not in words
        said = words.rstrip(".")
        if f"; in {region} it is quoted at " in said:
            others = said.rpartition(" quoted at ")[2].split(", ")
            assert all(as_price({"provider": provider, "term": other, "region": region}, card) for other in others)
            told_of.add("terms")
        else:
            whose = said.rpartition(f"; {region} is a region of ")[2].split(", ")
            assert provider not in whose
            assert {p.provider for p in quotes if p.region == region} == set(whose)
            told_of.add("whose")
    assert "whose" in told_of


def test_no_quote_is_given_twice_and_each_is_whole() -> None:
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = [tuple(row[c] for c in ("provider", "item", "accelerator", "term", "region", "date")) for row in rows]
    assert len(set(keys)) == len(keys)
    for row in rows:
        assert not row["num_gpus_per_instance"] or int(row["num_gpus_per_instance"]) >= 1
        assert row["source"]
        Price(usd_per_gpu_hour=1.0, term=row["term"], date=row["date"]).last_day()


def test_the_snapshot_of_what_is_rented_everywhere_is_of_2026() -> None:
    """Accelerators that most providers quote: their newest quotes are at most a quarter older than the newest of all."""
    newest = max(p.last_day() for p in load_prices() if len(p.date) == 10)
    for name in (
        "a100-sxm4-80gb",
        "h100-sxm5-80gb",
        "h200-sxm-141gb",
        "b200-sxm-180gb",
        "b300-sxm-270gb",
        "gb200-186gb",
        "mi300x-192gb",
        "l40s",
    ):
        assert (newest - datetime.date.fromisoformat(find_price(name).date)).days <= 92


def test_classes_are_of_providers_that_quote_or_whose_nodes_are_here() -> None:
    import tomllib

    named = set(tomllib.loads((CATALOG / "prices" / "providers.toml").read_text())["class"])
    assert named <= {p.provider for p in load_prices()} | {load_node(n).provider for n in node_names()}
    assert {provider_class(p.provider) for p in load_prices()} <= {"hyperscaler", "gpu-cloud", "marketplace", "reseller"}
    assert load_accelerator("h100-sxm5-80gb").name in RENTED


def test_a_capacity_block_costs_what_those_ask_who_sell_it() -> None:
    """AWS and GCP list H100 blocks at 5.19 and 4.79 to 5.04 USD (2026-09-19): a part of a GPU cloud's on-demand price, 1.91, is
    nobody's offer."""
    sold = [name for name in RENTED if market(name, "capacity-block")]
    assert "h100-sxm5-80gb" in sold
    for name in sold:
        quotes = [p.usd_per_gpu_hour for p in market(name, "capacity-block")]
        price = find_price(name, term="capacity-block")
        assert min(quotes) <= price.usd_per_gpu_hour <= max(quotes)
        assert price.provider
    assert 4.79 <= find_price("h100-sxm5-80gb", term="capacity-block").usd_per_gpu_hour <= 5.2


@pytest.mark.parametrize(("card", "words"), [("l40s", "find_price"), ("my-h100", "which has none; give dollars per GPU-hour")])
def test_the_price_of_another_gpu_names_what_can_be_given_instead(card: str, words: str) -> None:
    """A GPU of one's own profile has no quote: neither ``find_price`` nor a term of it is an answer."""
    with pytest.raises(PlannerError, match=words):
        as_price(find_price("h100-sxm5-80gb"), card)


@for_each("name", PRICED)
def test_no_quote_is_doubted_and_one_in_cents_or_mills_is(name: str) -> None:
    """As a price of one's own each quote passes, and so does nothing at all; a hundred times the dearest does not."""
    quotes = [p.usd_per_gpu_hour for p in load_prices() if p.accelerator == name] or [find_price(name).usd_per_gpu_hour]
    assert not [usd for usd in (0.0, *quotes) if price_note(own_price(usd), name)]
    assert all(price_note(own_price(usd), name) for usd in (100 * max(quotes), min(quotes) / 1000))
    assert not price_note(find_price(name), name)
    assert not price_note(None, name)


def test_a_price_in_cents_is_doubted_wherever_it_is_given() -> None:
    job = {"seq_len": 4096, "global_batch_size": 64}
    told = "price.usd_per_gpu_hour = 441: h100-sxm5-80gb usually costs $"
    asked = {"model": "llama-3-8b", "cluster": "8xh100", "job": job, "price": 441}
    served = planner.serve(model="llama-3-8b", cluster="1xh100", serving={"prompt": 512, "output": 128}, price=441)
    table = plan_many([asked])
    for said in (planner.plan(**asked).notes, [str(notes) for notes in table["notes"]], served.notes):
        assert told in " ".join(said)
