"""Parameters, saved bytes and flops of the real modules against the planner's rows; blocks against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from examples import framework, job
from saved_tensors import saved_bytes
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from kernels.optimizers import adamw
from kernels.probes import fused_attention
from kernels.transformer import (
    Choices,
    DecoderBlock,
    EncoderBlock,
    ModelConfig,
    RMSNorm,
    Transformer,
    build,
    rotary_angles,
    rotate,
)
from kernels.transformer import eager as eager_attention
from kernels.transformer import flash as flash_attention
from planner.calibration.records import model_from_fields
from planner.model.architecture import Model
from planner.model.parameters import parameters_total
from planner.operators.setting import distinct_axes
from planner.operators.table import Table, build_table
from planner.workload.layout import Layout, as_columns

DENSE: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 128, "num_heads": 8, "num_kv_heads": 2, "head_dim": 16, "ffn_hidden_size": 352,
    "vocab_size": 331,
}  # fmt: skip
MOE = {**DENSE, "num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 160}
SHARED = {**MOE, "num_experts": 16, "top_k": 4, "num_shared_experts": 2, "num_dense_layers": 1}
ENCODER = {**DENSE, "architecture": "encoder", "num_kv_heads": 8, "tied_embeddings": True}
MODELS = {
    "dense": DENSE,
    "moe": MOE,
    "shared": SHARED,
    "encoder": ENCODER,
    "tied": {**DENSE, "tied_embeddings": True},
    "dropout": {**ENCODER, "hidden_dropout": 0.1},
}
BATCH, LENGTH = 2, 64


def planner_model(fields: dict[str, Any]) -> Model:
    return model_from_fields(ModelConfig(**fields).fields(), "test")


def table(fields: dict[str, Any], dtype: torch.dtype, attention: str, recompute: str) -> Table:
    columns = as_columns(Layout(micro_batch_size=BATCH, dp=1, recompute=recompute), 1)  # type: ignore[arg-type]
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16-pure"}[dtype]
    stack = framework("kernels", attention_kernel=attention, repeats_kv_heads=attention == "eager", fused_norm=False)
    work = job(seq_len=LENGTH, global_batch_size=BATCH, precision=precision)
    return build_table(distinct_axes(columns, planner_model(fields), stack, work)[0])


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_counted_to_the_last_one(name: str) -> None:
    model = build(ModelConfig(**MODELS[name]), Choices(), "cpu", torch.float32)
    assert sum(p.numel() for p in model.parameters()) == parameters_total(planner_model(MODELS[name]))


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["flash", "eager"])
@pytest.mark.parametrize("name", ["dense", "moe", "shared", "encoder", "dropout"])
def test_block_saves_what_the_rows_say(name: str, attention: str, dtype: torch.dtype, recompute: str) -> None:
    config = ModelConfig(**MODELS[name])
    kind = EncoderBlock if config.architecture == "encoder" else DecoderBlock
    torch.manual_seed(0)
    block = kind(config, Choices(attention=attention), 1).to(dtype).train()  # type: ignore[arg-type]
    x = torch.randn(BATCH, LENGTH, config.hidden_size, dtype=dtype, requires_grad=True)
    angles = None
    if config.architecture == "decoder":
        cos, sin = rotary_angles(LENGTH, config.head_dim, x.device)
        angles = (cos.to(dtype)[:, None], sin.to(dtype)[:, None])

    def forward() -> Any:
        return checkpoint(block, x, angles, use_reentrant=False) if recompute == "full" else block(x, angles)

    forward()  # the first call tries which kernels work here; what that saves is not the block's
    real = saved_bytes(forward, [*block.parameters(), *(angles or ())])
    layers = table(MODELS[name], dtype, attention, recompute).layers
    rows = layers[list(layers)[-1]]
    assert float(sum(r.saved_bytes for r in rows)[0]) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["dense", "tied"])
def test_embedding_and_head_save_what_the_rows_say(name: str, dtype: torch.dtype) -> None:
    config = ModelConfig(**{**MODELS[name], "num_layers": 1})
    model = build(config, Choices(), "cpu", dtype)
    model.blocks = torch.nn.ModuleList()
    ids = torch.randint(0, config.vocab_size, (BATCH, LENGTH))
    real = saved_bytes(lambda: model(ids, ids), model.parameters())
    rows = table(MODELS[name], dtype, "flash", "none")
    assert float(sum(r.saved_bytes for r in (*rows.embedding, *rows.head))[0]) == pytest.approx(real, rel=0.01)


def counted_flops(model: Transformer, ids: torch.Tensor) -> tuple[float, float]:
    """(forward, backward) as torch counts them; it has no formula for grouped multiplies, so experts run as a loop."""
    with FlopCounterMode(display=False) as forward:
        loss = model(ids, ids)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return float(forward.get_total_flops()), float(backward.get_total_flops())


@pytest.mark.parametrize("name", MODELS)
def test_flops_counted_by_torch_equal_the_rows(name: str) -> None:
    fields = MODELS[name]
    model = build(ModelConfig(**fields), Choices(attention="eager", experts="loop"), "cpu", torch.float32)
    ids = torch.randint(0, fields["vocab_size"], (BATCH, LENGTH))
    forward, backward = counted_flops(model, ids)
    rows = table(fields, torch.float32, "eager", "none").rows()
    matmuls = [r for r in rows if r.work is not None]
    assert sum(float(r.flops[0]) * r.repeats for r in matmuls if r.phase == "forward") == pytest.approx(forward, rel=1e-9)
    assert sum(float(r.flops[0]) * r.repeats for r in matmuls if r.phase == "backward") == pytest.approx(backward, rel=1e-9)


@pytest.mark.parametrize("kv_heads", [8, 2, 1])
@pytest.mark.parametrize("causal", [True, False])
def test_both_attention_kernels_follow_the_formula(kv_heads: int, causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 24, 16) for heads in (8, kv_heads, kv_heads))
    scores = torch.einsum("bhid,bhjd->bhij", q.double(), k.double().repeat_interleave(8 // kv_heads, 1)) / 4.0
    if causal:
        scores = scores.masked_fill(torch.ones(24, 24).triu(1).bool(), -torch.inf)
    expected = scores.softmax(-1) @ v.double().repeat_interleave(8 // kv_heads, 1)
    for kernel in (flash_attention, eager_attention):
        with fused_attention():
            torch.testing.assert_close(kernel(q, k, v, causal).double(), expected, rtol=1e-5, atol=1e-5)


def test_rotary_scores_depend_on_distance_only() -> None:
    # Su et al. 2021, section 3.4.2: <rotate(q, m), rotate(k, n)> is a function of m - n
    q, k = torch.randn(16), torch.randn(16)
    cos, sin = (a[:, None] for a in rotary_angles(32, 16, torch.device("cpu")))
    turned = [rotate(x.expand(1, 32, 1, 16), cos, sin)[0, :, 0] for x in (q, k)]
    scores = turned[0] @ turned[1].t()
    for distance in (0, 3, 11):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_rms_norm_follows_its_formula() -> None:
    norm, x = RMSNorm(32), torch.randn(4, 32)
    with torch.no_grad():
        norm.weight.normal_()
    torch.testing.assert_close(norm(x), F.rms_norm(x, (32,), norm.weight, 1e-5))


@pytest.mark.parametrize("name", ["dense", "shared", "encoder"])
def test_recomputation_changes_no_gradient(name: str) -> None:
    config = ModelConfig(**MODELS[name])
    plain, again = (build(config, Choices(recompute=r), "cpu", torch.float32) for r in ("none", "full"))  # type: ignore[arg-type]
    again.load_state_dict(plain.state_dict())
    ids = torch.randint(0, config.vocab_size, (BATCH, LENGTH))
    for model in (plain, again):
        model(ids, ids).backward()
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_decoder_learns_a_repeated_sequence() -> None:
    torch.manual_seed(0)
    model = build(ModelConfig(**{**MOE, "num_layers": 1}), Choices(), "cpu", torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.arange(32)[None].repeat(2, 1)
    losses = []
    for _ in range(20):
        loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_master_weights_step_like_fp32_ones() -> None:
    """The masters of bf16 weights take the very steps that fp32 weights would take with the same gradients."""
    torch.manual_seed(0)
    weights = [
        torch.nn.Parameter(torch.randn(50, 7).bfloat16()),
        torch.nn.Parameter(torch.randn(11).bfloat16()),
        torch.nn.Parameter(torch.randn(3).bfloat16()),
    ]
    plain = [torch.nn.Parameter(w.detach().float()) for w in weights]
    ours, theirs = adamw(weights, "bf16", 0.1), torch.optim.AdamW(plain, lr=0.1)
    for _ in range(3):
        for w, p in zip(weights[:2], plain[:2], strict=True):  # the third has no gradient, as an expert without tokens
            w.grad = torch.randn_like(w)
            p.grad = w.grad.float()
        ours.step()
        theirs.step()
    for w, p in zip(weights, plain, strict=True):
        torch.testing.assert_close(w.detach().float(), p.detach().bfloat16().float(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"num_kv_heads": 3}, "num_kv_heads"), ({"head_dim": 15}, "head_dim"), ({"hidden_dropout": 0.1}, "hidden_dropout"),
     ({"architecture": "encoder"}, "encoder")],
)  # fmt: skip
def test_impossible_models_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ModelConfig(**{**DENSE, **changes})
