"""Rent, reserve, spot or own: each way by hand, the break-even, its interval, and the command."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from rich.console import Console

from planner.cli.main import main
from planner.common.errors import PlannerError
from planner.hardware.cluster import Cluster, cluster
from planner.prices.ownership import YEAR_S, Ownership, constants, owned_gpu, power_w_per_gpu
from planner.reports.holding import holding_table
from planner.studies.holding import Holding, first_below, holding

HOURS = YEAR_S / 3600.0
BARE = {
    "purchase_usd_per_gpu": 30_000,
    "capital_rate": 0.0,
    "maintenance_share": 0.0,
    "colocation_usd_per_kw_month": 0.0,
    "idle_power_share": 0.0,
    "rent_change_per_year": 0.0,
}


@pytest.fixture(scope="module")
def eight() -> Cluster:
    return cluster("dgx-h100")


def usd(found: Holding, name: str) -> float:
    return float(next(way.usd[-1] for way in found.ways if way.name == name))


def test_renting_by_hand(eight: Cluster) -> None:
    """2 USD, 8 GPUs, 60 % of two years: 8 x 2 x 0.6 hours; a term is paid whole, used or not."""
    found = holding(eight, Ownership.build({**BARE, "utilisation": 0.6}, "own"), years=2, rent_usd_per_gpu_hour=2.0)
    assert usd(found, "on-demand") == pytest.approx(8 * 2.0 * 0.6 * 2 * HOURS)
    for term in ("reserved-1-year", "reserved-3-year"):
        price = next(way.price for way in found.ways if way.name == term)
        assert price is not None
        assert usd(found, term) == pytest.approx(8 * price.usd_per_gpu_hour * 2 * HOURS)
    idle = holding(eight, Ownership.build({**BARE, "utilisation": 0.1}, "own"), years=2, rent_usd_per_gpu_hour=2.0)
    assert usd(idle, "reserved-1-year") == pytest.approx(usd(found, "reserved-1-year"))
    assert usd(idle, "on-demand") == pytest.approx(usd(found, "on-demand") / 6)


def test_owning_at_full_use_without_capital_costs_its_parts(eight: Cluster) -> None:
    """30,000 USD a GPU over five years and the energy of all hours: nothing else where nothing else is charged."""
    found = holding(eight, Ownership.build({**BARE, "utilisation": 1.0}, "own"), years=5, pue=1.0, electricity_usd_per_kwh=0.1)
    energy = power_w_per_gpu(eight) / 1e3 * 5 * HOURS * 0.1
    assert usd(found, "own") == pytest.approx(8 * (30_000 + energy))


@pytest.mark.parametrize("years", [1.0, 3.0, 5.0])
def test_owning_is_what_a_bill_says_of_it(eight: Cluster, years: float) -> None:
    """At the end of its life nothing is sold: the dollars per used hour are those of ``planner run`` with [cost.own]."""
    own = Ownership(years=years)
    found = holding(eight, own, years=years)
    c = constants()
    one = owned_gpu(
        eight, own, power_w=power_w_per_gpu(eight), pue=c.pue, electricity_usd_per_kwh=c.electricity_usd_per_kwh, rent=None
    )
    assert usd(found, "own") == pytest.approx(one.usd_per_gpu_hour * 8 * c.utilisation * years * HOURS)
    at = next(one for one in found.break_even if one.against == "on-demand")
    assert at.utilisation is not None
    assert at.utilisation.expected == pytest.approx(found.owned.break_even_utilisation, rel=1e-3)
    assert at.utilisation.lower <= at.utilisation.expected <= at.utilisation.upper


def test_a_price_path_makes_renting_cheaper_and_owning_pay_later(eight: Cluster) -> None:
    def found(change: float) -> Holding:
        return holding(eight, Ownership(rent_change_per_year=change), years=5)

    falling, steady = found(-0.2), found(0.0)
    assert usd(falling, "on-demand") < usd(steady, "on-demand")
    assert usd(falling, "own") == pytest.approx(usd(steady, "own"))
    months = [next(b for b in f.break_even if b.against == "on-demand").months or np.inf for f in (falling, steady)]
    assert months[0] >= months[1]


def test_what_is_known_leaves_no_doubt_and_what_is_not_a_wide_interval(eight: Cluster) -> None:
    own, rent = Ownership.build(BARE, "own"), {"years": 5, "rent_usd_per_gpu_hour": 3.0}
    sure = holding(eight, own, **rent, power_w_per_gpu=power_w_per_gpu(eight))
    for one in sure.break_even:
        assert one.months == one.months_lower == one.months_upper
        assert one.probability in (0.0, 1.0)
    assumed = holding(eight, own, **rent)  # the same watts, but as uncertain as the catalog has them
    assert [way.usd.tolist() for way in assumed.ways] == [way.usd.tolist() for way in sure.ways]
    one, other = (next(b for b in found.break_even if b.against == "on-demand") for found in (sure, assumed))
    assert one.utilisation is not None
    assert other.utilisation is not None
    assert one.utilisation.lower == pytest.approx(one.utilisation.upper)
    assert other.utilisation.lower < one.utilisation.expected < other.utilisation.upper
    assert sure.assumptions["power_w_per_gpu"] == "956: given"
    unsure = next(one for one in holding(eight, years=5).break_even if one.against == "on-demand")
    assert (unsure.months_lower or 0) < (unsure.months or 61) < (unsure.months_upper or 61)
    assert 0.0 < unsure.probability < 1.0


@pytest.mark.parametrize(
    ("years", "until"), [(0.5, (1, 3)), (1.0, (1, 3)), (2.5, (3, 3)), (4.0, (4, 6)), (5.0, (5, 6)), (6.0, (6, 6))]
)
def test_a_term_that_has_begun_is_paid_to_its_end(eight: Cluster, years: float, until: tuple[int, int]) -> None:
    """What is paid and what is owed are the whole of the terms, each at the rent of the year in which it began."""
    found = holding(eight, Ownership(rent_change_per_year=-0.2), years=years, rent_usd_per_gpu_hour=3.0)
    for term, bound, last in zip(("reserved-1-year", "reserved-3-year"), (1, 3), until, strict=True):
        (way,) = (way for way in found.ways if way.name == term)
        assert way.price is not None
        rents = [0.8**begins for begins in range(0, last, bound)]
        assert way.bound_usd[-1] == pytest.approx(way.price.usd_per_gpu_hour * 8 * HOURS * bound * sum(rents))
        assert bool(way.owed_usd[-1]) == (last > years) == any(str(note).startswith(f"{term}: its") for note in found.notes)
    assert found.cheapest.bound_usd[-1] == min(way.bound_usd[-1] for way in found.ways)


def test_a_term_is_a_stair_of_the_chart_that_rises_on_the_day_on_which_one_is_bound(eight: Cluster) -> None:
    """Five years in terms of three: each binds to three years' rent at once, the second at the rent of its day."""
    found = holding(eight, Ownership(rent_change_per_year=-0.2), years=5, rent_usd_per_gpu_hour=3.0)
    (way,) = (way for way in found.ways if way.name == "reserved-3-year")
    assert way.price is not None
    term = way.price.usd_per_gpu_hour * 8 * HOURS * 3
    months, bound = way.steps()
    assert months.tolist() == [0.0, 36.0, 36.0, 60.0]
    assert bound == pytest.approx([term, term, term * (1 + 0.8**3), term * (1 + 0.8**3)])
    assert found.rows()[23]["reserved-3-year_owed_usd"] == pytest.approx(term / 3)
    assert [way.name for way in found.ways if way.binds] == ["reserved-1-year", "reserved-3-year"]
    pytest.importorskip("streamlit")
    from planner.web.pages.run import holding_figure

    rows = [row for row in holding_figure(found).rows if row["group"].startswith("reserved, 3 years")]
    assert [(row["x"], row["y"]) for row in rows] == [*zip(months, bound, strict=True)]


