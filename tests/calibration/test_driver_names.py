"""Names that drivers give to cards, each as nvidia-smi or rocm-smi prints it, and the profile that must answer."""

from __future__ import annotations

import pytest

from planner.calibration.driver_names import _names, known_accelerator, named
from planner.common.errors import PlannerError
from planner.hardware.asked import accelerator_named
from planner.hardware.cluster import accelerator_names, load_accelerator


@pytest.mark.parametrize(
    ("device", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm4-40gb"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32gb"),
        ("Tesla V100-PCIE-16GB", "v100-pcie-16gb"),
        ("NVIDIA GeForce RTX 3070", "rtx-3070-8gb"),
        ("NVIDIA H200", "h200-sxm-141gb"),
        ("AMD Instinct MI300X OAM", "mi300x-192gb"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm-270gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("nvidia  geforce rtx 4090", "rtx-4090-24gb"),
        ("NVIDIA H200 NVL", "h200-nvl-141gb"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("NVIDIA GeForce RTX 3070 Ti", "rtx-3070-ti-8gb"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-4090-laptop-16gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-blackwell-server"),
        ("AMD Instinct MI325X", "mi325x-256gb"),
    ],
)
def test_a_drivers_name_finds_its_profile(device: str, profile: str) -> None:
    assert known_accelerator(device) == profile
    assert load_accelerator(profile).name == profile


@pytest.mark.parametrize(
    ("device", "near"),
    [
        ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", "rtx-3070-8gb"), ("NVIDIA RTX A5000 Laptop GPU", "rtx-a5000"),
        ("NVIDIA A100-SXM-64GB", "a100"), ("NVIDIA GeForce RTX 4090 Super Laptop GPU", "rtx-4090-24gb"),
    ],
)  # fmt: skip
def test_an_unknown_card_is_no_other_but_the_nearest_are_named(device: str, near: str) -> None:
    """A laptop's or another memory's card has other clocks: it is never taken for the one that it is named after."""
    found = named(device)
    assert found.profile is None
    assert any(name.startswith(near) for name in found.near)


@pytest.mark.parametrize("device", ["NVIDIA A100-SXM4-40GB MIG 3g.20gb", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"])
def test_a_slice_is_of_the_card_that_it_is_cut_from(device: str) -> None:
    found = named(device)
    assert found.is_slice
    assert found.profile == known_accelerator(device.split(" MIG")[0])


@pytest.mark.parametrize("device", ["AMD EPYC", "NVIDIA", "Some GPU 9999"])
def test_a_stranger_has_no_profile(device: str) -> None:
    assert known_accelerator(device) is None


def test_every_profile_of_the_table_exists() -> None:
    known, unknown = _names()
    for name in {*known.values(), *(n for some in unknown.values() for n in some)}:
        try:
            load_accelerator(name)
        except PlannerError as error:
            pytest.fail(str(error))
    assert not known.keys() & unknown.keys()


def test_no_card_of_the_catalog_is_called_unknown() -> None:
    """A name of [unknown] whose card gets a profile leaves the table: what --on takes, a record of that card takes."""
    for name in _names()[1]:
        with pytest.raises(PlannerError):
            accelerator_named(name)


@pytest.mark.parametrize(
    ("device", "gib", "profile"),
    [
        ("NVIDIA GeForce RTX 4060 Ti", 7.996, "rtx-4060-ti-8gb"), ("NVIDIA GeForce RTX 4060 Ti", 15.996, "rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 3060", 11.76, "rtx-3060-12gb"), ("NVIDIA GeForce RTX 3060", 8.0, "rtx-3060-8gb"),
        ("NVIDIA RTX A2000", 5.99, "rtx-a2000-6gb"), ("NVIDIA RTX A2000 12GB", 11.99, "rtx-a2000-12gb"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16.0, None), ("NVIDIA GeForce RTX 2060", 12.0, None),
        ("NVIDIA A2", 14.99, "a2-16gb"), ("Tesla V100-SXM2-32GB", 31.75, "v100-sxm2-32gb"),
    ],
)  # fmt: skip
def test_cards_of_one_name_are_told_apart_by_their_memory(device: str, gib: float, profile: str | None) -> None:
    found = named(device, gib * 2**30)
    assert found.profile == profile
    assert found.profile or found.near


def test_every_card_is_found_by_its_own_aliases_and_memory() -> None:
    for stem in accelerator_names():
        card = load_accelerator(stem)
        for alias in card.aliases:
            if named(alias).profile:
                assert named(alias, card.memory_bytes).profile == stem, alias


def test_of_many_cards_with_a_number_three_are_named() -> None:
    assert sum("h100" in name.split("-") for name in accelerator_names()) > 3
    assert len(named("NVIDIA H100 Laptop GPU").near) == 3


def test_a_whole_card_is_no_slice() -> None:
    """Whether its memory is known or not; of a slice's the card's is none."""
    assert [named("NVIDIA H200", memory).is_slice for memory in (None, 150e9)] == [False, False]
    assert named("NVIDIA H200 MIG 1g.18gb", 18e9).profile == "h200-sxm-141gb"
