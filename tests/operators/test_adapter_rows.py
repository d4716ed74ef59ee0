"""Rows of adapters against what autograd really saves in transformers' layers under peft, on the CPU; and laws of freezing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from examples import eager, framework
from peft import LoraConfig, inject_adapter_in_model
from saved_tensors import saved_bytes
from test_saved_bytes import SHAPES, llama_sizes, rotary_inputs
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, LlamaConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from planner.model.architecture import Model
from planner.model.catalog import load_model
from planner.model.huggingface import model_from_config
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.adapters import tuned_model
from planner.workload.job import Job
from planner.workload.layout import Layout, as_columns
from planner.workload.precision import adapter_dtype

TARGETS = [
    ["q_proj", "v_proj"],
    ["q_proj", "k_proj", "v_proj", "o_proj"],
    ["gate_proj", "up_proj", "down_proj"],
    ["down_proj"],
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
]


def tuning_job(batch: int, sequence: int, adapter: dict[str, Any], precision: str = "bf16-pure") -> Job:
    fields = {"kind": "lora", "seq_len": sequence, "global_batch_size": batch, "precision": precision, "adapter": adapter}
    return Job.build(fields, "test")


def table(model: Model, work: Job, recompute: str = "none", stack: str = "huggingface", release: str = "") -> Table:
    columns = as_columns(Layout(micro_batch_size=work.global_batch_size, dp=1, recompute=recompute), 1)  # type: ignore[arg-type]
    runs = eager() if stack == "huggingface" else framework(stack, release=release)
    return build_table(distinct_axes(columns, tuned_model(model, work), runs, work)[0])


def layer_bytes(model: Model, work: Job, recompute: str = "none") -> list[float]:
    layers = table(model, work, recompute).layers
    return [
        float(np.sum(np.asarray(sum(row.saved_bytes for row in layers[kind])))) for kind in tuned_model(model, work).layer_kinds
    ]


def measure(
    layer: torch.nn.Module,
    hidden: int,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    lora: LoraConfig,
    needs_gradient: bool,
    recompute: bool = False,
    in_fp32: bool = False,
    **inputs: Any,
) -> int:
    layer = inject_adapter_in_model(lora, layer.to(dtype)).to(dtype).train()
    for name, parameter in layer.named_parameters():
        torch.nn.init.normal_(parameter, std=0.02)
        if in_fp32 and "lora_" in name:
            parameter.data = parameter.data.float()
    x = torch.randn(shape[0], shape[1], hidden, dtype=dtype, requires_grad=needs_gradient)
    shared = [*layer.parameters(), *layer.buffers(), *(t for v in inputs.values() for t in (v if isinstance(v, tuple) else (v,)))]

    def forward() -> Any:
        return checkpoint(layer, x, use_reentrant=False, **inputs) if recompute else layer(x, **inputs)

    return saved_bytes(forward, shared)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_adapted_llama_layer_keeps_what_autograd_keeps(
    shape: tuple[int, ...], targets: list[str], dropout: float, recompute: bool
) -> None:
    """A layer above the lowest adapter: gradients enter and leave it."""
    b, s, h, a, k, f = shape
    fields = {**llama_sizes(h, a, k, f), "num_hidden_layers": 2}
    config = LlamaConfig(**fields)
    config._attn_implementation = "eager"
    lora = LoraConfig(r=8, target_modules=targets, lora_dropout=dropout)
    dtype = torch.bfloat16
    real = measure(LlamaDecoderLayer(config, 0), h, (b, s), dtype, lora, True, recompute, **rotary_inputs(config, s, dtype))
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(b, s, {"rank": 8, "target_modules": targets, "dropout": dropout, "dtype": "same"})
    assert layer_bytes(model, work, "full" if recompute else "none")[1] == pytest.approx(real, rel=0.01)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_fp32_adapters_without_autocast_keep_what_autograd_keeps(
    shape: tuple[int, ...], targets: list[str], dropout: float
) -> None:
    """peft loads adapters in fp32 beside a 16-bit model; where no autocast narrows their products, inputs stay in fp32."""
    b, s, h, a, k, f = shape
    fields = {**llama_sizes(h, a, k, f), "num_hidden_layers": 2}
    config = LlamaConfig(**fields)
    config._attn_implementation = "eager"
    lora, dtype = LoraConfig(r=8, target_modules=targets, lora_dropout=dropout), torch.bfloat16
    layer, inputs = LlamaDecoderLayer(config, 0), rotary_inputs(config, s, dtype)
    real = measure(layer, h, (b, s), dtype, lora, True, in_fp32=True, **inputs)
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(b, s, {"rank": 8, "target_modules": targets, "dropout": dropout, "dtype": "fp32"})
    assert layer_bytes(model, work)[1] == pytest.approx(real, rel=0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targets", TARGETS[1:])  # of queries without keys eager attention drops the queries, fused keeps all
def test_first_adapted_layer_keeps_what_autograd_keeps(targets: list[str]) -> None:
    """Its input needs no gradient: what lies below the first adapter saves nothing."""
    b, s, h, a, k, f = SHAPES[0]
    fields = {**llama_sizes(h, a, k, f), "num_hidden_layers": 2}
    config = LlamaConfig(**fields)
    config._attn_implementation = "eager"
    dtype = torch.bfloat16
    lora = LoraConfig(r=8, target_modules=targets)
    real = measure(LlamaDecoderLayer(config, 0), h, (b, s), dtype, lora, False, **rotary_inputs(config, s, dtype))
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(b, s, {"rank": 8, "target_modules": targets, "dtype": "same"})
    assert layer_bytes(model, work)[0] == pytest.approx(real, rel=0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targets", [["c_attn"], ["c_attn", "c_proj", "c_fc"], ["c_proj"]])
def test_adapted_gpt2_block_keeps_what_autograd_keeps(targets: list[str]) -> None:
    b, s, h, a = 2, 48, 128, 8
    fields = {"n_embd": h, "n_head": a, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "n_layer": 2}
    config = GPT2Config(**fields)
    config._attn_implementation = "eager"
    lora = LoraConfig(r=4, target_modules=targets)
    real = measure(GPT2Block(config, 0), h, (b, s), torch.bfloat16, lora, True)
    model = model_from_config({"model_type": "gpt2", **fields}, "gpt2", "test")
    work = tuning_job(b, s, {"rank": 4, "target_modules": targets, "dtype": "same"})
    assert layer_bytes(model, work)[1] == pytest.approx(real, rel=0.01)


def test_int8_multiplies_packed_weights_forward_and_unpacks_them_backward() -> None:
    """bitsandbytes' MatMul8bitLt (Dettmers et al. 2022, arXiv 2208.07339): int8 forward, weights in 16 bit backward."""
    sizes = {"name": "m", "num_layers": 2, "hidden_size": 256, "num_heads": 4, "ffn_hidden_size": 512, "vocab_size": 256}
    fields = {"kind": "qlora", "seq_len": 64, "global_batch_size": 1, "adapter": {"rank": 4}, "quantization": {"format": "int8"}}
    rows = [row for rows in table(Model.build(sizes, "test"), Job.build(fields, "test")).layers.values() for row in rows]
    unpacked = [row.phase for row in rows if row.name.endswith("unpacked")]
    assert unpacked
    assert set(unpacked) == {"backward"}
    product = next(row for row in rows if row.name == "out projection" and row.phase == "forward")
    assert product.work is not None
    assert product.work.dtype == "int8"
    # one byte a token's value and a weight, four a result
    assert float(np.sum(product.bytes_moved)) == 64 * 512 + 512 * 256 + 4 * 64 * 256