def test_owning_is_compared_with_the_whole_of_a_term(eight: Cluster) -> None:
    """Where all is certain, owning surely wins against a term exactly where it costs less than that with what is owed of it."""
    own = Ownership.build({**BARE, "capital_rate": 0.1}, "own")
    for years in (2.5, 3.0, 3.5, 5.0):
        found = holding(eight, own, years=years, rent_usd_per_gpu_hour=3.0, power_w_per_gpu=900.0)
        for way, even in zip(found.ways, found.break_even, strict=False):
            assert even.probability == float(usd(found, "own") < way.bound_usd[-1])
            assert (even.months is not None) == bool(even.probability)


def test_a_resale_that_is_given_is_said_to_be(eight: Cluster) -> None:
    assert holding(eight, years=1, resale_share=0.5).assumptions["resale_share"] == "0.5: given"
    assert "assumed" in holding(eight, years=1).assumptions["resale_share"]


def test_spot_costs_more_per_useful_hour_than_its_price_and_nothing_without_a_rate(eight: Cluster) -> None:
    assert all(way.name != "spot" for way in holding(eight, years=1).ways)
    rare, often = (holding(eight, years=1, preemption_mtbf_s=s) for s in (30 * 86400.0, 4 * 3600.0))
    price = next(way.price for way in rare.ways if way.name == "spot")
    assert price is not None
    change = constants().rent_change_per_year
    paid = 8 * price.usd_per_gpu_hour * rare.utilisation * HOURS * (change / np.log1p(change))
    assert paid < usd(rare, "spot") < usd(often, "spot")


