"""Where no layout fits: another method, optimizer, number of GPUs or length, each of which does."""

import pytest

import planner
from planner.common.errors import PlannerError
from planner.common.units import GIB
from planner.hardware.cluster import host_usable_bytes
from planner.training.remedies import remedies, ways_out

LORA = {"kind": "lora", "seq_len": 2048, "global_batch_size": 64, "adapter": {"rank": 16}}
FULL = {"kind": "finetune", "seq_len": 2048, "global_batch_size": 64}
NONE_FITS = [
    ("mistral-7b", "rtx-3060", LORA, {"qlora", "num_gpus"}),
    ("llama-3-70b", "8xa100-40gb", FULL, {"lora", "qlora", "optimizer", "num_gpus"}),
    ("llama-3-8b", "a100-sxm4-40gb", {"seq_len": 131072, "global_batch_size": 8}, {"num_gpus", "seq_len"}),
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


def test_what_probably_fits_has_no_way_out_either():
    risky = planner.plan(
        model="llama-3-8b", cluster="8xh100", job={**FULL, "global_batch_size": 32}, layout={"zero": 3, "micro_batch_size": 4}
    )
    assert risky.fits
    assert not risky.recommended
    assert ways_out(risky) == []


def test_an_accelerator_of_ones_own_has_more_of_its_kind():
    own = planner.load_accelerator("rtx-3060-12gb").replaced(name="my-card")
    node = planner.load_node("workstation-1x-rtx-3060-12gb").replaced(accelerator="my-card")
    wanted = planner.plan(model="mistral-7b", cluster=planner.cluster(node, num_nodes=1, accelerator=own), job=LORA)
    assert not wanted.fits
    assert {"qlora", "num_gpus"} <= {_named(way.changes) for way in ways_out(wanted)}


def test_a_framework_that_is_named_stays():
    wanted = planner.plan(model="mistral-7b", cluster="rtx-3060", job=LORA, framework="torchtune")
    ways = ways_out(wanted, "torchtune")
    assert ways
    for way in ways:
        if "job" in way.changes:
            job = {**LORA, **way.changes["job"]}
            again = planner.plan(model="mistral-7b", cluster="rtx-3060", job=job, framework="torchtune")
            assert again.step_time_s == way.step_time_s


def test_another_framework_is_offered_where_one_is_named():
    question = {"model": "llama-3-8b", "cluster": "8xh100", "job": {"seq_len": 4096, "global_batch_size": 1024}}
    wanted = planner.plan(**question, framework="pytorch")  # replicates all states
    first = ways_out(wanted, "pytorch")[0]
    assert first.changes == {"framework": {"name": "fsdp"}}
    assert planner.plan(**question, framework="fsdp").step_time_s == first.step_time_s


def test_another_framework_is_offered_beside_a_layout_of_ones_own():
    """Nobody names a framework: the layout takes one that offers it, of which none fits; another one would."""
    question = {"model": "llama-3-8b", "cluster": "a100-sxm4-80gb", "job": {**FULL, "global_batch_size": 8}}
    wanted = planner.plan(**question, layout={"micro_batch_size": 1})
    assert (wanted.fits, wanted.nearest, wanted.framework.name) == (False, None, "huggingface")
    first = ways_out(wanted)[0]
    assert first.changes == {"framework": {"name": "fsdp"}}
    assert planner.plan(**question, framework="fsdp").step_time_s == first.step_time_s


def test_what_is_allowed_by_name_is_allowed_in_every_way_out():
    question = {"model": "mistral-7b", "cluster": "rtx-3060", "job": LORA}
    wanted = planner.plan(**question, allow=["offload"])
    for way in ways_out(wanted, allow=["offload"]):
        cluster = {"accelerator": "rtx-3060-12gb", "num_gpus": 1, **way.changes.get("cluster", {})}
        again = planner.plan(**{**question, "cluster": cluster, "job": {**LORA, **way.changes.get("job", {})}}, allow=["offload"])
        assert again.step_time_s == way.step_time_s


def test_the_leanest_layout_asks_no_more_of_the_host_than_it_has():
    """Moving everything to the host takes 132 GiB beside each GPU, where 128 are: what is shown is short of the GPU's memory."""
    answer = planner.plan(model="llama-3-70b", cluster="8xa100-40gb", job=FULL)
    assert not answer.fits
    assert answer.host_bytes_per_gpu <= host_usable_bytes(answer.cluster)
    assert answer.peak_total_bytes > answer.usable_bytes
    assert any(f"the leanest needs {answer.peak_total_bytes / GIB:.1f} GiB" in str(reason) for reason in answer.reasons)


def test_where_none_surely_fits_the_leanest_of_the_usual_stacks_is_shown():
    """114,688 tokens of LoRA: peft's logits alone take 110 GiB, Liger's fused loss holds none."""
    question = {"model": "llama-3-8b", "cluster": "h100", "job": {**LORA, "seq_len": 114_688}}
    shown = planner.plan(**question)
    assert not shown.recommended
    named = {name: planner.plan(**question, framework=name).peak_total_bytes for name in ("peft", "liger")}
    assert shown.framework.name == "liger"
    assert shown.peak_total_bytes == min(named.values())


@pytest.mark.parametrize("ask", [remedies, ways_out])
@pytest.mark.parametrize("cluster", ["8xa100-40gb", "64xh100"], ids=["none fits", "fits"])
def test_what_no_layout_is_is_refused_and_not_taken_for_no_way_out(ask, cluster):
    wanted = planner.plan(model="llama-3-70b", cluster=cluster, job=FULL, explain=False)
    with pytest.raises(PlannerError, match="allow = 'nonsense'"):
        ask(wanted, allow=["nonsense"])


def test_who_runs_transformers_is_told_of_transformers_sharded():
    """8 B parameters in fp32 with two states of Adam: 16 bytes each on every GPU, or on eight of them together."""
    job = {"kind": "finetune", "seq_len": 2048, "global_batch_size": 64}
    wanted = planner.plan(model="llama-3.1-8b", cluster="8xh100", framework="llama-factory", job=job)
    assert not wanted.fits
    first = next(way.changes for way in ways_out(wanted, wanted.framework) if "framework" in way.changes)
    assert first["framework"]["name"] == "transformers-fsdp"
    one = planner.plan(model="llama-3.1-8b", cluster="1xh100", framework="llama-factory", job={**job, "global_batch_size": 8})
    assert not any(way.changes.get("framework", {}).get("name") == "transformers-fsdp" for way in ways_out(one, one.framework))
