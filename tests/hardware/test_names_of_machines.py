"""Machines by the names that drivers, clouds and people give them: the one meant, or a question, never a cousin."""

from __future__ import annotations

import pytest

from planner.common.errors import PlannerError
from planner.hardware.asked import cluster_table
from planner.hardware.cluster import accelerator_names, load_accelerator, load_node, node_names
from planner.hardware.spellings import words_of

MEANT = {
    # nvidia-smi and rocm-smi
    "NVIDIA A100-SXM4-80GB": "a100-sxm4-80gb", "NVIDIA A100 80GB PCIe": "a100-pcie-80gb",
    "NVIDIA H100 80GB HBM3": "h100-sxm5-80gb",
    "NVIDIA GeForce RTX 3090": "rtx-3090-24gb", "NVIDIA GeForce RTX 4090 D": "rtx-4090-d-24gb", "NVIDIA L40S": "l40s",
    "NVIDIA B200": "b200-sxm-180gb", "NVIDIA GB200": "gb200-186gb", "Tesla T4": "t4", "Tesla V100-SXM2-32GB": "v100-sxm2-32gb",
    "AMD Instinct MI300X": "mi300x-192gb", "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada", "NVIDIA H100 NVL": "h100-nvl-94gb",
    # labels of clusters
    "nvidia-l4": "l4", "nvidia-h100-80gb": "h100-sxm5-80gb", "H100-80GB-HBM3": "h100-sxm5-80gb",
    # what people write
    "B200 192GB": "b200-sxm-180gb", "L40S-48G": "l40s", "a100 40g pcie": "a100-pcie-40gb", "RTX2080Ti": "rtx-2080-ti",
    "MI300X OAM": "mi300x-192gb", "Intel Gaudi2": "gaudi2-96gb", "昇腾910B": "ascend-910b-64gb", "H100 94GB": "h100-nvl-94gb",
    "rtx4090 24gb": "rtx-4090-24gb", "Vera Rubin": "rubin-288gb", "trn3": "trainium3-144gb", "TPU8t": "tpu-8t-216gb",
}  # fmt: skip
SERVERS = {
    "a3-ultra": "a3-ultragpu-8g", "gcp a3-mega": "a3-megagpu-8g", "ND H200 v5": "standard-nd96isr-h200-v5",
    "azure ND A100 v4": "standard-nd96asr-v4", "ml.p5.48xlarge": "p5-48xlarge", "CloudMatrix384": "cloudmatrix-384",
    "p4d": "p4d-24xlarge", "p5en": "p5en-48xlarge", "ND96isr_H100_v5": "standard-nd96isr-h100-v5", "HGX B200": "dgx-b200",
    "gpu_8x_h100_sxm5": "lambda-gpu-8x-h100-sxm5", "NC24ads_A100_v4": "standard-nc24ads-a100-v4",
}  # fmt: skip
COUNTED = ["8xh100", "8 x H100", "8×H100", "8*H100", "8 H100", "H100:8", "H100 x8", "h100x8"]
NOT_MEANT = [
    ("RTX 3080 Laptop GPU", "no profile"), ("RTX 2070", "no profile"), ("2070", "no such GPU"), ("4090 48GB", "no profile"),
    ("Tesla P100-PCIE-16GB", "no profile"), ("A100 96GB", "no such GPU"), ("RTX 6000", "means any of"), ("V100", "means any of"),
    ("H100 MEGA", "no such GPU"), ("p5", "means any of"), ("8*A100", "means any of"), ("h1000", "no such GPU"),
    ("-- gb", "no such GPU"),
]  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_the_card_that_a_name_means(name: str) -> None:
    assert load_accelerator(cluster_table(name)["accelerator"]).name == MEANT[name]


@pytest.mark.parametrize("name", SERVERS)
def test_the_server_that_a_name_means(name: str) -> None:
    asked = cluster_table(name)["node"]
    assert asked == SERVERS[name] or words_of(asked) == words_of(name)


@pytest.mark.parametrize("text", COUNTED)
def test_a_number_and_a_name_in_any_order(text: str) -> None:
    assert cluster_table(text) == {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}


@pytest.mark.parametrize(("name", "why"), NOT_MEANT)
def test_a_name_that_means_no_one_card_is_a_question(name: str, why: str) -> None:
    with pytest.raises(PlannerError, match=why):
        cluster_table(name)


def test_every_name_of_the_catalog_means_itself() -> None:
    """With its maker in front, in capitals and with spaces: no card of the catalog hides another."""
    for stem in accelerator_names():
        card = load_accelerator(stem)
        maker = card.vendor if stem != "cpu" else ""
        for name in (stem, f"{maker} {stem.replace('-', ' ').upper()}", *card.aliases):
            asked = cluster_table(name)
            of_a_server = load_node(asked["node"]).accelerator if "node" in asked else stem
            assert load_accelerator(asked.get("accelerator", of_a_server)).name == stem, name
    for stem in node_names():
        assert cluster_table(stem) == {"node": stem}