def test_the_month_from_which_one_stays_below_the_other() -> None:
    months = np.arange(1.0, 6.0)
    falls = np.array([[5.0, 5.0, 5.0, 5.0, 5.0]])
    assert first_below(falls, np.array([[1.0, 2.0, 6.0, 7.0, 8.0]]), months)[0] == 3.0
    assert first_below(falls, np.array([[6.0, 2.0, 6.0, 7.0, 8.0]]), months)[0] == 3.0  # not before it stays below
    assert first_below(falls, np.array([[6.0, 6.0, 6.0, 7.0, 8.0]]), months)[0] == 1.0
    assert first_below(falls, np.array([[6.0, 6.0, 6.0, 7.0, 4.0]]), months)[0] == np.inf


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["planner", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    picture, table = tmp_path / "own.png", tmp_path / "own.csv"
    code, out, _ = run("own", "8xh100", "--years", "2", "--use", "0.5", "--plot", picture, "--out", table)
    assert code == 0
    assert "owning is cheaper from" in out
    assert "capital_rate" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(table.read_text().splitlines()) == 25
    code, out, _ = run("own", "8xh100", "--years", "1", "--set", "capital_rate=0.2", "--preemption", "16h", "--json")
    answer = json.loads(out)
    assert answer["assumptions"]["capital_rate"] == "0.2: given"
    assert {way["name"] for way in answer["ways"]} == {"on-demand", "spot", "reserved-1-year", "reserved-3-year", "own"}
    for wrong, words in (
        (("--years", "0"), "years = 0"),
        (("--set", "capital_rate"), "FIELD=NUMBER"),
        (("--set", "capital=1"), "capital_rate"),
        (("--use", "2"), "--use 2: must be a part of all hours"),
        (("--resale", "2"), "resale_share = 2"),
    ):
        code, out, err = run("own", "8xh100", *wrong)
        assert (code, out) == (2, ""), err
        assert words in err
    with pytest.raises(PlannerError, match="years = 11"):
        holding(cluster("dgx-h100"), years=11)


def test_the_hour_of_an_owned_gpu_is_told_as_the_sum_of_its_parts(run: Run) -> None:
    code, out, _ = run("own", "8xh100", "--set", "staff_usd_per_year=100000")
    assert code == 0
    (said,) = re.findall(r"owned for 5 years.*?staff and space [0-9.]+", " ".join(out.split()))
    whole, *parts = (float(number) for number in re.findall(r"[0-9]+\.[0-9]+", said))
    assert len(parts) == 6
    assert whole == pytest.approx(sum(parts), abs=0.04)
    assert parts[-1] == pytest.approx(100_000 / (8 * 8766 * 0.85), abs=0.005)


@pytest.mark.parametrize("rent", [None, 2.5])
def test_every_price_says_what_it_rests_on(eight: Cluster, rent: float | None) -> None:
    found = holding(eight, rent_usd_per_gpu_hour=rent, preemption_mtbf_s=86_400.0)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(holding_table(found))
    lines = {name: said for name, _, said in (line.strip().partition(": ") for line in console.export_text().splitlines())}
    priced = [way.name for way in found.ways if way.price is not None]
    assert len(priced) == 4
    assert all(lines[name] and not lines[name].endswith((";", ",")) for name in priced)
    assert rent is None or lines["on-demand"] == "$2.50, as given"
