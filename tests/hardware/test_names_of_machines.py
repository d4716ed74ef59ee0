"""Machines by the names that drivers, clouds and people give them: the one meant, or a question, never a cousin."""

from __future__ import annotations

import re

import pytest
from command_line import Run

from planner.common.data import PROFILES
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.hardware.asked import cluster_table, lenders
from planner.hardware.cluster import accelerator_names, known_names, load_accelerator, load_node, named, node_names
from planner.hardware.spellings import words_of
from planner.layout_search.question import _clusters
from planner.prices.price import load_prices
from planner.workload.resolve import as_cluster

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
    "Tesla P100-PCIE-16GB": "p100-pcie-16gb", "2070": "rtx-2070-8gb", "RTX 2070 Super": "rtx-2070-super-8gb", "P40": "p40-24gb",
    "RTX 4060 Ti": "rtx-4060-ti-16gb", "RTX 4060 Ti 8GB": "rtx-4060-ti-8gb", "RTX 3080": "rtx-3080-10gb",
    "V100S": "v100s-pcie-32gb", "RTX 3080 12GB": "rtx-3080-12gb", "RTX 3060": "rtx-3060-12gb",
    "NVIDIA A16": "a16-gpu-16gb", "MI210": "mi210-64gb",
    # shops and clouds in China
    "4090D": "rtx-4090-d-24gb", "A800 80G": "a800-sxm4-80gb", "4080S": "rtx-4080-super-16gb", "4070TiS": "rtx-4070-ti-super",
    "H20 NVLink": "h20-96gb", "H800 80G SXM": "h800-sxm5-80gb", "V100 32G NVLink": "v100-sxm2-32gb",
    "RTX PRO 6000 SE": "rtx-pro-6000-blackwell-server", "H200 PCIe": "h200-nvl-141gb", "GH200 624GB": "gh200-144gb",
    "AMD Instinct MI300X VF": "mi300x-192gb", "TPU v5 lite": "tpu-v5e-16gb", "Mac Studio M3 Ultra": "apple-m3-ultra-512gb",
    "MacBook Pro M4 Max": "apple-m4-max-128gb", "Mac mini M4 Pro": "apple-m4-pro-64gb", "Mac Studio M4 Max": "apple-m4-max-128gb",
}  # fmt: skip
SERVERS = {
    "a3-ultra": "a3-ultragpu-8g", "gcp a3-mega": "a3-megagpu-8g", "ND H200 v5": "standard-nd96isr-h200-v5",
    "azure ND A100 v4": "standard-nd96asr-v4", "ml.p5.48xlarge": "p5-48xlarge", "ml.g6e.48xlarge": "g6e-48xlarge",
    "CloudMatrix384": "cloudmatrix-384",
    "ecs.gn7i-c8g1.2xlarge": "ecs-gn7i-c8g1-2xlarge", "ecs.gn7e-c16g1.32xlarge": "ecs-gn7e-c16g1-32xlarge",
    "ecs.ebmgn8is.32xlarge": "ecs-ebmgn8is-32xlarge", "ecs.gn8v-8x.48xlarge": "ecs-gn8v-8x-48xlarge",
    "GN10Xp.20XLARGE320": "tencent-gn10xp-20xlarge320", "PNV4.7XLARGE116": "tencent-pnv4-7xlarge116",
    "GT4.41XLARGE948": "tencent-gt4-41xlarge948", "p2s.16xlarge.8": "huawei-p2s-16xlarge-8",
    "ml.hpcpni2l.28xlarge": "volcengine-hpcpni2l", "ml.hpcpni3ln.45xlarge": "volcengine-hpcpni3ln",
    "kat2ne.48xlarge.8": "atlas-800t-a2",
    "p4d": "p4d-24xlarge", "p5en": "p5en-48xlarge", "ND96isr_H100_v5": "standard-nd96isr-h100-v5", "HGX B200": "dgx-b200",
    "gpu_8x_h100_sxm5": "lambda-gpu-8x-h100-sxm5", "NC24ads_A100_v4": "standard-nc24ads-a100-v4",
}  # fmt: skip
COUNTED = ["8xh100", "8 x H100", "8×H100", "8*H100", "8 H100", "H100:8", "H100 x8", "h100x8"]
NOT_MEANT = [
    ("RTX 3050 Laptop GPU", "no profile"), ("GTX 1660", "no profile"), ("2050", "no such GPU"), ("4090 48GB", "no profile"),
    ("Tesla K80", "no profile"), ("P100 16GB", "means any of"), ("A100 96GB", "no such GPU"), ("RTX 6000", "means any of"),
    ("V100", "means any of"), ("H100 MEGA", "no such GPU"), ("p5", "means any of"), ("8*A100", "means any of"),
    ("5090D", "no profile"), ("H20-3e", "no profile"), ("昇腾910B3", "no profile"), ("PNV5b.8XLARGE96", "no profile"),
    ("7900 XTX", "no profile"), ("Groq LPU", "no profile"), ("Cambricon MLU590", "no profile"), ("MacBook Air M3", "no profile"),
    ("h1000", "no such GPU"), ("-- gb", "no such GPU"),
]  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_the_card_that_a_name_means(name: str) -> None:
    assert load_accelerator(cluster_table(name)["accelerator"]).name == MEANT[name]


