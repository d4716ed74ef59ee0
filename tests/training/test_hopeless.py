"""What is said to hold nowhere, without a search, holds on no layout; and no layout needs less than the least."""

from __future__ import annotations

import pytest

import planner
from planner.studies import limit
from planner.training.hopeless import is_hopeless, states_bytes

JOBS = {
    "pretraining": {"kind": "pretrain", "seq_len": 512, "global_batch_size": 8},
    "pure": {"kind": "pretrain", "seq_len": 512, "global_batch_size": 8, "precision": "bf16-pure"},
    "8 bit": {"kind": "finetune", "seq_len": 512, "global_batch_size": 8, "optimizer": "paged-adamw-8bit"},
    "in backward": {"kind": "finetune", "seq_len": 512, "global_batch_size": 8, "optimizer_in_backward": True},
    "galore": {"kind": "finetune", "seq_len": 512, "global_batch_size": 8, "optimizer": "galore-adamw"},
    "lora": {"kind": "lora", "seq_len": 512, "global_batch_size": 8, "adapter": {"rank": 16}},
    "qlora": {"kind": "qlora", "seq_len": 512, "global_batch_size": 8, "adapter": {"rank": 16}},
    "muon": {"kind": "pretrain", "seq_len": 512, "global_batch_size": 8, "optimizer": "muon"},
}
MODELS = ("llama-3-8b", "mixtral-8x7b", "deepseek-v2-lite", "qwen2.5-vl-7b", "gemma-2-27b", "bert-large", "albert-xxlarge-v2")


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("model", MODELS)
def test_no_layout_needs_less_than_the_least(model, job):
    """On GPUs large enough, and on those where states must move to the host, all that the GPUs and hosts hold is no less."""
    for cluster in ({"accelerator": "h100", "num_gpus": 8}, {"accelerator": "rtx-4090", "num_gpus": 8}):
        try:
            found = planner.plan(model=model, cluster=cluster, job=JOBS[job], explain=False, allow=["all"])
        except planner.PlannerError:
            continue
        everywhere = found.num_gpus * (found.peak_total_bytes + found.host_bytes_per_gpu)
        assert everywhere >= states_bytes(found.model, found.job, found.framework)
        assert not (found.fits and is_hopeless({"model": model, "cluster": cluster, "job": JOBS[job]}))


@pytest.mark.parametrize(("model", "gpus", "hopeless"), [("llama-3-70b", "rtx-4090", True), ("llama-3-8b", "h100", False)])
def test_what_is_hopeless_fits_nowhere(model, gpus, hopeless):
    asked = {"model": model, "cluster": {"accelerator": gpus, "num_gpus": 8}, "job": JOBS["pretraining"]}
    assert is_hopeless(asked) == hopeless
    assert planner.plan(**asked, explain=False, allow=["all"]).fits != hopeless


def test_the_largest_model_is_the_same_with_and_without_a_search(monkeypatch):
    names = ["gpt2", "llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3.1-405b"]
    monkeypatch.setattr(limit, "model_names", lambda: names)
    tables = {
        "model": {"name": "gpt2"},
        "cluster": {"accelerator": "rtx-4090", "num_gpus": 4},
        "job": {"kind": "pretrain", "seq_len": 1024, "global_batch_size": 16},
    }
    found = limit.largest(tables, "model")
    monkeypatch.setattr(limit, "is_hopeless", lambda asked: False)
    searched = limit.largest(tables, "model")
    assert (found.value, found.next_value, found.reason) == (searched.value, searched.next_value, searched.reason)
    assert found.plan.to_dict() == searched.plan.to_dict()
