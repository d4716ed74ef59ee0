"""Models that make vectors: encoders, embedding models and rerankers read prompts and write no text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import planner
from planner.common.errors import PlannerError
from planner.export.servers import export_deployment
from planner.launchfiles import read_launch
from planner.model.catalog import load_model
from planner.model.parameters import parameters_total
from planner.serving import Deployment, load_engine, serve
from planner.serving.curves import client_curve, curve, load_curve
from planner.serving.deployment import capacity_of
from planner.serving.engine import engine_names
from planner.serving.feasibility import usual_passage
from planner.serving.rows import pass_rows


def asked(model: str, gpus: str = "l4", **serving: object) -> Deployment:
    fields = {"engine": "vllm", "weights": "bf16", "prompt": 512, **serving}
    return serve(model=model, cluster={"accelerator": gpus, "num_gpus": 1}, serving=fields, price={"usd_per_gpu_hour": 0.8})


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("bge-m3", 567_754_752),
        ("all-minilm-l6-v2", 22_713_216),
        ("bge-small-en-v1.5", 33_360_000),
        ("qwen3-embedding-0.6b", 595_776_512),
        ("qwen3-embedding-4b", 4_021_774_336),
        ("qwen3-embedding-8b", 7_567_295_488),
    ],
)
def test_parameters_are_those_that_the_hub_shows(model: str, published: int) -> None:
    """Totals of the repositories' safetensors."""
    assert parameters_total(load_model(model)) == published


def test_a_reranker_has_one_score_more() -> None:
    """A vector of 1,024 numbers and a bias: 567,754,752 + 1,025."""
    assert parameters_total(load_model("bge-reranker-v2-m3")) == 567_754_752 + 1_025


def test_flops_of_a_prompt_by_hand() -> None:
    """bge-m3, 512 tokens: each layer multiplies by 4 h^2 + 8 h^2 weights, and all tokens attend to all: 4 h t^2."""
    d = asked("bge-m3")
    rows = pass_rows(d.times.setting, d.times.shape("prefill", 1.0, 512.0, 0.0))
    h, t, layers = 1024.0, 512.0, 24.0
    linear = layers * 2.0 * t * 12.0 * h**2
    attention = layers * 4.0 * h * t**2
    assert sum(row.repeats * float(np.sum(row.flops)) for row in rows) == pytest.approx(linear + attention)


def test_an_encoder_keeps_no_cache_and_takes_two_bytes_a_weight() -> None:
    """567,754,752 weights in bf16; nothing for 64 requests more than for one but the places."""
    d = asked("bge-m3", batch=64)
    assert d.memory_bytes["kv_cache"] == 0.0
    assert d.kv_bytes_per_token == 0.0
    assert d.memory_bytes["weights"] == pytest.approx(2.0 * 567_754_752)
    assert d.max_batch == 256  # vLLM's places on a card below 70 GiB


def test_vectors_a_second_and_dollars_by_hand() -> None:
    """One at a time: a vector each latency; $0.80 an hour over 512 tokens of each; no figure of written tokens."""
    d = asked("bge-m3")
    assert d.requests_per_s == pytest.approx(1.0 / d.ttft_s)
    assert d.e2e_s == d.ttft_s
    assert (d.tpot_s, d.decode_tokens_per_s, d.output_tokens_per_s) == (None, None, None)
    assert d.expense.usd_per_million_input_tokens == pytest.approx(0.8 / 3600.0 / (d.requests_per_s * 512.0) * 1e6)
    assert d.expense.usd_per_million_tokens_in_and_out == pytest.approx(d.expense.usd_per_million_input_tokens)
    assert (d.expense.usd_per_million_tokens, d.expense.usd_per_million_output_tokens) == (None, None)
    assert d.expense.joules_per_token == pytest.approx(d.expense.power_w / (d.requests_per_s * 512.0))


def test_a_full_server_takes_full_passes() -> None:
    """vLLM's pass of 2,048 tokens on a card below 70 GiB holds 4 prompts of 512: the capacity is 4 over the seconds of it."""
    d = asked("bge-m3", clients=256)
    full = 4.0 / float(d.times.prefill_s(512.0, 4.0))
    assert capacity_of(d) == pytest.approx(full, rel=0.05)
    assert d.load.requests_per_s == pytest.approx(full, rel=0.05)


@pytest.mark.parametrize("engine", [name for name in engine_names() if "embeddings" in load_engine(name).features])
@pytest.mark.parametrize("model", ["all-minilm-l6-v2", "bge-m3", "qwen3-embedding-0.6b"])
def test_no_engine_multiplies_faster_than_the_chip(engine: str, model: str) -> None:
    """Capacity x flops of a prompt stays under the dense peak, also where launching takes longer than the kernels."""
    d = asked(model, engine=engine)
    rows = pass_rows(d.times.setting, d.times.shape("prefill", 1.0, 512.0, 0.0))
    flops = sum(row.repeats * float(np.sum(row.flops)) for row in rows)
    capacity = capacity_of(d)
    assert capacity * flops < d.cluster.accelerator.peak("bf16")
    assert capacity >= 0.9 / (d.ttft_s or 0.0)  # full passes are no slower than one prompt at a time


