"""Messages of a micro-batch, counted by hand: which collective, over which ranks, how many bytes of the whole tensor, and what
runs beside it. Sizes are those of nccl-tests: the gathered tensor, whatever part of it a rank holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from examples import GPT, LLAMA, MIXTRAL, setting
from row_examples import B, S, T, amount, of_model, one, small

from planner.operators.embedding import embedding
from planner.operators.head import head
from planner.operators.moe import mixture_of_experts
from planner.operators.row import Row
from planner.operators.table import build_table
from planner.workload.adapters import tuned_model
from planner.workload.layout import Layout

WHOLE = 2 * T * 512
"""Hidden states of a micro-batch in 16 bit."""
Message = tuple[str, str, str, float, str]


def messages(rows: Iterable[Row]) -> Counter[Message]:
    """(phase, collective, group, bytes, role of the product beside) of what is sent, each with one kernel."""
    found: Counter[Message] = Counter()
    for row in rows:
        if row.collective is None or not amount(row, "communication_bytes"):
            assert row.collective is None or not amount(row, "kernels")
            continue
        assert amount(row, "kernels") == 1.0
        beside = "" if row.beside is None else str(row.beside.role)
        found[row.phase, row.collective, str(row.group), amount(row, "communication_bytes"), beside] += 1
    return found


@pytest.mark.parametrize("fields", [GPT, LLAMA])
def test_a_layer_is_summed_twice_each_way(fields: dict[str, object]) -> None:
    """Megatron-LM (Shoeybi et al. 2019, figure 4): behind each half forward, in front of each half backward, there beside the
    gradients of the weights."""
    there = small(fields, layout=Layout(tp=2, micro_batch_size=B))
    (rows,) = build_table(there).layers.values()
    assert messages(rows) == {
        ("forward", "all_reduce", "tp", WHOLE, ""): 2,
        ("backward", "all_reduce", "tp", WHOLE, "weight gradient"): 2,
    }


@pytest.mark.parametrize("again", [True, False])
def test_a_layer_of_sharded_sequences_gathers_and_scatters(again: bool) -> None:
    """Korthikanti et al. 2022, figures 5 and 6: four gathers and four scatters of a layer, and, of inputs kept as shards, a
    gather of each half beside the gradient of its input (section 4.2.2)."""
    there = small(LLAMA, layout=Layout(tp=2, sequence_parallel=True, micro_batch_size=B), gathers_input_again=again)
    (rows,) = build_table(there).layers.values()
    expected = {
        ("forward", "all_gather", "tp", WHOLE, ""): 2,
        ("forward", "reduce_scatter", "tp", WHOLE, ""): 2,
        ("backward", "all_gather", "tp", WHOLE, ""): 2,
        ("backward", "reduce_scatter", "tp", WHOLE, "weight gradient"): 2,
    }
    assert messages(rows) == expected | ({("backward", "all_gather", "tp", WHOLE, "input gradient"): 2} if again else {})


def test_a_rank_alone_sends_nothing() -> None:
    for fields in (GPT, MIXTRAL):
        assert not messages(build_table(small(fields)).rows())


@pytest.mark.parametrize("sharded", [False, True])
def test_words_and_their_scores_are_summed_over_the_vocabularys_ranks(sharded: bool) -> None:
    """Partial look-ups forward; the gradient of the last states backward; maximum, sum of exponentials and the label's score of
    each token, 4 bytes each, whatever the sequences are cut into."""
    there = small(LLAMA, layout=Layout(tp=2, sequence_parallel=sharded, micro_batch_size=B), gathers_input_again=False)
    losses = {("forward", "all_reduce", "tp", 3 * 4 * T, ""): 1}
    entrance, exit_ = messages(embedding(there)), messages(head(there))
    if sharded:
        assert entrance == {
            ("forward", "reduce_scatter", "tp", WHOLE, ""): 1,
            ("backward", "all_gather", "tp", WHOLE, ""): 1,
        }
        assert exit_ == losses | {
            ("forward", "all_gather", "tp", WHOLE, ""): 1,
            ("backward", "reduce_scatter", "tp", WHOLE, "weight gradient"): 1,
        }
    else:
        assert entrance == {("forward", "all_reduce", "tp", WHOLE, ""): 1}
        assert exit_ == losses | {("backward", "all_reduce", "tp", WHOLE, "weight gradient"): 1}


@pytest.mark.parametrize(("name", "gathered"), [("deepseek-v3", 1536 + 512 + 64), ("deepseek-v2-lite", 2048 + 512 + 64)])
def test_latent_attention_gathers_its_latents(name: str, gathered: int) -> None:
    """DeepSeek-V2, section 2.1: queries of a rank of 1,536 (of the hidden states, where they have none), keys and values of 512,
    a rotated key of 64; what the layer gives is as wide as ever."""
    there = of_model(name, layout=Layout(tp=2, sequence_parallel=True, micro_batch_size=B))
    kind = next(kind for kind in there.model.layer_kinds if not kind.moe)
    found = messages(row for row in build_table(there).layers[kind] if row.block == "attention")
    whole = 2 * T * there.model.hidden_size
    assert found == {
        ("forward", "all_gather", "tp", 2 * T * gathered, ""): 1,
        ("forward", "reduce_scatter", "tp", whole, ""): 1,
        ("backward", "all_gather", "tp", whole, ""): 1,
        ("backward", "all_gather", "tp", 2 * T * gathered, "input gradient"): 1,
        ("backward", "reduce_scatter", "tp", 2 * T * gathered, "weight gradient"): 1,
    }


def test_a_module_for_a_further_token_gathers_its_projection() -> None:
    """DeepSeek-V3, section 2.2: two states of h to one, cut by its outputs."""
    there = setting(LLAMA, "megatron-core", Layout(tp=2, micro_batch_size=B), seq_len=S, multi_token_prediction=1)
    found = messages(row for row in build_table(there).rows() if row.block == "prediction")
    assert found == {
        ("forward", "all_gather", "tp", WHOLE, ""): 1,
        ("backward", "reduce_scatter", "tp", WHOLE, "weight gradient"): 1,
    }


def test_a_scan_passes_its_state_on_to_the_rank_that_has_the_sequences_next_part() -> None:
    """Falcon-H1 0.5B: 24 heads, a state of 64 x 128 each in fp32 (config.json: mamba_n_heads, mamba_d_head, mamba_d_state)."""
    there = of_model("falcon-h1-0.5b", layout=Layout(cp=2, micro_batch_size=B))
    rows = build_table(there).layers[there.model.layer_kinds[0]]
    state = 4 * B * 24 * 64 * 128
    assert messages(row for row in rows if row.block == "mixer") == {
        ("forward", "p2p", "cp", state, ""): 1,
        ("backward", "p2p", "cp", state, ""): 1,
    }


PAIRS = 2 * T
"""Each token goes to two experts."""
UNEVEN = 1.5


def exchanged(dispatcher: str, **layout: int) -> dict[tuple[str, str], Row]:
    """Rows between ranks of experts that send, by operator and phase; the fullest rank has half more than the mean."""
    layout_ = Layout(dp=8, micro_batch_size=B, **layout)
    there = setting(MIXTRAL, "megatron-core", layout_, {"dispatcher": dispatcher}, seq_len=S, expert_load=UNEVEN)
    rows = mixture_of_experts(there, there.model.layer_kinds[0])
    return {(row.operator, row.phase): row for row in rows if row.collective is not None and amount(row, "communication_bytes")}


@pytest.mark.parametrize(("dispatcher", "copies"), [("alltoall", None), ("deepep", 2.0), ("hybridep", 2.0)])
def test_tokens_go_to_their_experts_and_come_back(dispatcher: str, copies: float | None) -> None:
    """Pairs of token and expert, of the fullest rank; or each token once, with the copies that it makes on arrival. The fullest
    rank is left with what it got, and, of what comes back, with its own tokens."""
    rows = exchanged(dispatcher, ep=4)
    each = 2 * UNEVEN * PAIRS * 512 / (copies or 1)
    assert {key: (row.collective, row.group, amount(row, "communication_bytes")) for key, row in rows.items()} == {
        (f"{name} {what}", phase): ("all_to_all", "ep", each)
        for name in ("dispatch", "combine")
        for what, phase in (("tokens", "forward"), ("gradients", "backward"))
    }
    assert {row.copies for row in rows.values()} == {copies}
    left = {key: amount(row, "arriving") for key, row in rows.items()}
    assert left.pop(("combine tokens", "forward")) == pytest.approx(1 / UNEVEN)
    assert set(left.values()) == {1.0}


def test_all_tokens_are_gathered_and_their_results_summed() -> None:
    rows = exchanged("allgather", ep=4)
    everything = 4 * WHOLE
    assert {key: (row.collective, row.group, amount(row, "communication_bytes")) for key, row in rows.items()} == {
        ("dispatch tokens", "forward"): ("all_gather", "ep", everything),
        ("dispatch gradients", "backward"): ("reduce_scatter", "ep", everything),
        ("combine tokens", "forward"): ("reduce_scatter", "ep", everything),
        ("combine gradients", "backward"): ("all_gather", "ep", everything),
    }


def test_ranks_of_one_expert_see_each_others_tokens() -> None:
    """Two ranks hold a half of each expert: what both received is gathered, and the halves' results are summed. Each of them
    exchanges its own part with other experts' ranks, as without."""
    rows = exchanged("alltoall", ep=4, etp=2)
    both = 2 * 2 * UNEVEN * PAIRS * 512
    over = {key: row for key, row in rows.items() if row.group == "etp"}
    assert {key: (row.collective, amount(row, "communication_bytes")) for key, row in over.items()} == {
        ("dispatch over etp", "forward"): ("all_gather", both),
        ("dispatch gradients over etp", "backward"): ("reduce_scatter", both),
        ("combine over etp", "forward"): ("reduce_scatter", both),
        ("combine gradients over etp", "backward"): ("all_gather", both),
    }
    assert {amount(row, "communication_bytes") for row in rows.values() if row.group == "ep"} == {both / 2}


