"""The optimizer step: a sweep over gradients, weights and states, on the device or on the host."""

from __future__ import annotations

from collections.abc import Iterator

from planner.common.arrays import Number
from planner.common.message import Message
from planner.model.architecture import Model
from planner.model.linears import layer_linears
from planner.model.parameters import embedding_parameters, head_parameters, layer_parameters
from planner.operators.row import Row
from planner.workload.framework import Framework
from planner.workload.job import Job
from planner.workload.precision import Precisions, optimizer_state_bytes, plain_optimizer

FOREACH_PASSES = 2.5
"""A multi-tensor AdamW of separate kernels reads and writes its operands about 2.5 times as often as a fused one:
14 passes (lerp, mul, addcmul, sqrt, div, add, addcdiv) against 6."""

LOOP_KERNELS = 10.0
"""Of one tensor's update where each has its own: decay, step, mean, square, root, two divisions, epsilon, weight, and one to
bound its gradient (torch/optim/adamw.py, _single_tensor_adamw; NVIDIA/DeepLearningExamples, BertAdam and lamb.py)."""

NEWTON_SCHULZ_STEPS = 5
"""Iterations of Muon's orthogonalization (Jordan 2024)."""

GALORE_RANK = 128
"""Rank that gradients are projected to: the default of transformers' GaLore optimizers (trainer.py, optim_args "rank")."""
GALORE_GAP = 200
"""Steps between new projections: their default of "update_proj_gap"."""
SVD_FLOPS_PER_S = 0.8e12
"""Rate of singular value decompositions in fp32 on a data center GPU (published, rounded): about ten minutes for the matrices
of a 7B (Zhang et al. 2024, Q-GaLore, arXiv 2407.08296, section 1), of 4.7e14 flops by ``decomposition_flops``."""


def _projected(model: Model) -> Iterator[tuple[float, float]]:
    """Shorter and longer side of each matrix that GaLore projects: the layers' linear modules, each once a layer.

    Routers and experts that lie in one tensor for all are no modules: plain Adam updates them, as it does norms, embeddings and
    the output layer.
    """
    for kind in model.layer_kinds:
        for linear in layer_linears(model, kind):
            if linear.module:
                yield float(min(linear.inputs, linear.outputs)), float(max(linear.inputs, linear.outputs))


def low_rank_state_bytes(model: Model, job: Job, precision: Precisions, total: float, ends: float) -> float:
    """Bytes of GaLore's states per parameter of ``total``, beyond those that the ``ends`` (embeddings, output layer) keep.

    A matrix of m <= n keeps a projection of m r elements, in the gradients' type, and two moments of r n elements (Zhao et al.
    2024, arXiv 2403.03507, table 1), with r = ``job.optimizer_rank`` at most m.
    """
    width = precision.gradient
    moments = optimizer_state_bytes(plain_optimizer(job.optimizer), width)
    kept = covered = 0.0
    for short, long in _projected(model):
        rank = min(float(job.optimizer_rank or GALORE_RANK), short)
        kept += rank * (width * short + moments * long)
        covered += short * long
    return (kept + moments * max(total - ends - covered, 0.0)) / total


def decomposition_flops(short: float, long: float) -> float:
    """Flops of the thin decomposition U S V' of a matrix: 6 n m^2 + 20 m^3, m <= n (Golub and Van Loan, section 8.6, R-SVD)."""
    return 6.0 * long * short**2 + 20.0 * short**3


def low_rank_s(model: Model, job: Job, matmul_flops_per_s: float) -> float:
    """Seconds that GaLore's projections take in the mean over steps.

    Two multiplications of 2 m n r flops, onto the low rank and back, every step; a singular value decomposition every
    ``GALORE_GAP`` steps.
    """
    seconds = 0.0
    for short, long in _projected(model):
        seconds += 4.0 * short * long * min(float(job.optimizer_rank or GALORE_RANK), short) / matmul_flops_per_s
        seconds += decomposition_flops(short, long) / SVD_FLOPS_PER_S / GALORE_GAP
    return seconds


def update_bytes(job: Job, framework: Framework, precision: Precisions) -> float:
    """Bytes moved per updated parameter: clip (read g), read g, read and write weights and states, write the copy."""
    weight = precision.master or precision.parameter
    copy = precision.parameter if precision.master else 0.0
    passes = 1.0 if framework.fused_optimizer == "fused" else FOREACH_PASSES
    return precision.gradient + passes * (precision.gradient + 2.0 * weight + 2.0 * precision.state) + copy


def updated_tensors(model: Model, framework: Framework) -> float:
    """Tensors that an optimizer goes through: a model's weights and biases; with FSDP one of each layer and of both ends."""
    if framework.mixed_precision == "sharded_fp32":
        return model.num_layers + 2.0
    layers = sum(len(layer_parameters(model, kind)) for kind in model.layer_kinds)
    return float(layers + len(embedding_parameters(model)) + len(head_parameters(model)))


def optimizer_row(
    elements: Number, hidden_size: float, job: Job, framework: Framework, precision: Precisions, tensors: Number = 20.0
) -> Row:
    """The update of ``elements`` parameters in ``tensors`` on one rank.

    Flops matter for Muon only: five Newton-Schulz steps on matrices of ``hidden_size`` rows, about 6 r flops per
    element and step with r the shorter side (Jordan 2024: 4 r^2 c + 2 r^3 per step, r <= c).
    """
    flops = 16.0 * elements
    if job.optimizer == "muon":
        flops = NEWTON_SCHULZ_STEPS * 6.0 * hidden_size * elements
    return Row(
        name=Message("{0} update", job.optimizer),
        block="optimizer",
        phase="optimizer",
        flops=flops,
        bytes_moved=update_bytes(job, framework, precision) * elements,
        kernels={"fused": 20.0, "foreach": 200.0}.get(framework.fused_optimizer, LOOP_KERNELS * tensors),
    )