def test_a_decoder_that_embeds_leaves_its_head_away() -> None:
    """Llama 3.1 8B without its output layer of 128,256 x 4,096; it answers sooner than the first token comes."""
    text = asked("llama-3.1-8b", "h100-sxm5-80gb", output=1)
    vector = asked("llama-3.1-8b", "h100-sxm5-80gb", embeds=True)
    assert text.parameters_total - vector.parameters_total == 128_256 * 4_096
    assert vector.ttft_s < text.ttft_s
    assert vector.serving.embeds
    assert not text.serving.embeds
    assert any("head" in note for note in vector.notes)


def test_a_masked_head_is_not_served() -> None:
    """XLM-RoBERTa: dense h^2 + h, norm 2 h, bias of 250,002 words go."""
    whole = load_model("xlm-roberta-large")
    served = asked("xlm-roberta-large")
    assert parameters_total(whole) - served.parameters_total == 1024**2 + 3 * 1024 + 250_002


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"output": 64}, r"^serving.output = 64: bert-large makes vectors, no text; leave serving.output \(--output\) out"),
        ({"output": 64, "embeds": True}, "serving.output = 64: bert-large makes vectors"),
        ({"embeds": False, "output": 1}, "makes vectors, no text"),
        ({"speculative": {"tokens": 4, "acceptance": 0.7}}, "no text is decoded"),
        ({"requests_per_s": 1.0, "tpot_target_s": 0.1}, "no text is decoded"),
        ({"kv_dtype": "fp8"}, r"serving\.kv_dtype = 'fp8': .*keeps no cache"),
        ({"prefix_cache_hit_rate": 0.5}, r"serving\.prefix_cache_hit_rate = 0\.5: .*reads a prompt at once"),
        ({"chunked_prefill_tokens": 256}, r"serving\.chunked_prefill_tokens = 256: .*reads a prompt at once"),
        ({"block_size": 16}, r"serving\.block_size = 16: .*keeps no cache"),
        ({"pp": 2}, r"serving\.pp = 2: .*served on one stage"),
        ({"prompt": 1024}, "positions for 512"),
        ({"engine": "tgi"}, "makes vectors, which it does not"),
    ],
)
def test_what_an_encoder_cannot_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(PlannerError, match=says):
        asked("bert-large", **fields)


def test_no_curve_of_tokens() -> None:
    with pytest.raises(PlannerError, match="no curve of tokens"):
        curve(asked("bge-m3"))


@pytest.mark.parametrize(
    ("model", "most"), [("xlm-roberta-large", 512), ("bge-m3", 8192), ("bge-reranker-v2-m3", 8192), ("bert-large", 512)]
)
def test_positions_begin_behind_the_paddings(model: str, most: int) -> None:
    """RoBERTa's table has 514 rows, of which those up to its padding's hold no token: served and trained alike."""
    work = {"seq_len": most, "global_batch_size": 8}
    assert asked(model, prompt=most).fits
    planner.plan(model=model, cluster="1xh100", job=work)
    with pytest.raises(PlannerError, match=rf"prompt reaches {most + 1:,} tokens: .* positions for {most:,};"):
        asked(model, prompt=most + 1)
    with pytest.raises(PlannerError, match=rf"seq_len = {most + 1}: .* for {most:,} tokens"):
        planner.plan(model=model, cluster="1xh100", job={**work, "seq_len": most + 1})


@pytest.mark.parametrize("model", ["opt-125m", "bart-base", "mbart-large-50"])
def test_two_rows_in_front_of_a_table_hold_no_token(model: str) -> None:
    """OPTLearnedPositionalEmbedding and BartLearnedPositionalEmbedding: offset = 2."""
    rows = load_model(model).max_positions
    assert rows in (1026, 2050)
    with pytest.raises(PlannerError, match=f"for {rows - 2:,} tokens"):
        planner.plan(model=model, cluster="1xh100", job={"seq_len": rows - 1, "global_batch_size": 8})


def test_curves_of_vectors_have_no_figure_of_written_tokens() -> None:
    for table in (load_curve(asked("bge-m3"), (0.5,)), client_curve(asked("bge-m3"), (4,))):
        assert not [name for name in table if name.startswith(("tpot", "output"))]
        assert (table["ttft_s_mean"] > 0).all()