@pytest.mark.parametrize("name", SERVERS)
def test_the_server_that_a_name_means(name: str) -> None:
    asked = cluster_table(name)["node"]
    assert asked == SERVERS[name] or words_of(asked) == words_of(name)
    assert as_cluster({"node": name}).node.name == SERVERS[name]


@pytest.mark.parametrize("text", COUNTED)
def test_a_number_and_a_name_in_any_order(text: str) -> None:
    assert cluster_table(text) == {"accelerator": "h100-sxm5-80gb", "num_gpus": 8}


@pytest.mark.parametrize("name", MEANT)
def test_a_table_and_a_list_of_accelerators_read_a_name_as_on_does(name: str) -> None:
    assert as_cluster({"accelerator": name, "num_gpus": 1}).accelerator.name == MEANT[name]
    assert [one.accelerator.name for one in _clusters(as_cluster("1xh100"), None, [name])] == [MEANT[name]]


@pytest.mark.parametrize(("name", "why"), [(name, why) for name, why in NOT_MEANT if name not in ("p5", "8*A100")])
def test_a_table_says_what_a_name_may_mean(name: str, why: str) -> None:
    with pytest.raises(PlannerError, match=rf"cluster.accelerator = .*{'means any of' if why == 'means any of' else 'is'}"):
        as_cluster({"accelerator": name, "num_gpus": 1})


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
        each = load_node(stem).nodes_meant(stem)
        assert cluster_table(stem) == ({"node": stem} if each == 1 else {"node": stem, "num_nodes": each})


def test_a_name_of_what_one_link_joins_counts_those() -> None:
    """NVL72 is 72 GPUs, as its maker names it, not a tray of them; nodes are counted as nodes."""
    for text, gpus in (
        ("gb200-nvl72", 72), ("2xGB300 NVL72", 144), ("4 x DGX GB200", 288), ("Vera Rubin NVL144", 72), ("helios", 72),
        ("CloudMatrix 384", 384), ("Trn3 UltraServer", 144), ("18 nodes of gb200-nvl72", 72), ("2 nodes of DGX GB300", 8),
        ("u-p6e-gb200x72", 72), ("2 x u-p6e-gb200x72", 144), ("3 nodes of u-p6e-gb200x72", 12), ("p6e-gb200.36xlarge", 4),
    ):  # fmt: skip
        assert as_cluster(text).num_gpus == gpus, text
    node = load_node("dgx-h100")
    with pytest.raises(PlannerError, match="widest link joins 8 GPUs, which are not several whole nodes of 8"):
        node.replaced(named_after_domain=True)
    with pytest.raises(PlannerError, match="domain_aliases: NVL8 is none of its aliases"):
        node.replaced(domain_aliases=("NVL8",))


def test_a_name_that_ends_with_a_number_of_gpus_means_as_many() -> None:
    """u-p6e-gb200x72: a vendor's name counts the GPUs that it means; NVL144 counts dies."""
    for stem in node_names():
        for name in (stem, *load_node(stem).aliases):
            counted = re.search(r"\db?x(\d+)$", name.lower())
            if counted is not None:
                assert as_cluster(name).num_gpus == int(counted[1]), name


@pytest.mark.parametrize("name", [name for name in node_names() if load_node(name).domain_names])
def test_what_a_name_means_after_on_and_in_a_file_stands_where_the_node_is_shown(name: str, run: Run) -> None:
    shown = " ".join(run("hardware", "show", name)[1].split())
    for meant in load_node(name).domain_names:
        for text in (f"--on {meant}", "--on '1 node of " + meant + "'"):
            assert text in shown
            assert f"{as_cluster(text.removeprefix('--on ').strip(chr(39))).num_gpus} GPUs" in shown
    assert as_cluster({"node": name, "num_nodes": 1}).num_gpus == load_node(name).num_gpus
    assert "--on" not in run("hardware", "show", "dgx-h100")[1]


def test_what_a_driver_prints_means_its_card_after_on_too() -> None:
    for name, profile in read_table(PROFILES / "driver_names.toml")["known"].items():
        asked = cluster_table(name)
        found = load_node(asked["node"]).accelerator if "node" in asked else load_accelerator(asked["accelerator"]).name
        assert found == profile, name


def test_a_node_is_found_by_its_name_with_dots_as_its_cloud_writes_it() -> None:
    """AWS: p6-b300.48xlarge; Alibaba: ecs.ebmgn8v; Oracle: BM.GPU.H100.8."""
    for name in (name for name in node_names() if not name.startswith("workstation-")):  # boxes, named by their card
        for dotted in (name.replace("-", "."), ".".join(name.rsplit("-", 1)), name.replace("-", ".", 1)):
            assert load_node(dotted).name == name, dotted


SIZE = re.compile(r"\d*x?large\d*|\bc\d+g\d+\b|-\d+x\b")
"""What a cloud's name of a machine says of its size: 8xlarge, LARGE56, c8g1 (CPUs a GPU), 4x (GPUs)."""


