"""What lies on one pipeline stage, by hand: each block's figures another power of two, so that a sum tells what it holds."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from examples import LLAMA, framework, gpus, job, model

from planner.model.architecture import LayerKind
from planner.performance.block_cost import BlockCost, BlockCosts
from planner.performance.context import Context
from planner.performance.evaluation import evaluate
from planner.performance.pipeline import Stage, stages
from planner.performance.stage_content import stage_blocks, stage_content
from planner.workload.layout import Layout, as_columns
from planner.workload.question import Question

KINDS = tuple(model(LLAMA).layer_kinds[0]._replace(role=role) for role in (0, 1))


def block(size: float) -> BlockCost:
    """A block with ``size`` in every field."""
    return BlockCost(**{one.name: np.array([size]) for one in fields(BlockCost)})


def costs(kinds: tuple[LayerKind, ...] = KINDS) -> BlockCosts:
    """1 of the first kind of layers, 16 of the second, 256 at the entrance, 4096 at the exit, 65,536 of a teacher's block."""
    first, second = kinds
    return BlockCosts(
        embedding=block(256.0),
        layers={first: block(1.0), second: block(16.0)},
        head=block(4096.0),
        teacher=((4.0, block(65536.0)),),
    )


def stage(embedding: bool, head: bool) -> Stage:
    """Three layers of the first kind, two of the second."""
    return Stage(first=0, count=1, layers=tuple(zip(KINDS, (3, 2), strict=True)), embedding=embedding, head=head)


def test_blocks_of_a_stage_and_how_often_each_occurs() -> None:
    """A teacher's four blocks are cut evenly over two stages."""
    found = [(count, float(one.forward_s[0])) for count, one in stage_blocks(costs(), stage(True, True), 2)]
    assert found == [(3.0, 1.0), (2.0, 16.0), (2.0, 65536.0), (1.0, 256.0), (1.0, 4096.0)]
    middle = [float(one.forward_s[0]) for _, one in stage_blocks(costs(), stage(False, False), 2)]
    assert middle == [1.0, 16.0, 65536.0]


def test_contents_of_the_first_the_last_and_a_middle_stage() -> None:
    """Layers: 3 x 1 + 2 x 16 = 35; the exit keeps its own activations; tied words lie on the last stage again."""
    alone = replace(costs(), teacher=())
    tied, flying = np.array([7.0]), np.array([5.0])

    def content(embedding: bool, head: bool) -> dict[str, float]:
        made = stage_content(job(), framework("megatron-core"), 2, alone, stage(embedding, head), flying, tied)
        return {one.name: float(getattr(made, one.name)[0]) for one in fields(made)}

    layers = {
        "expert_parameters": 35.0,
        "largest_layer_parameters": 32.0,  # of both shards: dense and experts
        "largest_layer_experts": 16.0,
        "largest_layer_activations_bytes": 16.0,
        "layer_workspace_bytes": 16.0,
        "dummy_bytes": 16.0,
        "largest_layer_frozen_bytes": 32.0,
    }
    # what is frozen lies there whatever the job trains: an encoder of images beside a model that is trained in full
    still = ("frozen_bytes", "frozen_expert_bytes", "skipped_bytes", "skipped_expert_bytes")
    none = {"end_parameters": 0.0, "head_activations_bytes": 0.0, "head_workspace_bytes": 0.0, "end_frozen_bytes": 0.0}
    none |= dict.fromkeys(still, 35.0)
    assert content(False, False) == {**layers, **none, "dense_parameters": 35.0, "activations_bytes": 175.0}
    ends = {"expert_parameters": 35.0 + 256.0, "dense_parameters": 35.0 + 256.0, "end_parameters": 256.0}
    ends |= {**dict.fromkeys(still, 35.0 + 256.0), "end_frozen_bytes": 256.0}
    assert content(True, False) == {**layers, **none, **ends, "activations_bytes": 5.0 * (35.0 + 256.0)}
    last = {"expert_parameters": 35.0 + 4096.0, "dense_parameters": 35.0 + 4096.0 + 7.0, "end_parameters": 4096.0 + 7.0}
    last |= {**dict.fromkeys(still, 35.0 + 4096.0), "end_frozen_bytes": 4096.0}
    exit_ = {"head_activations_bytes": 4096.0, "head_workspace_bytes": 4096.0, "activations_bytes": 175.0}
    assert content(False, True) == {**layers, **last, **exit_}


def test_frozen_weights_are_counted_where_something_is_frozen() -> None:
    tuned = job(kind="lora", adapter={"rank": 8})
    made = stage_content(
        tuned, framework("fsdp"), 1, replace(costs(), teacher=()), stage(True, True), np.ones(1), np.array([10.0])
    )
    assert float(made.frozen_expert_bytes[0]) == 35.0 + 256.0 + 4096.0
    assert float(made.end_frozen_bytes[0]) == 256.0 + 4096.0
    assert float(made.largest_layer_frozen_bytes[0]) == 32.0
    # tied words lie there again, in 16 bit
    assert float(made.frozen_bytes[0]) == 35.0 + 256.0 + 4096.0 + 2 * 10.0
    assert float(made.dense_parameters[0]) == 35.0 + 256.0 + 4096.0


def test_a_context_of_columns_takes_those_of_its_layouts() -> None:
    """One question stays as it is; where each layout has its own sequence, batch and GPUs, they go along with it."""
    question = Question(model(LLAMA), gpus(8), framework("megatron-core"), job())
    one = Context.of(question)
    assert not one.varies
    assert one.take(np.array([0])) is one
    lengths, batches = np.array([512.0, 1024.0, 2048.0]), np.array([8.0, 16.0, 32.0])
    many = replace(
        one,
        job=one.job.model_copy(update={"seq_len": lengths, "global_batch_size": batches}),
        cluster=one.cluster.model_copy(update={"num_gpus": np.array([8, 16, 32])}),
    )
    taken = many.take(np.array([2, 0]))
    assert many.varies
    assert np.asarray(taken.job.seq_len).tolist() == [2048.0, 512.0]
    assert np.asarray(taken.job.global_batch_size).tolist() == [32.0, 8.0]
    assert np.asarray(taken.cluster.num_gpus).tolist() == [32, 8]


def test_stages_hold_the_models_parameters_once() -> None:
    """Two stages of two layers: each holds half of the layers and its own end; 16 bit, nothing sharded."""
    untied = model(LLAMA, tied_embeddings=False)
    found = evaluate(Question(untied, gpus(2), framework("megatron-core"), job()), as_columns(Layout(pp=2), 2))
    whole = evaluate(Question(untied, gpus(1), framework("megatron-core"), job()), as_columns(Layout(), 1))
    ends = 1024 * 512
    norm = 512  # the exit's
    half = (float(whole.memory.parameters_bytes[0]) / 2 - 2 * ends - norm) / 2
    assert float(found.memory.parameters_bytes[0]) == 2 * (half + ends)  # of the first, which needs the most


def test_a_stage_without_a_layer_is_there_only_with_virtual_stages() -> None:
    """Narayanan et al. 2021: of 4 layers 4 stages; interleaved, the first chunk and the last may hold the ends alone: 4 + 2."""
    four = model(LLAMA)
    assert len(stages(four, 4, 1)) > 1
    assert len(stages(four, 3, 2)) > 1
    for pp, vpp in ((5, 1), (6, 1), (4, 2)):
        with pytest.raises(ValueError, match="chunks"):
            stages(four, pp, vpp)