@pytest.mark.parametrize(
    ("server", "flag"), [("vllm", "--runner pooling"), ("sglang", "--is-embedding"), ("llama.cpp", "--embedding")]
)
@pytest.mark.parametrize("model", ["bge-m3", "llama-3.1-8b"])
def test_a_server_of_vectors_is_written_and_read_back(server: str, flag: str, model: str, tmp_path: Path) -> None:
    """Flags of vLLM's serve, SGLang's server_args.py and llama-server; what is read asks for vectors again."""
    d = asked(model, "h100-sxm5-80gb", engine=server, embeds=True)
    written = export_deployment(d, server)["launch.sh"]
    assert flag in written
    (tmp_path / "launch.sh").write_text(written)
    again = read_launch([tmp_path / "launch.sh"])
    assert again.tables["serving"]["embeds"] is True
    assert "output" not in again.tables["serving"]


def test_a_plain_command_of_an_encoder_asks_for_vectors(tmp_path: Path) -> None:
    """The model alone says it: vllm serve BAAI/bge-m3."""
    (tmp_path / "serve.sh").write_text("vllm serve bge-m3 --max-num-seqs 64\n")
    found = read_launch([tmp_path / "serve.sh"], cluster={"accelerator": "l4", "num_gpus": 1})
    assert found.tables["serving"]["prompt"] == 512
    assert "output" not in found.tables["serving"]


@pytest.mark.parametrize(("model", "tokens"), [("bge-m3", 8192), ("bge-m3", 400), ("llama-3.1-8b", 4096)])
def test_a_physical_batch_of_llama_cpp_holds_an_encoders_prompt(model: str, tokens: int, tmp_path: Path) -> None:
    """llama-server: "input is too large to process; increase the physical batch size" of a prompt that attends to all of itself
    (tools/server/server.cpp); n_ubatch <= n_batch = 2048 (common/common.h)."""
    d = asked(model, "h100-sxm5-80gb", engine="llama.cpp", embeds=True, prompt=tokens)
    written = export_deployment(d, "llama.cpp")["launch.sh"]
    said = dict(re.findall(r"--(u?batch-size) (\d+)", written))
    physical, logical = int(said["ubatch-size"]), int(said.get("batch-size", 2048))
    assert physical <= logical
    assert physical >= (tokens if d.model.architecture == "encoder" else 512)
    (tmp_path / "launch.sh").write_text(written)
    tables = read_launch([tmp_path / "launch.sh"]).tables
    again = serve(**{name: tables[name] for name in ("model", "cluster", "serving")})
    assert again.ttft_s == pytest.approx(d.ttft_s)
    assert again.times.setting.pass_tokens == physical


@pytest.mark.parametrize("model", ["deberta-v3-large", "albert-base-v2"])
def test_layers_that_an_engine_lacks_are_refused(model: str) -> None:
    """vLLM and llama.cpp run BERT's layers, not those of DeBERTa and ALBERT (their lists of models); transformers has both."""
    for engine in engine_names():
        if not engine.startswith("huggingface"):
            with pytest.raises(PlannerError, match=r"(engines that do: |use )huggingface"):
                asked(model, engine=engine)
    assert asked(model, engine="huggingface").fits
    assert serve(model=model, cluster={"accelerator": "l4", "num_gpus": 1}, serving={"prompt": 128}).engine.name == "huggingface"


@pytest.mark.parametrize("model", ["bge-m3", "all-minilm-l6-v2", "qwen3-embedding-0.6b", "bge-reranker-v2-m3"])
def test_a_size_of_vectors_is_what_serve_answers(model: str) -> None:
    """The capacity of ``serve`` in tokens read, and dollars of a million of them; of a batch what it takes."""
    (row,) = planner.sizes(model, "serve", accelerator="l4", engine="vllm", price={"usd_per_gpu_hour": 0.8}).rows
    tokens = usual_passage(load_model(model))
    d = asked(model, weights=load_model(model).stored_weights or "bf16", prompt=tokens)
    assert row.num_gpus == 1
    assert row.tokens_per_s == pytest.approx(capacity_of(d) * tokens, rel=0.02)
    assert row.usd_per_million_tokens == pytest.approx(0.8 / 3600.0 / row.tokens_per_s * 1e6)
    (four,) = planner.sizes(model, "serve", accelerator="l4", engine="vllm", prompt=256, batch=4).rows
    assert four.tokens_per_s == pytest.approx(asked(model, prompt=256, batch=4).requests_per_s * 256)


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ({"output": 8}, "--output 8: bert-large makes vectors, no text; leave it out"),
        ({"prompt": 256, "seq_len": 256}, "--prompt 256: the text is --seq-len 256 already"),
        ({"prompt": 1000}, "reaches 1,000 tokens: bert-large has positions for 512"),
        ({"prompt": 0}, "--prompt 0: must be a whole number of at least 1"),
    ],
)
def test_lengths_that_a_size_of_vectors_cannot_take(lengths: dict[str, int], says: str) -> None:
    with pytest.raises(PlannerError, match=says):
        planner.sizes("bert-large", "serve", accelerator="l4", **lengths)