@pytest.mark.parametrize(
    ("stack", "release", "width", "casts"), [("peft", "", 2, 0), ("peft-kbit", "", 4, 0), ("peft-kbit", "0.3", 2, 1)]
)
def test_layers_in_int8_keep_their_inputs_which_layers_in_4_bit_do_not(stack: str, release: str, width: int, casts: int) -> None:
    """bitsandbytes' MatMul8bitLt: A in the type that came in, which layers beside one another share, and until 0.44 each its CAt.

    What comes out has the type that came in, so that behind an fp32 norm the product of gate and up is in fp32, too. Adapters
    of queries whose dropout copies their input: of 64 tokens stay the norms' results (256 wide) and that product (512); fused
    attention keeps its own output. Cast are the inputs of q, k, v, o, gate, up (256) and down (512).
    """
    sizes = {"name": "m", "num_layers": 2, "hidden_size": 256, "num_heads": 4, "ffn_hidden_size": 512, "vocab_size": 256}
    adapter = {"rank": 4, "dropout": 0.1, "target_modules": ["q_proj"]}
    kept = {}
    for form in ("nf4", "int8"):
        work = tuning_job(1, 64, adapter, "fp16").replaced(kind="qlora", quantization={"format": form})
        rows = table(Model.build(sizes, "test"), work, stack=stack, release=release).layers
        kept[form] = sum(float(np.ravel(row.saved_bytes)[0]) for row in list(rows.values())[-1] if row.phase == "forward")
    assert kept["int8"] - kept["nf4"] == 64 * width * (256 + 256 + 512) + casts * 64 * (6 * 256 + 512)


