"""Other names of fields and values lead to fields and values that there are."""

from __future__ import annotations

from collections import Counter

import pytest

from planner.common.errors import near
from planner.common.spellings import FIELDS, VALUES, WITHOUT_EFFECT, ours, places, plain
from planner.scenarios.fields import TABLES, choices, declared, table_fields
from planner.workload.tuning import Adapter

NAMES = {table: {note.name for note in table_fields(table)} for table in TABLES}
CHOICES = {str(value) for table in TABLES.values() for _, annotation, _ in declared(table) for value in choices(annotation)}


@pytest.mark.parametrize("place", FIELDS)
def test_a_place_is_a_table_or_a_field_of_one(place: str) -> None:
    table, dot, field = place.partition(".")
    field, inner, of_adapter = field.partition(".")
    assert table in NAMES
    assert not dot or field in NAMES[table], place
    assert not inner or (place.startswith("job.adapter.") and of_adapter in Adapter.model_fields), place


def test_a_name_leads_to_one_field_of_a_table() -> None:
    found = Counter((place.partition(".")[0], name) for place, names in FIELDS.items() for name in names.split() if "." in place)
    assert not [pair for pair, times in found.items() if times > 1]


def test_no_field_is_another_name_of_its_own_table() -> None:
    """A name that the table has is never unknown there, so no message could come of it."""
    known = [(place, name) for place, names in FIELDS.items() for name in names.split() if "." in place]
    assert not [pair for pair in known if pair[1] in NAMES[pair[0].partition(".")[0]]]


def test_other_names_are_written_plainly() -> None:
    names = [name for names in (*FIELDS.values(), *VALUES.values(), WITHOUT_EFFECT) for name in names.split()]
    assert [name for name in names if plain(name) != name] == []


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_one_that_some_field_takes(value: str) -> None:
    assert value in CHOICES


def test_what_has_no_effect_is_no_field() -> None:
    assert not {*WITHOUT_EFFECT.split()} & {name for names in NAMES.values() for name in names}


# options of Megatron-LM (training/arguments.py), DeepSpeed (config-json), Hugging Face (TrainingArguments), vLLM (engine_args)
@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("--tensor-model-parallel-size", "layout.tp"),
        ("--expert-model-parallel-size", "layout.ep"),
        ("train_micro_batch_size_per_gpu", "layout.micro_batch_size"),
        ("per_device_train_batch_size", "layout.micro_batch_size"),
        ("gradient_checkpointing", "layout.recompute"),
        ("--gpu-memory-utilization", "serving.memory_fraction"),
        ("--max-num-seqs", "serving.max_batch"),
    ],
)
def test_options_of_known_trainers_and_servers(option: str, place: str) -> None:
    assert places(option) == (place,)
    table, _, field = place.partition(".")
    assert near(option, NAMES[table]) == f"did you mean {field}?"
    assert not ours("colour", FIELDS)
