"""Two hundred mistakes: each ends with exit code 2 and one paragraph that names the field, the value and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import GOOD, Run

from planner.cli.main import COMMANDS
from planner.scenarios.fields import table_fields

Mistake = tuple[tuple[str, ...], tuple[str, ...]]
"""(what is typed, what must be said)."""
ASKED = ("gpt2", "--on", "rtx-4090")
ALSO = {"framework": ("--framework", "fsdp"), "cost": ("--tokens", "1M")}
"""What a question needs before a table is read."""
TYPED = {"job": "plan", "layout": "plan", "cluster": "plan", "price": "plan", "run": "run", "cost": "run", "framework": "plan"}
SKIPPED = {"framework": 40}
"""Of a table of many fields the first so many are enough."""


def without_a_letter(name: str) -> str:
    """A typo: the last letter but one is lost."""
    return name[:-2] + name[-1]


def misspelt_fields() -> list[Mistake]:
    """A letter is lost in the name of a field: the name that is meant is said, and the value."""
    found: list[Mistake] = []
    for table, command in TYPED.items():
        names = [field.name for field in table_fields(table) if len(field.name) > 5][: SKIPPED.get(table)]
        for name in names:
            wrong = without_a_letter(name)
            if wrong not in names:
                found.append(((command, *ASKED, *ALSO.get(table, ()), "--set", f"{table}.{wrong}=77"), (wrong, name)))
    return found


def wrong_types() -> list[Mistake]:
    """Text where a number is needed, a number where a choice is."""
    found: list[Mistake] = []
    for table in ("job", "layout", "cluster"):
        for field in table_fields(table):
            if field.type.startswith(("whole number", "number")):
                found.append((("plan", *ASKED, "--set", f"{table}.{field.name}=many"), (field.name, "many")))
            elif field.type.startswith("one of"):
                found.append((("plan", *ASKED, "--set", f"{table}.{field.name}=blue"), (field.name, "blue")))
    return found


def beyond_the_range() -> list[Mistake]:
    """Zero, negative, too large."""
    found: list[Mistake] = []
    for table in ("job", "layout"):
        for field in table_fields(table):
            if "above 0" in field.type:
                found.append((("plan", *ASKED, "--set", f"{table}.{field.name}=0"), (field.name, "0")))
    others = (
        ("layout.zero", "7"), ("job.routing_skew", "9"), ("job.expert_load", "0.5"), ("cluster.num_gpus", "0"),
        ("cluster.network_gbit_per_s", "1e9"), ("price.usd_per_gpu_hour", "nan"), ("price.other_use", "2"),
    )  # fmt: skip
    return [*found, *((("plan", *ASKED, "--set", f"{name}={value}"), (name.rpartition(".")[2],)) for name, value in others)]


QUANTITIES: list[Mistake] = [
    *(
        (("plan", *ASKED, "--tokens", value), ("--tokens", value, "100B"))
        for value in ("many", "1.5", "12Q", "1e", "", "10 apples", "-3")
    ),
    *((("plan", *ASKED, "--samples", value), ("--samples", value)) for value in ("ten", "0.5", "3kk")),
    *((("plan", *ASKED, "--seq-len", value), ("--seq-len", value, "4k")) for value in ("4q", "long", "4.0001k", "4GB")),
    *((("plan", *ASKED, "--batch", value), ("--batch", value)) for value in ("big", "1.2")),
    *(
        (("search", *ASKED, "--tokens", "1M", "--deadline", value), ("--deadline", value, "14d"))
        for value in ("14", "two weeks", "14 fortnights", "0d", "-1d", "soon")
    ),
    *((("search", *ASKED, "--gpus", value), ("--gpus", value, "8,16,32")) for value in ("eight", "8,,x", "0", "8;16", "1.5")),
    (("plan", *ASKED, "--set", "cluster.network_gbit_per_s=400Gb"), ("network_gbit_per_s", "400Gb")),
    (("run", *ASKED, "--set", "run.detection_s=5 moons"), ("detection_s", "5 moons")),
    (("run", *ASKED, "--set", "cost.dataset_bytes=4 apples"), ("dataset_bytes", "4 apples")),
]
MONEY: list[Mistake] = [
    *(
        (("run", *ASKED, "--tokens", "1M", "--set", f"{name}={value}"), (f"{name} = {value}", words))
        for name, value, words in (
            ("cost.tax_rate", "-0.1", "must be at least 0"),
            ("cost.tax_rate", "19", "less than 1"),
            ("run.spare_nodes", "-1", "must be at least 0"),
            ("cost.own.years", "0", "greater than 0"),
            ("price.usd_per_gpu_hour", "-2", "is negative; use a number of at least 0"),
            ("run.power_cap_w", "1", "rated"),
            ("cost.own.utilisation", "85", "at most 1"),
            ("price.other_use", "1.5", "from 0 to 1"),
        )
    ),
    (("run", *ASKED, "--tokens", "1M", "--set", "price.currency=EUR"), ("price.currency = 'EUR'", "price_per_gpu_hour")),
    (("run", *ASKED, "--tokens", "1M", "--focus", "nowhere/x.csv"), ("--focus nowhere/x.csv", "does not exist")),
    (("run", *ASKED, "--tokens", "1M", "--xlsx", "x.txt"), ("--xlsx x.txt", "ends in")),
    (("run", *ASKED, "--tokens", "1M", "--months", "."), ("--months .", "ends in")),
]
COMMAS_AND_RATES: list[Mistake] = [
    *(
        (("plan", *ASKED, "--set", f"price.usd_per_gpu_hour={value}"), ("price.usd_per_gpu_hour", value, "a number"))
        for value in ("1,99", "1,9", "1,99,999")
    ),
    (("plan", *ASKED, "--tokens", "1,5B"), ("--tokens", "1,5B", "100B")),
    (("plan", *ASKED, "--tokens", "10 亿亿"), ("--tokens", "100B")),
    *(
        (("plan", *ASKED, "--set", f"cluster.network_gbit_per_s={value}"), ("network_gbit_per_s", value, "400Gb/s"))
        for value in ("400d", "50 apples", "400Gb")
    ),
    *(
        (("search", *ASKED, "--tokens", "1M", "--budget-usd", value), ("--budget-usd", value, "10k"))
        for value in ("much", "10€", "1,00")
    ),
    (("own", "8xh100", "--rent", "two"), ("--rent", "two", "US dollars")),
    (("size", "gpt2", "--for", "serve", "--seq-len", "4q"), ("--seq-len", "4q", "4k")),
    (("size", "gpt2", "--for", "serve", "--tpot", "fast"), ("--tpot", "fast", "50ms")),
]
PLACES: list[Mistake] = [
    (("plan", "llama-3-8b", "8xh100"), ("8xh100", "planner plan llama-3-8b --on 8xh100")),
    (("plan", "h100", "llama-3-8b"), ("h100: GPUs", "planner plan llama-3-8b --on h100")),
    (("plan", "llama-3-8b", "8", "h100"), ("8 h100", "planner plan llama-3-8b --on '8 h100'")),
    (("plan", "llama", "3", "8b", "8xh100"), ("8xh100: GPUs", "planner plan 'llama 3 8b' --on 8xh100")),
    (("serve", "gpt2", "h100"), ("h100: GPUs", "planner serve gpt2 --on h100")),
    (("plan", "llama", "3", "8b", "--on", "8xh100"), ("a name with a blank", "'llama 3 8b'")),
    (("plan", "llama-3-8b", "--on", "8", "h100"), ("--on 8 h100", "--on 8xh100")),
    (("plan", "llama-3-8b", "--on", "8xh100", "--tokens", "100", "B"), ("a number and its unit", "100B")),
    (("serve", "llama-3-8b", "--on", "2", "l40s"), ("--on 2 l40s", "--on 2xl40s")),
    (("plan", "mixtral", "8x7b", "--on", "h100"), ("8x7b", "'mixtral 8x7b'")),
    (("plan", "gpt2", "gpt2-xl", "--on", "h100"), ("gpt2-xl", "planner compare")),
    (("serve", "gpt2", "gpt2-xl", "--on", "h100"), ("gpt2-xl", "--compare")),
    (("plan", *ASKED, "--deadline", "3d"), ("--deadline", "belongs to planner search")),
    (("serve", "gpt2", "--on", "h100", "--ttft", "1"), ("--ttft 1", "goes with --clients or --rate")),
    (("plan", "--model", "gpt2", "--on", "h100"), ("--model", "planner plan MODEL")),
    (("plan", *ASKED, "--clients", "4"), ("--clients", "belongs to planner serve")),
    (("serve", "gpt2", "--on", "l4", "--batch", "4", "--clients", "3"), ("--batch 4: clients = 3 says", "serving.max_batch=4")),
    (("export", *ASKED, "--to", "megatron", "--clients", "4"), ("--clients", "belongs to planner serve")),
    (("export", *ASKED, "--to", "vllm", "--clients", "4"), ("--clients", "--set serving.clients=")),
    (("search", "gpt2", "--gpus", "8", "--accelerator", "8xh100"), ("--accelerator 8xh100", "without a number: h100")),
    (("search", "gpt2", "--gpus", "8"), ("--gpus 8", "--accelerator h100")),
    (("search", "gpt2", "--accelerator", "h100"), ("--accelerator h100", "--gpus 8")),
    (("plan", *ASKED, "--lora-rank", "8"), ("--lora-rank", "--set job.adapter.rank=")),
    (("serve", "gpt2", "--on", "h100", "--tp", "2"), ("--tp", "--set serving.tp=")),
    (("plan", "scenarios/chatlaw2-moe.toml"), ("scenarios/chatlaw2-moe.toml", "chatlaw2-moe, without .toml")),
    (("plan", *ASKED, "--set", "cluster.gpus=2"), ("cluster: unknown field gpus = 2", "did you mean num_gpus?")),
    (("plan", *ASKED, "--set", "framework.optimizer=muon"), ("framework: unknown field optimizer", "job.optimizer")),
    (("plan", *ASKED, "--set", "price.usd_per_gpu_hour=2", "--set", "price.provider=AWS"), ("price.provider", "AWS", "alone")),
    (("sweep", *ASKED, "--vary", "seq_len=1,2"), ("--vary seq_len=1,2", "--vary job.seq_len=1,2")),
    (("export", "gpt2", "--on", "h100", "--to", "vllm", "--precision", "fp16"), ("--precision", "--to vllm serves")),
    (("export", "gpt2", "--to", "megatron"), ("gpt2", "--on 8xh100")),
    (("hardware", "show", "8xh100"), ("8xh100", "one type of GPU")),
    (("size", "gpt2"), ("'--for'", "serve, lora, qlora or full")),
    (("help",), ("help", "planner --help")),
    (("version",), ("version", "planner --version")),
]
SERVERS: list[Mistake] = [
    (("plan", *ASKED, "--framework", name), (name, f"planner serve --engine {name}")) for name in ("vllm", "sglang", "llama.cpp")
]
NAMES: list[Mistake] = [
    (("plan", "gpt", "--on", "h100"), ("gpt", "gpt2")),
    (("fit", "missing.csv", "runs.csv"), ("missing.csv", "cannot be read")),
    (("plan", *ASKED, "--layout", "tp2 xx3"), ("--layout", "xx3", "tp2 pp8")),
    (("plan", "mixtral-8x77b", "--on", "h100"), ("mixtral-8x77b", "mixtral-8x7b")),
    (("plan", "llama-3-8b"), ("llama-3-8b", "--on 8xh100")),
    (("plan", "llama3", "--on", "h100"), ("llama3", "may mean any of llama-3-70b, llama-3-8b")),
    (("plan", "Qwen/Qwen9-8B", "--on", "h100"), ("Qwen/Qwen9-8B", "qwen3-8b")),
    (("plan", "llama-3-8b", "--on", "0h100"), ("--on 0h100",)),
    (("plan", "llama-3-8b", "--on", "h100,a100"), ("--on h100,a100", "one type of GPU")),
    (("plan", *ASKED, "--tp", "2"), ("--tp", "--set layout.tp=")),
    (("plan", *ASKED, "--gradient-checkpointing", "full"), ("--gradient-checkpointing", "--set layout.recompute=")),
    (("plan", *ASKED, "--set", "tp=2"), ("--set tp=2", "layout.tp=2")),
    (("plan", *ASKED, "--set", "job.tp=2"), ("tp = 2", "layout.tp")),
    (("plan", *ASKED, "--set", "layout.zero_stage=2"), ("zero_stage = 2", "did you mean zero?")),
    (("plan", *ASKED, "--set", "job.learning_rate=2"), ("learning_rate", "neither memory nor time")),
    (("plan", *ASKED, "--set", "job.precision=bf61"), ("job.precision = 'bf61'", "did you mean 'bf16'?")),
    (("plan", *ASKED, "--set", "job.precision=float16"), ("job.precision = 'float16'", "did you mean 'fp16'?")),
    (("plan", *ASKED, "--set", "layout.recompute=true"), ("layout.recompute = True", "did you mean 'full'?")),
    (("plan", *ASKED, "--set", "run.mtbf=3h"), ("run", "mtbf", "node_mtbf_s")),
    (("plan", *ASKED, "--set", "cost.storage=3"), ("cost", "storage")),
    (("plan", *ASKED, "--price", "2.5xyz"), ("price.currency", "XYZ", "CNY")),
    (("plan", "llama-3-8b", "--on", "h100x0"), ("--on h100x0",)),
    (("plan", "llama-3-8b", "--on", "-3xh100"), ("--on -3xh100", "32xh100")),
    (("measure", "--budget", "5x"), ("--budget", "5x", "15m")),
    (("measure", "--budget", "-3m"), ("--budget", "-3m", "15m")),
    (("plan", "lama3", "--on", "h100"), ("lama3", "llama")),
    (("plan", "gpt2", "--on", "h1000"), ("--on h1000", "h100")),
    (("plan", "gpt2", "--on", "a100"), ("--on a100", "name one")),
    (("plan", "gpt2", "--on", "8x"), ("--on 8x",)),
    (("plan", "gpt2", "--on", "0xh100"), ("--on 0xh100", "32xh100")),
    (("plan", "gpt2", "--on", "mine.toml"), ("mine.toml", "no such file")),
    (("plan", "gpt2", "--on", "rtx 3071"), ("rtx 3071", "rtx-3070")),
    (("plan", *ASKED, "--framework", "megatron-cor"), ("megatron-cor", "megatron-core")),
    (("plan", *ASKED, "--framework", "verl"), ("framework.name", "verl", "megatron-core")),
    (("frameworks", "show", "trl"), ("trl", "peft", "huggingface")),
    (("plan", *ASKED, "--framework", "pytroch"), ("framework.name", "pytroch")),
    (("plan", *ASKED, "--precision", "int3"), ("precision", "int3", "bf16")),
    (("plan", *ASKED, "--price", "cheap"), ("price.term", "cheap", "on-demand")),
    (("plan", *ASKED, "--price", "-1"), ("price.usd_per_gpu_hour", "-1")),
    (("plan", *ASKED, "--set", "price.provider=Nobody"), ("provider", "Nobody")),
    (("plan", *ASKED, "--allow", "everything"), ("everything", "offload")),
    (("plan", *ASKED, "--risk", "2"), ("risk", "2")),
    (("plan", *ASKED, "--lora", "--qlora"), ("--lora", "--qlora", "give one")),
    (("plan", *ASKED, "--set", "model.name=gpt22"), ("gpt22", "gpt2")),
    (("plan", *ASKED, "--set", "layout=1"), ("--set layout=1", "TABLE.FIELD=VALUE")),
    (("plan", *ASKED, "--set", "job.seq_len"), ("--set job.seq_len", "TABLE.FIELD=VALUE")),
    (("plan", *ASKED, "--set", "lay.tp=2"), ("lay", "layout")),
    (("plan", *ASKED, "--set", "layout.tp=3"), ("layout.tp", "3")),
    (("plan", *ASKED, "--set", "layout.ep=2"), ("layout.ep", "2")),
    (("plan", "gpt2", "--on", "v100-sxm2-32gb", "--precision", "bf16"), ("precision", "bf16", "v100")),
    (("plan", "chatlaw"), ("chatlaw", "chatlaw2-moe")),
    (("plan", "serving/qwen-7b"), ("planner serve",)),
    (("serve", "llama-3-70b-h100"), ("planner plan",)),
    (("serve", "llama-3.1-8b", "--on", "h100", "--engine", "vlm"), ("vlm", "vllm")),
    (("serve", "llama-3.1-8b", "--on", "h100", "--weights", "int5"), ("weights", "int5")),
    (("compare", "llama-3-70b-h100"), ("single case", "[[compare]]")),
    (("compare", "chatlaw2-moe", "--at", "beauty"), ("beauty", "loss")),
    (("size", "llama-3-8b", "--for", "fun"), ("fun", "lora")),
    (("size", "llama-3-8b", "--for", "lora", "--accelerator", "rtx-999"), ("rtx-999",)),
    (("search", *ASKED, "--objective", "beauty"), ("beauty", "cost")),
    (("search", *ASKED, "--framework", "fsd"), ("fsd", "fsdp")),
    (("search", *ASKED, "--term", "weekly"), ("weekly", "on-demand")),
    (("search", *ASKED, "--accelerator", "h1000"), ("h1000", "h100")),
    (("search", *ASKED, "--engine", "spark"), ("spark", "local")),
    (("search", *ASKED, "--out", "rows.xls"), ("rows.xls", ".csv")),
    (("search", *ASKED, "--out", "no/such/rows.csv"), ("no/such",)),
    (("sweep", *ASKED, "--vary", "job.seq_len"), ("job.seq_len",)),
    (("sweep", *ASKED, "--vary", "job.seqlen=1,2"), ("seqlen", "seq_len")),
    (("sweep", *ASKED, "--vary", "job.seq_len=1:2"), ("job.seq_len",)),
    (("limit", *ASKED, "--field", "job.beauty"), ("job.beauty", "job.seq_len")),
    (("export", "llama-3-70b-h100", "--to", "jaxformer"), ("jaxformer", "megatron")),
    (("export", "llama-3-70b-h100", "--to", "megatron", "--rank", "3"), ("--rank 3", "--rows")),
    (("plan", "llama-3-70b-h100", "--plot", "picture.gif"), ("picture.gif", ".png")),
    (("plan", "llama-3-70b-h100", "--plot", "no/such/picture.png"), ("no/such",)),
    (("plan", "llama-3-70b-h100", "--write", "no/such/mine.toml"), ("no/such",)),
    (("prices", "list", "--term", "weekly"), ("weekly", "on-demand")),
    (("prices", "show", "h1000"), ("h1000", "h100")),
    (("prices", "list", "--currency", "QQQ"), ("QQQ",)),
    (("hardware", "show", "h1000"), ("h1000",)),
    (("models", "show", "gpt22"), ("gpt22", "gpt2")),
    (("models", "list", "--search", "zzzz"), ("zzzz", "leave it out")),
    (("models", "derive", "gpt2", "--drop-layers", "99"), ("99",)),
    (("frameworks", "show", "fsd"), ("fsd", "fsdp")),
    (("engines", "show", "vlm"), ("vlm", "vllm")),
    (("scenarios", "show", "chatlaw"), ("chatlaw", "chatlaw2-moe")),
    (("schema", "jb"), ("jb", "job")),
    (("schema", "job.seqlen"), ("seqlen", "seq_len")),
    (("init",), ("--on", "planner init")),
    (("plan", "gpt2", "--on", "8"), ("--on 8", "8xh100")),
    (("plan", *ASKED, "--risk", "five"), ("--risk = 'five'", "must be a part of 1")),
    (("search", *ASKED, "--top=few"), ("--top = 'few'", "must be a whole number")),
    (("search", *ASKED, "--budget-usd", "cheap"), ("--budget-usd = 'cheap'", "must be a number")),
    (("search", *ASKED, "--accelerator", "h1000"), ("--accelerator h1000", "h100")),
    (("tune", *ASKED, "--set", "job.kind=magic"), ("job.kind = 'magic'", "qlora")),
    (("plna",), ("plna", "plan")),
    (("serach", "x"), ("serach", "search")),
]
FILES: dict[str, tuple[bytes | None, tuple[str, ...]]] = {
    "absent.toml": (None, ("absent.toml",)),
    "empty.toml": (b"", ("empty.toml", "empty", "scenarios show")),
    "binary.toml": (bytes(range(256)), ("binary.toml", "UTF-8")),
    "bare.toml": (GOOD.replace('"llama-2-7b"', "llama-2-7b").encode(), ("bare.toml", "at line", "text stands in quotes")),
    "broken.toml": (b"[model\nname = 1", ("broken.toml", "not valid TOML")),
    "list.json": (b"[1, 2]", ("list.json", "list")),
    "broken.json": (b'{"model": ', ("broken.json", "not valid JSON")),
    "no-job.toml": (b'[model]\nname = "gpt2"\n[cluster]\nnode = "dgx-h100"\n', ("no-job.toml", "[job] is missing")),
    "table.toml": (GOOD.encode() + b"[lay]\ntp = 2\n", ("table.toml", "lay", "layout")),
    "typed.toml": (GOOD.replace("seq_len = 2048", 'seq_len = "2048"').encode(), ("typed.toml", "seq_len", "2048")),
    "number.toml": (GOOD.replace('name = "llama-2-7b"', "name = 7").encode(), ("number.toml", "name", "7", "text")),
    "flat.toml": (
        GOOD.replace('[cluster]\nnode = "dgx-a100-80gb"', 'cluster = "dgx"').replace("\ncluster", "\n#").encode(),
        ("cluster",),
    ),
    "deep.toml": (b"a = " + b"[" * 60 + b"]" * 60, ("deep.toml", "levels")),
    "long.toml": (b"a = " + b"9" * 400, ("long.toml", "digits")),
    "twice.toml": (GOOD.encode() + b"[job]\nseq_len = 1\n", ("twice.toml", "not valid TOML")),
    "folder.toml": (GOOD.replace('name = "llama-2-7b"', 'config = "."').encode(), ("folder.toml", "is a folder", ".json")),
    "model.toml": (GOOD.replace('name = "llama-2-7b"', 'config = "nowhere.json"').encode(), ("nowhere.json",)),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, to which the files of FILES are written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(run: Run, typed: tuple[str, ...], said: tuple[str, ...]) -> None:
    """Exit code 2, nothing on standard output, one paragraph that says all of ``said``."""
    code, out, err = run(*typed)
    assert (code, out) == (2, ""), f"{typed}: {err}"
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    assert err.rstrip()[-1] in ".?", f"no end of a sentence: {err}"
    assert not err.rstrip().endswith(("?.", "..")), err
    for words in said:
        assert words in err, f"{typed}: {words!r} is not in: {err}"


def test_there_are_two_hundred() -> None:
    assert sum(map(len, FAMILIES.values())) + len(FILES) + len(COMMANDS) >= 200


FAMILIES = {
    "misspelt fields": misspelt_fields(),
    "wrong types": wrong_types(),
    "beyond the range": beyond_the_range(),
    "money": MONEY,
    "quantities": QUANTITIES,
    "commas and rates": COMMAS_AND_RATES,
    "places": PLACES,
    "servers": SERVERS,
    "names": NAMES,
}


@pytest.mark.parametrize(("typed", "said"), [mistake for family in FAMILIES.values() for mistake in family])
def test_a_mistake_is_answered_with_what_would_be_right(typed: tuple[str, ...], said: tuple[str, ...], run: Run) -> None:
    refused(run, typed, said)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_scenario_is_named_with_what_is_wrong(name: str, run: Run, folder: Path) -> None:
    content, said = FILES[name]
    if content is not None:
        (folder / name).write_bytes(content)
    refused(run, ("plan", name), said)


LAUNCHED = {
    "train.sh": "torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 4\n",
    "job.slurm": "#SBATCH --nodes=2\nsrun torchrun train.py\n",
    "sft.yaml": "stage: sft\nfinetuning_type: lora\n",
    "ds.json": '{"train_batch_size": 256, "zero_optimization": {"stage": 3}}',
}


@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("command", [("plan",), ("run",), ("compare",), ("search",), ("serve", "--on", "h100")])
def test_a_launch_file_in_a_scenarios_place_is_sent_to_the_option_that_reads_it(
    name: str, command: tuple[str, ...], run: Run, folder: Path
) -> None:
    (folder / name).write_text(LAUNCHED[name])
    asked = "serve" if command[0] == "serve" else "plan"
    refused(run, (*command, name), (name, "is a launch file", f"planner {asked} --from {name}"))


def test_a_config_json_is_a_model(run: Run, folder: Path) -> None:
    """As the guide says; without GPUs they are asked for."""
    (folder / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000,'
        ' "intermediate_size": 688, "max_position_embeddings": 2048}'
    )
    code, out, err = run("plan", "config.json", "--on", "rtx-4090")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("  fits      yes")
    refused(run, ("plan", "config.json"), ("config.json", "--on 8xh100"))


def test_a_folder_is_no_scenario(run: Run, folder: Path) -> None:
    (folder / "here.toml").mkdir()
    refused(run, ("plan", "here.toml"), ("here.toml",))


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_named_with_the_help_that_lists_the_right_ones(name: str, run: Run) -> None:
    refused(run, (name, "--nonsense"), ("nonsense", f"planner {name}"))