def test_the_names_of_one_node_are_of_one_size() -> None:
    """Machines of another size have other CPUs, memory and network: a file of their own."""
    for stem, aliases, _ in named("nodes"):
        sizes = {tuple(SIZE.findall(name.lower())) for name in (stem, *aliases)} - {()}
        assert len(sizes) <= 1, (stem, aliases)


def test_sizes_of_one_type_are_as_their_cloud_states_them() -> None:
    """Alibaba Cloud's help page; Tencent Cloud, document 560/19700: CPUs, GiB, Gbit/s."""
    stated = {
        "ecs.gn7i-c8g1.2xlarge": (8, 30, 16),
        "ecs.gn6i-c4g1.xlarge": (4, 15, 4),
        "GN7.2XLARGE32": (8, 32, 3),
        "GN7.8XLARGE128": (32, 128, 10),
    }
    for name, (cores, gib, gbit) in stated.items():
        node = load_node(name)
        assert (node.num_cpu_cores, node.host_memory_bytes / 2**30) == (cores, gib)
        assert node.links[-1].bytes_per_s * node.num_gpus * 8 == gbit * 1e9


def test_an_alias_stands_once() -> None:
    for folder in ("accelerators", "nodes"):
        for stem, aliases, _ in named(folder):
            assert len({alias.lower() for alias in aliases}) == len(aliases), stem


def test_a_name_without_a_profile_is_sent_to_its_siblings() -> None:
    """A name that begins with the number of a card of the catalog (5090, a800): such a card is among those to begin with."""
    cards = {stem: set(words_of(stem)) for stem in accelerator_names()}
    for known in read_table(PROFILES / "known.toml")["known"]:
        for name in known["names"]:
            words = words_of(name)
            number = next((word for word in words if word not in ("rtx", "gtx", "quadro")), "")
            siblings = {stem for stem, theirs in cards.items() if re.fullmatch(r"[a-z]{0,2}\d{2,4}", number) and number in theirs}
            if siblings and "laptop" not in words:
                assert siblings & set(known["near"]), (name, known["near"])


@pytest.mark.parametrize("text", ["2台h100", "2 servers h100", "2 nodes h100", "2 nodes of H100", "2个节点 h100"])
def test_machines_without_a_number_of_gpus_are_a_question(text: str) -> None:
    with pytest.raises(PlannerError, match=r"how many GPUs has each node.*2x8xh100-sxm5-80gb"):
        cluster_table(text)


@pytest.mark.parametrize("text", ["2台dgx-h100", "2 nodes of dgx-h100", "2 servers DGX H100"])
def test_machines_of_a_type_are_as_many_nodes(text: str) -> None:
    assert load_node(cluster_table(text)["node"]).name == "dgx-h100"
    assert cluster_table(text)["num_nodes"] == 2


@pytest.mark.parametrize("text", ["2x8xa100", "2x8xv100", "2 个节点 8 卡 a100", "2 nodes of 8 a100"])
def test_boxes_of_a_name_that_means_several_are_a_question(text: str) -> None:
    with pytest.raises(PlannerError, match="means any of"):
        cluster_table(text)
    assert cluster_table("2 x 3090 ti") == {"accelerator": "rtx-3090-ti-24gb", "num_gpus": 2}


@pytest.mark.parametrize(
    ("written", "accelerator", "chips"),
    [
        ("v5p-128", "tpu-v5p-95gb", 64),  # TensorCores, two a chip
        ("TPU v6e-256", "tpu-v6e-32gb", 256),
        ("v5litepod-64", "tpu-v5e-16gb", 64),
    ],
)
def test_a_slice_of_tpus_by_google_s_name(written: str, accelerator: str, chips: int) -> None:
    assert cluster_table(written) == {"accelerator": accelerator, "num_gpus": chips}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colab", "t4, l4, a100-40gb"),
        ("Kaggle", "t4, 2xt4, p100"),
        ("runpod", "rtx-4090"),
        ("runpod 4090", "there: 4090"),
        ("azure", "h100"),
    ],
)
def test_a_service_that_rents_gpus_is_no_gpu(text: str, named: str) -> None:
    """None is answered with a machine of its own that nobody named; what is proposed is known."""
    with pytest.raises(PlannerError, match=named):
        cluster_table(text)


def test_what_is_proposed_in_a_services_place_is_known() -> None:
    for cards in lenders().values():
        for card in cards:
            assert cluster_table(card)


def test_what_a_service_is_said_to_have_it_is_quoted_with() -> None:
    """By its quotes in the catalog's price list; where that has none, a source and a date stand beside it."""
    quoted: dict[str, set[str]] = {}
    for quote in load_prices():
        quoted.setdefault(quote.provider, set()).add(quote.accelerator)
    for lender in known_names("lender"):
        if "provider" not in lender:
            assert lender["source"]
            assert lender["date"]
            continue
        for card in lender["usual"]:
            assert cluster_table(card)["accelerator"] in quoted[lender["provider"]], (lender["provider"], card)
