"""A layout is read as it is printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.common.errors import PlannerError
from planner.workload.layout import Layout
from planner.workload.layout_text import layout_fields

DEGREE = st.sampled_from([1, 2, 3, 8, 64])
LAYOUTS = st.builds(
    Layout,
    tp=DEGREE,
    sequence_parallel=st.booleans(),
    pp=DEGREE,
    vpp=DEGREE,
    cp=DEGREE,
    ep=DEGREE,
    etp=DEGREE,
    dp=st.sampled_from([None, 2, 5, 128]),
    zero=st.integers(0, 3),
    shard_group_size=st.sampled_from([0, 8]),
    micro_batch_size=DEGREE,
    recompute=st.sampled_from(["none", "selective", "full"]),
    schedule=st.sampled_from([None, "zero-bubble"]),
    offload_optimizer=st.booleans(),
    offload_parameters=st.booleans(),
    offload_activations=st.booleans(),
)


@given(LAYOUTS)
def test_what_is_printed_is_read(layout):
    assert Layout(**layout_fields(layout.label)) == layout


@given(LAYOUTS)
def test_one_replica_prints_its_stage(layout):
    """The stage sets buffers where there is nothing to shard over, too, and FSDP has no stage 0."""
    alone = layout.replaced(dp=1, cp=1)
    assert Layout(**layout_fields(alone.label)).replaced(dp=1) == alone


def test_commas_capitals_and_signs_do_not_matter():
    assert layout_fields("TP=2,PP4 x ep 8, FSDP, recompute full") == {"tp": 2, "pp": 4, "ep": 8, "zero": 3, "recompute": "full"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tp2 qq4", "'qq4' is no part of a layout"),
        ("tp2 tp4", "gives tp twice"),
        ("tp2.5", "'tp2.5' is no part of a layout"),
        ("recompute", "did you mean recompute full, recompute none, recompute selective?"),
        ("tensor_parallel=2", "did you mean tp?"),
        ("vp2", "did you mean vpp"),
        ("zero3 fsdp", "gives zero twice"),
        ("  ", "is empty; write a layout as tables print it"),
    ],
)
def test_what_is_no_layout_is_refused_in_words(text, said):
    with pytest.raises(PlannerError) as refused:
        layout_fields(text)
    assert said in str(refused.value)
    assert (refused.value.field, refused.value.value) == ("--layout", text)