def test_parts_of_a_narrow_product_are_summed_behind_layers_that_are_cut_along_their_inputs() -> None:
    """LoRA on all seven matrices of a Llama layer, tp 2: A x of the output and down projections, 8 numbers a token. The frozen
    layer's own weights have no gradient: nothing hides the sums of its input's."""
    adapter = {"rank": 8, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
    there = of_model("llama-3-8b", "fsdp", Layout(tp=2, micro_batch_size=B), kind="lora", adapter=adapter)
    there = replace(there, model=tuned_model(there.model, there.job))
    whole = 2 * T * 4096
    assert messages(build_table(there).layers[there.model.layer_kinds[-1]]) == {
        ("forward", "all_reduce", "tp", whole, ""): 2,
        ("backward", "all_reduce", "tp", whole, ""): 2,
        ("forward", "all_reduce", "tp", 2 * T * 8, ""): 2,
    }


def test_a_ring_adds_a_later_steps_part_to_what_it_has() -> None:
    """Four ranks, three later steps of which half see one half of the keys: 3/4 of the tokens on average. Of the output the part
    in 16 bit, the sum read and written in fp32; backward so for the gradients of queries, keys and values."""
    there = small(LLAMA, layout=Layout(cp=4, micro_batch_size=B))
    rows = build_table(there).layers[there.model.layer_kinds[0]]
    outputs = queries = T / 4 * 8 * 64
    keys = T / 4 * 2 * 4 * 64
    forward, backward = one(rows, "ring sums"), one(rows, "ring sums gradient")
    assert amount(forward) == 3 * 3 / 4 * (2 + 4 + 4) * outputs
    assert amount(backward) == 3 * 3 / 4 * (2 + 4 + 4) * (queries + keys)
    assert (amount(forward, "kernels"), amount(backward, "kernels")) == (3 * 4, 3 * 3)
    assert np.all(forward.saved_bytes == 0.0)
