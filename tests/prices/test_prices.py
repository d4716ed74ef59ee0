"""Tables of prices: what is refused, line by line; imports and refreshes change everything or nothing."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from planner.cli.main import main
from planner.common.errors import PlannerError
from planner.prices.currency import exchange_rates
from planner.prices.market import find_price
from planner.prices.price import load_prices
from planner.prices.price_tables import accelerator_of_offer, import_prices, read_quotes, refresh_prices

TODAY = datetime.date(2026, 11, 21)
HEADER = "provider,item,accelerator,term,region,usd_per_gpu_hour,date,source\n"
GOOD = HEADER + "Acme,big,h100-sxm5-80gb,on-demand,moon,2.5,2026-11-01,acme.example/prices\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_import_joins_the_catalog_and_may_be_repeated(tmp_path: Path, own_prices: Path) -> None:
    shipped = len(load_prices())
    first = import_prices(write(tmp_path / "a.csv", GOOD), TODAY)
    assert (first.new, first.replaced, first.total, first.path) == (1, 0, 1, own_prices)
    assert find_price("h100-sxm5-80gb", provider="Acme", region="moon").usd_per_gpu_hour == 2.5
    again = import_prices(write(tmp_path / "a.csv", GOOD.replace("2.5", "2.25")), TODAY)
    assert (again.new, again.replaced, again.total) == (0, 1, 1)
    assert find_price("h100-sxm5-80gb", provider="Acme").usd_per_gpu_hour == 2.25
    assert len(load_prices()) == shipped + 1
    assert [p.name for p in own_prices.parent.iterdir()] == ["prices.csv"]


def test_an_import_makes_the_folders_of_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "not" / "yet" / "prices.csv"
    monkeypatch.setenv("PLANNER_PRICES", str(own))
    for new in (1, 0):
        load_prices.cache_clear()
        assert import_prices(write(tmp_path / "a.csv", GOOD), TODAY).new == new
    assert own.exists()


def test_other_currencies_are_read_at_the_catalogs_rate_or_at_ones_own(tmp_path: Path) -> None:
    head = "provider,accelerator,term,price_per_gpu_hour,currency,usd_per_currency_unit,date,source\n"
    text = head + "A,t4,spot,2,EUR,1.1,2026,x\nB,t4,spot,2,USD,,2026-05,x\n"
    text += "C,t4,spot,2,EUR,,2026-05,x\n"
    rates = exchange_rates()
    assert [q.usd_per_gpu_hour for q in read_quotes(write(tmp_path / "a.csv", text), TODAY)] == [
        pytest.approx(2.2),
        2.0,
        pytest.approx(2 * rates["EUR"].usd_per_unit),
    ]
    bad = head + "A,t4,spot,2,,,2026,x\nB,t4,spot,2,EURO,,2026,x\nC,t4,spot,2,USD,,2026,x\n"
    with pytest.raises(PlannerError) as caught:
        read_quotes(write(tmp_path / "b.csv", bad), TODAY)
    assert "line 2: currency is missing" in str(caught.value)
    assert "line 3: currency = 'EURO': no rate is known; did you mean EUR" in str(caught.value)
    assert "line 4" not in str(caught.value)


BAD = {
    "negative": (("2.5", "-2.5"), "line 2: usd_per_gpu_hour = -2.5"),
    "zero": (("2.5", "0"), "line 2: usd_per_gpu_hour = 0"),
    "not a number": (("2.5", "cheap"), "line 2: usd_per_gpu_hour = 'cheap'"),
    "nan": (("2.5", "nan"), "line 2: usd_per_gpu_hour = nan"),
    "future": (("2026-11-01", "2027-01-01"), "line 2: date = 2027-01-01: lies in the future"),
    "no such day": (("2026-11-01", "2026-02-30"), "line 2: date = '2026-02-30'"),
    "american date": (("2026-11-01", "11/01/2026"), "line 2: date = '11/01/2026'"),
    "no date": (("2026-11-01", ""), "line 2: date is empty"),
    "no source": (("acme.example/prices", ""), "line 2: source is empty"),
    "unknown accelerator": (("h100-sxm5-80gb", "h100"), "line 2: accelerator = 'h100'"),
    "unknown term": (("on-demand", "ondemand"), "line 2: term = 'ondemand'"),
    "unknown column": (("region", "regoin"), "did you mean region"),
    "missing column": ((",source", ""), "column source is missing"),
    "no price column": (("usd_per_gpu_hour", "notes"), "has no price"),
    "only a header": (("Acme,big,h100-sxm5-80gb,on-demand,moon,2.5,2026-11-01,acme.example/prices\n", ""), "only a header"),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_bad_files_are_refused_by_line_and_change_nothing(what: str, tmp_path: Path, own_prices: Path) -> None:
    (old, new), named = BAD[what]
    assert old in GOOD
    before = load_prices()
    with pytest.raises(PlannerError) as caught:
        import_prices(write(tmp_path / "bad.csv", GOOD.replace(old, new)), TODAY)
    assert named in str(caught.value)
    assert not own_prices.exists()
    assert load_prices() == before


def test_a_quote_given_twice_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(PlannerError, match="line 3: the same quote as line 2"):
        read_quotes(write(tmp_path / "a.csv", GOOD + GOOD.splitlines()[1].replace("2.5", "9") + "\n"), TODAY)


def test_a_broken_own_table_is_explained(own_prices: Path) -> None:
    own_prices.parent.mkdir()
    own_prices.write_text("nonsense\n1\n")
    load_prices.cache_clear()
    with pytest.raises(PlannerError, match="not a table of prices"):
        load_prices()


def offer(**changes: Any) -> SimpleNamespace:
    fields = {
        "provider": "aws",
        "instance_name": "p5.48xlarge",
        "location": "us-east-1",
        "price": 55.04,
        "gpu_count": 8,
        "gpu_name": "H100",
        "gpu_memory": 80.0,
        "spot": False,
    }
    return SimpleNamespace(**{**fields, **changes})


class FakeCatalog:
    offers: tuple[SimpleNamespace, ...] = ()
    error: Exception | None = None

    def __init__(self, **_: Any) -> None: ...

    def load(self) -> None:
        if self.error is not None:
            raise self.error

    def query(self, **_: Any) -> list[SimpleNamespace]:
        return list(self.offers)


def test_refresh_takes_what_is_clear_and_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCatalog.error = None
    FakeCatalog.offers = (offer(), offer(spot=True, price=20.0), offer(instance_name="unclear"), offer(gpu_name="Radeon"))
    monkeypatch.setitem(sys.modules, "gpuhunt", SimpleNamespace(Catalog=FakeCatalog))
    done, left_out = refresh_prices(TODAY)
    assert (done.new, done.total, left_out) == (2, 2, 2)
    price = find_price("h100-sxm5-80gb", provider="aws", region="us-east-1")
    assert (price.usd_per_gpu_hour, price.date) == (6.88, "2026-11-21")
    assert find_price("h100-sxm5-80gb", term="spot", provider="aws", region="us-east-1").usd_per_gpu_hour == 2.5


@pytest.mark.parametrize("reason", ["no network", "not installed", "empty"])
def test_a_failed_refresh_keeps_the_old_table(
    reason: str, tmp_path: Path, own_prices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_prices(write(tmp_path / "a.csv", GOOD), TODAY)
    before = own_prices.read_bytes()
    FakeCatalog.error = ConnectionError("Name or service not known") if reason == "no network" else None
    FakeCatalog.offers = ()
    module = None if reason == "not installed" else SimpleNamespace(Catalog=FakeCatalog)
    monkeypatch.setitem(sys.modules, "gpuhunt", module)
    with pytest.raises(PlannerError, match="price table is unchanged"):
        refresh_prices(TODAY)
    assert own_prices.read_bytes() == before


def test_boards_are_never_guessed() -> None:
    assert accelerator_of_offer("A100", 80, "a2-ultragpu-1g") == "a100-sxm4-80gb"
    assert accelerator_of_offer("A100", 80, "Standard_NC24ads_A100_v4") == "a100-pcie-80gb"
    assert accelerator_of_offer("A100", 80, "gpu.large") is None
    assert accelerator_of_offer("RTX3070", 8, "any") == "rtx-3070-8gb"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["planner", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code


def test_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(monkeypatch, "prices", "show", "rtx-3070-8gb", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert {q["accelerator"] for q in shown["rent"]} == {"rtx-3070-8gb"}
    assert all(q["stale"] and q["age_days"] > 90 and q["source"] for q in shown["rent"])
    assert shown["purchase"][0]["usd_per_gpu"] == 499.0
    run(monkeypatch, "prices", "import", str(write(tmp_path / "a.csv", GOOD)))
    assert "1 new quotes" in capsys.readouterr().out
    run(monkeypatch, "prices", "list", "--provider", "Acme", "--json")
    assert len(json.loads(capsys.readouterr().out)["rent"]) == 1
    run(monkeypatch, "prices", "list", "--term", "spot")
    table = capsys.readouterr().out
    assert "stale" in table
    assert "h200-sxm-141gb" in table