@pytest.mark.parametrize(
    ("precision", "dtype", "dropout", "compiled", "input_bytes", "sum_bytes"),
    [
        ("bf16", "same", 0.0, False, None, 10.0),  # the base layer's own input; scaled (2 + 2) and added (2 + 2 + 2)
        ("bf16", "same", 0.1, False, 2 + 2 + 1, 10.0),  # dropout in 16 bit, with a mask of a byte; nothing to cast
        ("bf16", "fp32", 0.0, False, (2 + 4) + (4 + 2), 10.0),  # to fp32, and back for autocast's product
        ("bf16", "fp32", 0.1, False, (2 + 4) + (4 + 4 + 1) + (4 + 2), 10.0),  # dropout on the fp32 copy
        ("bf16-pure", "fp32", 0.0, False, 2 + 4, (4 + 4) + (2 + 4 + 4) + (4 + 2)),  # fp32 until the sum is cast
        ("bf16-pure", "fp32", 0.1, False, (2 + 4) + (4 + 4 + 1), 24.0),
        ("bf16", "same", 0.1, True, 2 + 2 + 1, 2.0),  # torch.compile: one kernel; the residual sum reads one tensor more
        ("bf16", "fp32", 0.1, True, 2 + 2 + 1, 2.0),
    ],
)
def test_bytes_of_an_adapters_own_input_and_sum(
    precision: str, dtype: str, dropout: float, compiled: bool, input_bytes: float | None, sum_bytes: float
) -> None:
    adapter = {"rank": 8, "target_modules": ["down_proj"], "dropout": dropout, "dtype": dtype}
    fields = {**llama_sizes(64, 4, 2, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(2, 16, adapter, precision)
    stack = framework("huggingface", compile=True) if compiled else framework("huggingface")
    columns = as_columns(Layout(micro_batch_size=2, dp=1), 1)
    layers = build_table(distinct_axes(columns, tuned_model(model, work), stack, work)[0]).layers
    moved = {(str(row.name), row.phase): float(np.ravel(row.bytes_moved)[0]) for row in list(layers.values())[-1]}
    wide, narrow = 2 * 16 * 176, 2 * 16 * 64
    assert moved.get(("down adapter input", "forward")) == (None if input_bytes is None else pytest.approx(input_bytes * wide))
    assert moved["down adapter sum", "forward"] == pytest.approx(sum_bytes * narrow)
    added = 2.0 if compiled else 6.0  # the activation's gradient reads it
    assert moved["down adapter input gradient sum", "backward"] == pytest.approx((added + (input_bytes or 0.0)) * wide)


@pytest.mark.parametrize(
    ("part", "bytes_of_sum", "of_gradient"), [("q_proj", 2.0, 2.0), ("v_proj", 6.0, 4.0), ("up_proj", 2.0, 2.0)]
)
def test_a_compiled_sum_is_part_of_the_kernel_that_reads_it(part: str, bytes_of_sum: float, of_gradient: float) -> None:
    """Inductor fuses pointwise chains: rotation and activation take the sum in, attention's kernel reads a tensor in memory."""
    fields = {**llama_sizes(64, 4, 4, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(2, 16, {"rank": 8, "target_modules": [part], "dtype": "same"})
    columns = as_columns(Layout(micro_batch_size=2, dp=1), 1)
    layers = build_table(distinct_axes(columns, tuned_model(model, work), framework("torchtune", compile=True), work)[0]).layers
    moved = {str(row.name): float(np.ravel(row.bytes_moved)[0]) for row in list(layers.values())[-1]}
    outputs = 2 * 16 * (176 if part == "up_proj" else 64)
    name = {"q_proj": "query", "v_proj": "value", "up_proj": "up"}[part]
    assert moved[f"{name} adapter sum"] == pytest.approx(bytes_of_sum * outputs)
    assert moved[f"{name} adapter sum gradient"] == pytest.approx(of_gradient * outputs)


@pytest.mark.parametrize("part", ["o_proj", "down_proj", "up_proj"])
def test_a_compiled_sum_does_not_reach_across_a_collective(part: str) -> None:
    """Partial sums of rows cut over ranks come together before the residual sum, gradients of columns' inputs before the norm."""
    fields = {**llama_sizes(64, 4, 4, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work, stack = tuning_job(2, 16, {"rank": 8, "target_modules": [part], "dtype": "same"}), framework("torchtitan", compile=True)
    found = {}
    for tp in (1, 2):
        columns = as_columns(Layout(tp=tp, sequence_parallel=tp > 1, micro_batch_size=2, dp=1), tp)
        layers = build_table(distinct_axes(columns, tuned_model(model, work), stack, work)[0]).layers
        for row in list(layers.values())[-1]:
            found[tp, str(row.name).partition(" adapter ")[2]] = float(np.ravel(row.kernels)[0])
    rows_cut = part != "up_proj"
    assert (found[1, "sum"], found[1, "sum gradient"]) == (0.0, 0.0)
    assert (found[2, "sum"], found[2, "sum gradient"]) == ((1.0, 1.0) if rows_cut else (0.0, 0.0))
    assert found[2, "input gradient sum"] == (0.0 if part == "down_proj" else 1.0)
    assert found[1, "input gradient sum"] == (1.0 if part == "o_proj" else 0.0)


@pytest.mark.parametrize(
    ("stack", "kind", "form", "kernels"),
    [
        ("peft", "qlora", "nf4", 2.0),  # bitsandbytes: the blocks' constants, then weights
        ("peft", "gptq-lora", "gptq-int4", 13.0),  # AutoGPTQ: torch operations
        ("peft-fused", "gptq-lora", "gptq-int4", 1.0),
    ],
)
def test_kernels_that_unpack_a_layers_weights(stack: str, kind: str, form: str, kernels: float) -> None:
    fields = {**llama_sizes(64, 4, 2, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(2, 16, {"rank": 8}, "bf16").replaced(kind=kind, quantization={"format": form})
    layer = list(table(model, work, stack=stack).layers.values())[-1]
    assert [float(np.ravel(r.kernels)[0]) for r in layer if str(r.name) == "out projection unpacked"] == [kernels, kernels]


@pytest.mark.parametrize(
    ("stack", "precision", "input_bytes", "sum_bytes", "kernels"),
    [
        ("peft", "bf16", None, 10 + 4, 3.0),  # autocast alone narrows; a copy of the 4-bit layer's result comes first
        ("peft", "bf16-pure", 2 + 4, (4 + 4) + (4 + 2) + 6 + 4, 4.0),  # B's result is cast before the sum
        ("torchtune", "bf16", None, 10, 2.0),
        ("peft-kbit", "bf16", 4 + 2, (2 + 2) + (2 + 4 + 4) + 8, 3.0),  # the layer takes and gives fp32
        ("peft-kbit", "bf16-pure", None, (4 + 4) + (4 + 4 + 4) + 8, 3.0),  # and so do the adapters: nothing to cast
    ],
)
def test_bytes_beside_a_4_bit_layer(
    stack: str, precision: str, input_bytes: float | None, sum_bytes: float, kernels: float
) -> None:
    """huggingface/peft, tuners/lora/bnb.py, Linear4bit.forward: casts only where autocast is off, result.clone()."""
    fields = {**llama_sizes(64, 4, 2, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(2, 16, {"rank": 8, "target_modules": ["down_proj"]}, precision)
    work = work.replaced(kind="qlora", quantization={"format": "nf4"})
    rows = {(str(r.name), r.phase): r for r in list(table(model, work, stack=stack).layers.values())[-1]}
    wide, narrow = 2 * 16 * 176, 2 * 16 * 64
    own = rows.get(("down adapter input", "forward"))
    assert (own and float(np.ravel(own.bytes_moved)[0])) == (None if input_bytes is None else pytest.approx(input_bytes * wide))
    summed = rows["down adapter sum", "forward"]
    assert float(np.ravel(summed.bytes_moved)[0]) == pytest.approx(sum_bytes * narrow)
    assert float(np.ravel(summed.kernels)[0]) == kernels


def test_a_4_bit_layer_that_an_fp32_norm_feeds_casts_in_and_out() -> None:
    """bitsandbytes, Linear4bit.forward: x.to(compute_dtype), out.to(inp_dtype); what lies between such layers is in fp32."""
    fields = {**llama_sizes(64, 4, 2, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(2, 16, {"rank": 8}, "bf16").replaced(kind="qlora", quantization={"format": "nf4"})
    plain, upcast = (
        {(str(r.name), r.phase): float(np.ravel(r.bytes_moved)[0]) for r in list(table(model, work, stack=s).layers.values())[-1]}
        for s in ("peft", "peft-kbit")
    )
    tokens = 2 * 16
    assert upcast["out projection casts", "forward"] == 6 * tokens * (176 + 64)
    assert upcast["in projection casts", "forward"] == 6 * tokens * (2 * 64 + 2 * 176)  # gate and up each cast the norm's result
    assert ("output projection casts", "forward") not in upcast  # attention's kernel writes 16 bit
    assert ("out projection casts", "forward") not in plain
    for name in ("activation", "rotary"):
        assert upcast[name, "forward"] == 2 * plain[name, "forward"]


def test_until_peft_0_4_norms_of_llama_stayed_in_16_bit() -> None:
    """peft 0.3, prepare_model_for_int8_training: layer_norm_names = ["layer_norm"]; Llama's is input_layernorm."""
    fields = {**llama_sizes(64, 4, 2, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(2, 16, {"rank": 8}, "fp16").replaced(kind="qlora", quantization={"format": "int8"})
    now, plain, old = (
        [
            (str(row.name), row.phase, float(np.ravel(row.bytes_moved)[0]))
            for block in table(model, work, stack=stack, release=release).layers.values()
            for row in block
        ]
        for stack, release in (("peft-kbit", ""), ("peft", ""), ("peft-kbit", "0.3"))
    )
    assert old == plain
    assert {name for name, *_ in now} - {name for name, *_ in old} >= {"in projection casts", "out projection casts"}


def test_adapters_in_fp32_share_the_fp32_input_of_an_upcast_layer() -> None:
    """huggingface/peft, _cast_input_dtype gives back what has the type already: query, key and value keep one fp32 tensor."""
    fields = {**llama_sizes(64, 4, 2, 176), "num_hidden_layers": 2}
    model = model_from_config({"model_type": "llama", **fields}, "llama", "test")
    work = tuning_job(2, 16, {"rank": 8, "target_modules": ["q_proj", "k_proj", "v_proj"]})
    work = work.replaced(kind="qlora", quantization={"format": "nf4"})
    rows = {(str(r.name), r.phase): r for r in list(table(model, work, stack="peft-kbit").layers.values())[-1]}
    assert not [name for name, _ in rows if name.endswith("adapter input")]
    kept = [float(np.ravel(rows[f"{part} adapter A", "forward"].saved_bytes)[0]) for part in ("query", "key", "value")]
    assert kept == [4 * 2 * 16 * 64, 0.0, 0.0]


def test_peft_until_0_11_kept_adapters_in_the_type_of_16_bit_weights() -> None:
    """huggingface/peft 0.11, tuners/lora/layer.py, update_layer: to(dtype=weight.dtype) where the weight is a float."""
    work = tuning_job(1, 8, {"rank": 8})
    packed = work.replaced(kind="qlora", quantization={"format": "nf4"})
    for stack, plain, quantized in (("peft", "fp32", "fp32"), ("qwen", "same", "fp32"), ("torchtune", "same", "same")):
        assert (adapter_dtype(work, framework(stack)), adapter_dtype(packed, framework(stack))) == (plain, quantized)


def test_a_frozen_head_keeps_what_gradients_pass_and_no_input_of_its_matrix() -> None:
    """BERT's head under LoRA, 16 bit: the gradient of x W^T with respect to x needs W alone; an activation its input still."""
    bert = load_model("bert-base-mlm")
    work = tuning_job(2, 64, {"rank": 8, "target_modules": ["query", "value"]})
    rows = {row.name: row for row in table(bert, work).rows() if row.phase == "forward"}
    saved = {name: float(np.max(np.asarray(row.saved_bytes))) for name, row in rows.items()}
    assert saved["transform"] == 0.0
    assert saved["transform activation"] == 2 * 2 * 64 * 768
    assert saved["transform norm"] >= 2 * 2 * 64 * 768
    assert not [row for row in table(bert, work).rows() if row.operator == "transform" and row.role == "weight gradient"]


@pytest.mark.parametrize("stack", ["torchtitan", "huggingface"])  # a loss in chunks, and one of all tokens
@pytest.mark.parametrize("more", [{}, {"target_modules": ["q_proj", "lm_head"]}, {"modules_to_save": ["lm_head"]}])
def test_the_output_layer_has_a_weight_gradient_where_it_trains(stack: str, more: dict[str, Any]) -> None:
    model = model_from_config({"model_type": "llama", **llama_sizes(64, 4, 4, 176), "num_hidden_layers": 2}, "llama", "test")
    adapter = {"rank": 8, "target_modules": ["q_proj"], "dtype": "same", **more}
    rows = [row for row in table(model, tuning_job(2, 16, adapter), stack=stack).head if row.operator == "logits"]
    gradients = [row for row in rows if row.role == "weight gradient"]
    chunks = framework(stack).loss_chunks
    trains = "modules_to_save" in more
    assert len(gradients) == (0 if not trains else 1 if chunks is None else 2)  # and the chunks' sum
    assert rows
