"""Where no layout fits: another method, optimizer, number of GPUs or length, each of which does."""

import pytest

import planner
from planner.common.units import GIB
from planner.hardware.cluster import host_usable_bytes
from planner.training.remedies import ways_out

LORA = {"kind": "lora", "seq_len": 2048, "global_batch_size": 64, "adapter": {"rank": 16}}
FULL = {"kind": "finetune", "seq_len": 2048, "global_batch_size": 64}
NONE_FITS = [
    ("mistral-7b", "rtx-3060", LORA, {"qlora", "num_gpus"}),
    ("llama-3-70b", "8xa100-40gb", FULL, {"lora", "qlora", "optimizer", "num_gpus"}),
    ("llama-3-8b", "h100", {"seq_len": 131072, "global_batch_size": 8}, {"num_gpus", "seq_len"}),
]


def _named(changes):
    ((_, fields),) = changes.items()
    return fields["kind"] if "kind" in fields else next(iter(fields))


@pytest.mark.parametrize(("model", "on", "job", "expected"), NONE_FITS)
def test_every_way_out_is_the_recommended_answer_to_the_changed_question(model, on, job, expected):
    wanted = planner.plan(model=model, cluster=on, job=job)
    ways = ways_out(wanted)
    assert expected <= {_named(way.changes) for way in ways}
    fields = {"accelerator": wanted.cluster.accelerator.name, "num_gpus": wanted.num_gpus}
    for way in ways:
        again = planner.plan(
            model=model, cluster={**fields, **way.changes.get("cluster", {})}, job={**job, **way.changes.get("job", {})}
        )
        assert again.recommended
        assert (again.step_time_s, again.headroom_bytes) == (way.step_time_s, way.headroom_bytes)


def test_where_a_layout_fits_there_is_nothing_to_change():
    assert ways_out(planner.plan(model="llama-3-8b", cluster="8xh100", job=FULL)) == []
    tight = planner.plan(model="llama-3-8b", cluster="8xh100", job=FULL, layout={"micro_batch_size": 8})
    assert not tight.fits
    assert ways_out(tight) == []  # its nearest layout fits


def test_a_framework_that_is_named_stays():
    wanted = planner.plan(model="mistral-7b", cluster="rtx-3060", job=LORA, framework="torchtune")
    ways = ways_out(wanted, "torchtune")
    assert ways
    for way in ways:
        if "job" in way.changes:
            job = {**LORA, **way.changes["job"]}
            again = planner.plan(model="mistral-7b", cluster="rtx-3060", job=job, framework="torchtune")
            assert again.step_time_s == way.step_time_s


def test_the_leanest_layout_asks_no_more_of_the_host_than_it_has():
    """Moving everything to the host takes 132 GiB beside each GPU, where 128 are: what is shown is short of the GPU's memory."""
    answer = planner.plan(model="llama-3-70b", cluster="8xa100-40gb", job=FULL)
    assert not answer.fits
    assert answer.host_bytes_per_gpu <= host_usable_bytes(answer.cluster)
    assert answer.peak_total_bytes > answer.usable_bytes
    assert any(f"the leanest needs {answer.peak_total_bytes / GIB:.1f} GiB" in str(reason) for reason in answer.reasons)


def test_where_none_surely_fits_the_leanest_of_the_usual_stacks_is_shown():
    """98,176 tokens of LoRA: peft's logits alone take 94 GiB, Liger's fused loss holds none."""
    question = {"model": "llama-3-8b", "cluster": "h100", "job": {**LORA, "seq_len": 98176}}
    shown = planner.plan(**question)
    assert not shown.recommended
    named = {name: planner.plan(**question, framework=name).peak_total_bytes for name in ("peft", "liger")}
    assert shown.framework.name == "liger"
    assert shown.peak_total_bytes == min(named.values())
