"""ms-swift's commands: what its defaults and its own names of DeepSpeed's stages say."""

from __future__ import annotations

import re
from typing import Any

from planner.common.message import Message
from planner.launchfiles.numbers import names_of, whole
from planner.launchfiles.understanding import Said

STAGE = re.compile(r"(?:default-)?zero([0-3])(_offload)?")
"""Names of DeepSpeed configurations that ms-swift ships (Command-line-parameters.md: deepspeed)."""
SAMPLED = re.compile(r".+#(\d{1,12})")
"""A data set and how many samples of it are taken."""
LEAST_BATCH = 16
"""Where gradient_accumulation_steps is left out, gradients are accumulated until a step has so many sequences."""


def settle_swift(said: Said) -> None:
    """Fields of ms-swift that several of its options decide together; nothing for another tool."""
    f = said.fields
    if not said.has("ms-swift"):
        return
    if "said.tuning" not in f:
        f["said.tuning"] = "lora"  # train_type's default
    if f.get("said.bits") == 0:  # quantization_bit of 2.x: none
        f["said.bits"] = None
    for field, usual in (("said.quant_method", "bnb"), ("said.tuner_backend", "peft")):
        if f.get(field, usual) != usual:
            name = field.removeprefix("said.")
            said.unmodelled.append(Message("{0} = {1} is counted as {2}: memory and time differ", name, f[field], usual))
    sharded = _stage(f) or said.has("deepspeed")
    if not {"said.bf16", "said.fp16"} & f.keys():  # as the model is loaded, and most are in bf16
        loaded = f.get("said.dtype")
        if loaded == "fp16":
            f["said.fp16"] = True
        elif loaded != "fp32":
            f["said.bf16"] = "pure" if f["said.tuning"] == "full" and not sharded else True
    _length(f)


def _length(f: dict[str, Any]) -> None:
    """How long the run is: epochs, which max_epochs bounds, and samples of the data sets where it says how many it takes."""
    if (most := whole(f, "said.most_epochs")) is not None:
        f["job.num_epochs"] = min(f.get("job.num_epochs", most), most)
    if f.get("said.packing"):
        return
    taken = whole(f, "said.samples", -1)  # train_dataset_sample of 2.x; -1: all of them
    samples = [SAMPLED.fullmatch(name) for name in names_of(f.get("said.datasets", ""))]
    if taken is not None and taken > 0:
        f["job.num_samples"] = taken
    elif samples and all(samples):
        f.setdefault("job.num_samples", sum(int(one[1]) for one in samples if one is not None))


def _stage(f: dict[str, Any]) -> bool:
    """Whether a DeepSpeed configuration that ms-swift ships is named; its stage and offloading then go to the layout."""
    named = STAGE.fullmatch(str(f.get("said.deepspeed_named", "")))
    if named is None:
        return False
    f["said.sharder"] = "deepspeed"
    f["layout.zero"] = int(named[1])
    if named[2]:
        f |= {"layout.offload_optimizer": True} | ({"layout.offload_parameters": True} if named[1] == "3" else {})
    return True


def accumulated(said: Said, micro: int, ranks: int | None) -> int | None:
    """Micro-batches of a step by ms-swift's default; None where the file gives them, for another tool, and for unknown ranks."""
    f = said.fields
    if not said.has("ms-swift") or ranks is None or f.get("said.accumulation") is not None or whole(f, "job.global_batch_size"):
        return None
    steps = -(-LEAST_BATCH // (micro * ranks))
    text = "gradient_accumulation_steps = {0}, ms-swift's default: at least {1:,} sequences a step"
    said.notes.append(Message(text, steps, LEAST_BATCH))
    return steps
