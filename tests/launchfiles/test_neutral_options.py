"""Options that are said to change neither memory nor time: none of them is one that another table reads or tells of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.launchfiles import Launch, read_launch
from planner.launchfiles.formats import formats

OTHERWISE = {
    "config": "a file that is read",
    "deepspeed": "a file that is read",
    "name": "of the run",
    "model.name": "of the class",
    "dataset": "no sizes of it are known",
    "fsdp-config": "its keys are read one by one",
    "device": "cuda",
    "tokenizer-type": "of text files",
    "peft-type": "LoRA alone has such a file",
    "quant-method": "bitsandbytes alone has such a table",
    "model.max-seq-len": "max_seq_len says it",
    "model.norm-type": "of the flavor's own model",
    "model.model-config.max-position-embeddings": "rotary positions have no table",
    "optimizer": "its keys are read one by one",
    "fp16": "its keys are read one by one",
    "bf16": "its keys are read one by one",
    "tokenizer.-component-": "its class",
    "use-flash-attn": "taken where nothing says it",
    "fp16.fp16": "precision says it",
}
"""Names that mean something else where they are neutral, and what."""


def test_what_one_tool_reads_or_tells_of_changes_something_in_the_others_too() -> None:
    told: dict[tuple[str, str], str] = {}
    for form in formats():
        for name in {*form.options, *(name for name, text in form.unmodelled.items() if text)}:
            told[(form.kind, name.rpartition(".")[2])] = form.name
    wrong = [
        (form.name, name, other)
        for form in formats()
        for name in form.neutral
        if name not in OTHERWISE and name not in form.options and name not in form.unmodelled
        if (other := told.get((form.kind, name.rpartition(".")[2].lstrip("*"))))
    ]
    assert wrong == []


def test_usual_words_are_of_options_that_are_not_modelled() -> None:
    for form in formats():
        assert [name for name in form.usual if name not in {*form.unmodelled, *form.options}] == [], form.name
        assert [word for words in form.usual.values() for word in words if word != word.lower()] == [], form.name


def read(folder: Path, text: str, name: str = "run.sh", **cluster: Any) -> Launch:
    (folder / name).write_text(text, encoding="utf-8")
    return read_launch([folder / name], cluster={"accelerator": "h100-sxm5-80gb", **cluster})


SWIFT = "swift sft --model Qwen/Qwen2.5-7B --train_type lora --max_length 1024"


def test_dropout_attention_and_epochs_of_ms_swift_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, f"{SWIFT} --use_flash_attn false --lora_dropout_p 0.1 --max_epochs 1 --train_dataset_sample 500")
    assert found.tables["framework"]["attention_kernel"] == "eager"
    assert found.tables["job"]["adapter"]["dropout"] == 0.1
    assert (found.tables["job"]["num_epochs"], found.tables["job"]["num_samples"]) == (1, 500)


def test_dora_is_told_of_wherever_it_is_asked_for(tmp_path: Path) -> None:
    recipe = "python run_recipe.py --recipe llama3_8b_peft_config --peft_scheme dora dataset.seq_length=2048"
    tune = "batch_size: 2\ntokenizer:\n  max_seq_len: 2048\nmodel:\n  _component_: torchtune.models.llama3.dora_llama3_8b\n"
    for found in (
        read(tmp_path, recipe, num_gpus=8),
        read(tmp_path, f"{tune}optimizer:\n  _component_: torch.optim.AdamW\n", "t.yaml"),
    ):
        assert found.tables["job"]["kind"] == "lora"
        assert [text for text in map(str, found.unmodelled) if "DoRA" in text]


MOE = (
    "deepspeed pretrain_gpt.py --deepspeed --num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 512 "
    "--num-experts 8 --tensor-model-parallel-size 2 --micro-batch-size 1 --global-batch-size 8 --vocab-size 50304 "
    "--moe-expert-parallel-size 2 "
    "--bf16 "
)


@pytest.mark.parametrize(("more", "etp"), [("", 1), ("--enable-expert-tensor-parallelism", 2)])
def test_deepspeed_cuts_experts_over_tensor_parallel_ranks_where_it_is_asked_to(tmp_path: Path, more: str, etp: int) -> None:
    assert read(tmp_path, MOE + more, num_gpus=8).tables["layout"]["etp"] == etp
    neox: dict[str, Any] = {
        "pipe-parallel-size": 1, "model-parallel-size": 2, "num-layers": 4, "hidden-size": 512, "num-attention-heads": 8,
        "seq-length": 512, "max-position-embeddings": 512, "train_micro_batch_size_per_gpu": 1, "num-experts": 8,
        "moe-expert-parallel-size": 2, "train_batch_size": 8, "vocab-size": 50304, "enable-expert-tensor-parallelism": bool(more),
    }  # fmt: skip
    text = "".join(f'"{name}": {str(value).lower()}\n' for name, value in neox.items())
    assert read(tmp_path, text, "neox.yml", num_gpus=8).tables["layout"]["etp"] == etp


@pytest.mark.parametrize(("word", "told"), [("backward_pre", False), ("backward_post", True), ("no_prefetch", True)])
def test_what_is_modelled_of_an_option_is_not_told_of(tmp_path: Path, word: str, told: bool) -> None:
    text = (
        "model_name_or_path: gpt2\nper_device_train_batch_size: 4\noutput_dir: x\nmax_length: 512\nfsdp: full_shard\n"
        f"fsdp_config:\n  backward_prefetch: {word}\n"
    )
    assert any("backward_prefetch" in line for line in map(str, read(tmp_path, text, "a.yaml", num_gpus=8).unmodelled)) == told


def test_torchtune_counts_nodes_and_the_steps_of_all_epochs(tmp_path: Path) -> None:
    text = (
        "tune run --nnodes 2 --nproc_per_node 8 full_finetune_distributed --config llama3/8B_full batch_size=2 epochs=3 "
        "max_steps_per_epoch=100 tokenizer.max_seq_len=2048 model._component_=torchtune.models.llama3.llama3_8b"
    )
    found = read(tmp_path, text)
    assert found.tables["job"]["num_steps"] == 300
    assert found.tables["cluster"]["num_gpus"] == 16
