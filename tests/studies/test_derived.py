"""What-if models: counts by hand, files that come back as they were, errors that name the option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from planner.cli.main import app
from planner.common.errors import PlannerError
from planner.common.spec import read_table
from planner.model.catalog import load_model, model_names
from planner.model.parameters import layer_parameters, parameters_active, parameters_total
from planner.scenarios.scenario import read_scenario
from planner.studies.what_if import Changes, derive, forward_flops, model_text, weight_bytes


def test_every_model_comes_back_from_its_own_text(tmp_path: Path) -> None:
    for name in model_names():
        path = tmp_path / f"{name}.toml"
        path.write_text(model_text(load_model(name)))
        again = load_model(str(path))
        assert again.model_dump(exclude={"provenance"}) == load_model(name).model_dump(exclude={"provenance"})
        assert read_table(path)["name"] == name


def test_dropping_layers_drops_their_parameters_and_nothing_else() -> None:
    for base in map(load_model, model_names()):
        dropped = (base.num_layers - 1,)
        after = derive(base, Changes(drop_layers=dropped), "less").after
        gone = sum(t.elements for i in dropped for t in layer_parameters(base, base.layer_kinds[i]))
        # and, of a table of each layer's own vectors, the columns of that layer (Gemma 3n, Gemma 4)
        gone += base.per_layer_embedding_size * ((base.per_layer_vocab_size or base.vocab_size) + base.hidden_size)
        assert parameters_total(base) - parameters_total(after) == gone, base.name
        assert after.layer_kinds == base.layer_kinds[:-1], base.name


def test_keeping_is_dropping_the_others() -> None:
    base = load_model("gpt-oss-20b")
    kept = derive(base, Changes(keep_layers=(0, 1, 2, 5)), "x").after
    dropped = derive(base, Changes(drop_layers=tuple(i for i in range(base.num_layers) if i not in (0, 1, 2, 5))), "x").after
    assert kept.model_dump(exclude={"provenance"}) == dropped.model_dump(exclude={"provenance"})
    assert kept.layer_kinds == tuple(base.layer_kinds[i] for i in (0, 1, 2, 5))


def test_a_trimmed_vocabulary_drops_rows_of_both_tables() -> None:
    base = load_model("qwen2.5-7b")
    after = derive(base, Changes(vocab_size=100_000), "x").after
    rows = 1 if base.tied_embeddings else 2
    assert parameters_total(base) - parameters_total(after) == rows * (base.vocab_size - 100_000) * base.hidden_size


def test_dropping_experts_saves_their_parameters_and_no_flops_but_the_router_s() -> None:
    """Mixtral: each expert 3 x 4096 x 14336 weights in each of 32 layers, and a row of the router."""
    base = load_model("mixtral-8x7b")
    after = derive(base, Changes(experts_kept=6), "x").after
    assert parameters_total(base) - parameters_total(after) == 2 * 32 * (3 * 4096 * 14336 + 4096)
    assert forward_flops(base) - forward_flops(after) == 2.0 * (parameters_active(base) - parameters_active(after))
    assert parameters_active(base) - parameters_active(after) == 2 * 32 * 4096


def test_heads_and_widths_prune_as_counted_by_hand() -> None:
    """llama-2-7b without a quarter of its heads and feed-forward: 4 x 4096 x 1024 and 3 x 4096 x 2752 weights a layer."""
    base = load_model("llama-2-7b")
    after = derive(base, Changes(num_heads=24, ffn_hidden_size=8256), "x").after
    assert parameters_total(base) - parameters_total(after) == 32 * (4 * 4096 * 1024 + 3 * 4096 * 2752)


def test_single_zeros_save_nothing_and_the_answer_says_so() -> None:
    base = load_model("llama-2-7b")
    found = derive(base, Changes(sparsity=0.5), "x")
    assert all(row["before"] == row["after"] for row in found.rows())
    assert "2:4" in found.notes[0]


def test_fewer_bits_never_take_more_bytes() -> None:
    for name in model_names():
        m = load_model(name)
        fp32, fp16, int8 = (weight_bytes(m, p) for p in ("fp32", "fp16", "int8"))
        assert fp32 == 2.0 * fp16 == 4.0 * int8, name
        assert weight_bytes(m, "nf4") < fp16, name


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama-2-7b", {}, "nothing changes"),
        ("llama-2-7b", {"vocab_size": 40_000}, "--vocab-size 40000: must be 1 to 32000"),
        ("llama-2-7b", {"drop_layers": (32,)}, "--drop-layers 32: llama-2-7b has layers 0 to 31"),
        ("llama-2-7b", {"drop_layers": tuple(range(32))}, "keep at least one"),
        ("llama-2-7b", {"drop_layers": (1,), "keep_layers": (2,)}, "exclude each other"),
        ("llama-2-7b", {"experts_kept": 2}, "llama-2-7b is dense"),
        ("mixtral-8x7b", {"experts_kept": 1}, "must be 2 (top_k) to 8"),
        ("llama-2-7b", {"expert_ffn_hidden_size": 2}, "has no experts"),
        ("llama-3-8b", {"num_heads": 30}, "8 key-value heads do not divide them"),
        ("llama-2-7b", {"ffn_hidden_size": 20_000}, "--width-ffn 20000: pruning keeps 1 to 11008"),
        (
            "mixtral-8x7b",
            {"ffn_hidden_size": 7168, "num_heads": 16},
            "--width-ffn 7168: every layer kept of mixtral-8x7b has experts",
        ),
        ("deepseek-v2-lite", {"num_kv_heads": 4, "num_heads": 8}, "--width-kv-heads 4: deepseek-v2-lite has latent attention"),
        ("llama-2-7b", {"sparsity": 1.5}, "--sparsity 1.5"),
        ("deepseek-v2-lite", {"keep_layers": (0,)}, "leaves no layer with experts"),
    ],
)
def test_bad_changes_are_errors_that_name_the_option(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlannerError) as error:
        derive(load_model(name), Changes(**changes), "x")
    assert message in str(error.value)


@pytest.mark.parametrize("field", ["ffn_hidden_size", "expert_ffn_hidden_size", "num_heads", "num_kv_heads"])
def test_a_width_changes_the_parameters_or_is_refused(field: str) -> None:
    for base in map(load_model, model_names()):
        old = getattr(base, field) or 2
        try:  # beside another change, so that "nothing changes" does not catch it
            after = derive(base, Changes(vocab_size=base.vocab_size - 8, **{field: max(old // 2, 1)}), "x").after
        except PlannerError:
            continue
        whole = derive(base, Changes(vocab_size=base.vocab_size - 8), "x").after
        assert old == 1 or parameters_total(after) < parameters_total(whole), base.name


def test_a_derived_model_is_used_by_its_path_in_a_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    out = tmp_path / "small.toml"
    result = CliRunner().invoke(app, ["models", "derive", "llama-2-7b", "--drop-layers", "8-31", "-o", str(out), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model"]["num_layers"] == 8
    (tmp_path / "s.toml").write_text(
        '[model]\nname = "small.toml"\n[cluster]\nnode = "dgx-a100-80gb"\n[framework]\nname = "peft"\n'
        '[job]\nkind = "lora"\nseq_len = 512\nglobal_batch_size = 8\n[job.adapter]\nrank = 8\n'
    )
    monkeypatch.chdir(Path(__file__).parent)
    assert read_scenario(tmp_path / "s.toml").cases[0].plan().model.num_layers == 8


def test_tune_prints_three_methods_side_by_side() -> None:
    from typer.testing import CliRunner

    scenario = ROOT / "scenarios" / "qwen-7b-lora.toml"
    result = CliRunner().invoke(app, ["tune", str(scenario), "--rank", "4", "--json"])
    found = {m["method"]: m for m in json.loads(result.stdout)["methods"]}
    assert set(found) == {"full", "lora", "qlora"}
    assert found["lora"]["parameters_trainable"] == 4 * 8192 * 2 * 32
    assert found["lora"]["stored_bytes"] < found["full"]["stored_bytes"]
    need = {name: m["plan"]["peak_total_bytes"] for name, m in found.items()}
    assert need["qlora"] < need["full"]
    text = CliRunner().invoke(app, ["tune", str(scenario), "--methods", "lora"])
    assert text.exit_code == 0
    assert "trainable parameters" in text.stdout


def test_tuning_in_8_bit_says_what_would_be_right(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    fp8 = tmp_path / "fp8.toml"
    fp8.write_text(
        '[model]\nname = "llama-2-7b"\n[cluster]\nnode = "dgx-h100"\n[framework]\nname = "fsdp"\n'
        '[job]\nseq_len = 2048\nglobal_batch_size = 64\nprecision = "fp8"\n[layout]\nzero = 2\n'
    )
    failed = CliRunner().invoke(app, ["tune", str(fp8)])
    assert failed.exit_code != 0
    said = str(failed.exception)
    assert "qlora: job: precision = 'fp8'" in said
    assert "use precision = 'bf16'" in said
    assert said.endswith("Or leave qlora out: --methods full,lora.")
    assert CliRunner().invoke(app, ["tune", str(fp8), "--methods", "full,lora"]).exit_code == 0  # the advice holds
    fp8.write_text(fp8.read_text().replace("fp8", "bf16"))
    assert CliRunner().invoke(app, ["tune", str(fp8)]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rank", "0"], "rank"),
        (["--targets", "nope"], "'nope' is no linear layer"),
        (["--methods", "dora"], "--methods dora: must be one of lora, "),
    ],
)
def test_bad_input_to_tune_is_explained(arguments: list[str], message: str) -> None:
    from typer.testing import CliRunner

    scenario = ROOT / "scenarios" / "qwen-7b-lora.toml"
    result = CliRunner().invoke(app, ["tune", str(scenario), *arguments])
    assert isinstance(result.exception, PlannerError)
    assert message in str(result.exception)
