"""Vision towers on a sequence's images: flops by hand, what is frozen, what is refused, what is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import framework, job

import planner
from planner.common.errors import PlannerError
from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.layout import Layout, as_columns

NAME, PATCHES = "qwen3-vl-8b", 4096


def table(model: Model, **changes: Any) -> Table:
    columns = as_columns(Layout(dp=1, **changes.pop("layout", {})), 1)
    return build_table(distinct_axes(columns, model, framework("huggingface"), job(seq_len=8192, **changes))[0])


def flops(found: Table, phase: str) -> float:
    return float(sum(np.sum(row.flops * row.repeats) for row in found.rows() if row.phase == phase))


def saved(found: Table) -> float:
    return float(sum(np.sum(row.saved_bytes) for row in found.embedding))


@pytest.mark.parametrize("layers", [1, 2, 27])
@pytest.mark.parametrize("images", [1.0, 2.5])
def test_an_images_patches_pass_each_layer_of_the_encoder(images: float, layers: int) -> None:
    """2 (4 d^2 + 2 d f) for a patch, and 4 d for each patch that it attends to: all of its image."""
    model = load_model(NAME)
    tower = model.towers[0].model_copy(update={"num_layers": layers})
    model = model.model_copy(update={"towers": (tower,)})
    d, f = tower.hidden_size, tower.ffn_hidden_size
    by_hand = tower.num_layers * images * PATCHES * (2 * (4 * d * d + 2 * d * f) + 4 * d * PATCHES)
    seen, blind = table(model, images=images, image_patches=PATCHES), table(model)
    assert flops(seen, "forward") - flops(blind, "forward") == pytest.approx(by_hand, rel=1e-9)


def test_a_frozen_encoder_runs_forward_only_and_keeps_nothing() -> None:
    model = load_model(NAME)
    frozen = model.model_copy(update={"towers": tuple(t.model_copy(update={"frozen": True}) for t in model.towers)})
    seen = table(frozen, images=1.0, image_patches=PATCHES)
    assert flops(seen, "forward") > flops(table(model), "forward")
    assert flops(seen, "backward") == flops(table(model), "backward")
    assert saved(seen) == saved(table(frozen))
    assert saved(table(model, images=1.0, image_patches=PATCHES)) > saved(seen)


def test_recomputation_keeps_an_input_a_layer_of_the_encoder() -> None:
    """Full recomputation: 2 bytes of each patch's state in front of each layer (bf16)."""
    model = load_model(NAME)
    tower = model.towers[0]
    recomputed = {"recompute": "full"}
    kept = saved(table(model, images=1.0, image_patches=PATCHES, layout=recomputed, precision="bf16-pure"))
    kept -= saved(table(model, layout=recomputed, precision="bf16-pure"))
    assert kept == pytest.approx(2.0 * tower.num_layers * PATCHES * tower.hidden_size, rel=1e-9)


def plan(model: str = NAME, **changes: Any) -> planner.Plan:
    return planner.plan(
        model=model,
        cluster={"node": "dgx-h100"},
        framework={"name": "fsdp"},
        job={"seq_len": 8192, "global_batch_size": 64, "num_steps": 10, **changes},
    )


def test_a_step_with_images_is_slower_and_one_without_says_what_it_left_out() -> None:
    blind, seen = plan(), plan(images=2.0, image_patches=PATCHES)
    assert seen.step_time_s > blind.step_time_s
    assert any("0.576B parameters is held" in note and "job.images" in note for note in blind.notes)
    assert not any("job.images" in note for note in seen.notes)


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ("llama-3-8b", {"images": 1.0}, "no vision encoder"),
        (NAME, {"images": 1.0}, "job.image_patches = 0"),
        ("gemma-3-4b", {"images": 64.0}, "job.images = 64"),
        (NAME, {"images": -1.0}, "images"),
    ],
)
def test_images_that_cannot_be_seen_are_refused(model: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        plan(model, **changes)
