"""Specs as keys of caches: equal ones have equal hashes, variants of one base do not collide."""

from __future__ import annotations

import pickle
import subprocess
import sys

from planner.hardware.cluster import load_accelerator
from planner.model.catalog import load_model


def test_equal_specs_have_equal_hashes() -> None:
    base = load_model("mixtral-8x7b")
    assert hash(base.replaced(name="x")) == hash(base.replaced(name="x"))
    assert base.replaced(name="x") == base.replaced(name="x")


def test_variants_of_one_base_do_not_share_a_hash() -> None:
    base = load_model("llama-2-7b")
    variants = [base.replaced(ffn_hidden_size=11008 + 64 * i) for i in range(200)]
    assert len({hash(variant) for variant in variants}) == 200


def test_a_copy_with_changes_has_a_hash_of_its_own() -> None:
    card = load_accelerator("h100-sxm5-80gb")
    before = hash(card)
    changed = card.model_copy(update={"name": "other"})
    assert hash(changed) == hash(load_accelerator("h100-sxm5-80gb").model_copy(update={"name": "other"})) != before
    assert hash(card) == before


def test_a_hash_is_of_one_process_and_does_not_travel() -> None:
    """Hashes of text differ between processes: one that came along with a pickle would lose its object in every cache."""
    model = load_model("llama-2-7b")
    hash(model)
    code = (
        "import pickle, sys; from planner.model.catalog import load_model\n"
        "came, own = pickle.load(sys.stdin.buffer), load_model('llama-2-7b')\n"
        "print(hash(came) == hash(own), came == own)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(model), capture_output=True, check=True)
    assert done.stdout.split() == [b"True", b"True"]


def test_threads_that_use_a_class_first_see_its_own_validator() -> None:
    """Validators are built at first use; eight threads build and refuse models of a class and of its parts at once."""
    code = """
import sys, threading
sys.setswitchinterval(1e-6)
from planner.common.errors import PlannerError
from planner.model.architecture import Model
FIELDS = {"name": "m", "num_layers": 2, "hidden_size": 64, "num_heads": 4, "ffn_hidden_size": 128, "vocab_size": 100}
said, gate = [], threading.Barrier(8)
def use(i):
    gate.wait()
    try:
        made = Model(**FIELDS) if i % 2 else Model.build({**FIELDS, "colour": 1}, "there")
        said.append(made.hidden_size)
    except PlannerError as error:
        said.append("colour" in str(error))
    except BaseException as error:
        said.append(repr(error))
threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
[one.start() for one in threads]
[one.join() for one in threads]
print(sorted(said))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, True, True, True, 64, 64, 64, 64]"
