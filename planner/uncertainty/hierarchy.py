"""One hierarchical model of log(measured / predicted) over held-out runs, fitted by maximum a posteriori marginal likelihood.

For run i of source s on a GPU c,

    y_i = sum_k u_k[g_k(i)] + w_i (v_s + v_sc + v_sm + e_i),   w_i = exp(sum_j x_ij beta_j).

The shared effects u are what a new source has in common with the measured ones (framework and what it is based on, framework and
generation of GPU, kind of model, precision, kind of job); the effects v of a source, of a source and a GPU, of a source and a
model, and the run's own e are redrawn by a new source. All are normal with a variance of their own, which the fit finds; w is
the spread by framework, by die, by precision, by how large a run's kernels are, by its nodes and by how far it lies from
what other sources measured. The prediction for a new source is the interval. Errors of memory are divided by ``subject.lever``
first: model states are counted, so that the rest of a peak makes its error.

Runs of one source say much the same: a source of n runs counts as sqrt(n), as in the fit of the constants. Outlying runs count
less: e is Student's t with FREEDOM degrees of freedom, as a scale mixture (Lange, Little and Taylor 1989). So do outlying
sources: all runs of one share a second such scale, so that a source of noisy clocks does not widen what the others tell. The
likelihood with random effects integrated out and its derivatives: Searle, Casella and McCulloch 1992, chapter 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from planner.common.arrays import Array, Mask

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Columns = Mapping[str, NDArray[Any]]
"""Held-out runs, one column a field."""

SHARED: dict[str, tuple[str, ...]] = {
    "all": (),
    "root": ("root",),
    "framework": ("framework",),
    "framework on chip": ("framework", "generation"),
    "kind of model": ("family",),
    "precision": ("precision",),
    "job": ("job",),
    "figure": ("figure",),
}
"""Effects that a new source shares with the measured ones, by the columns that name their groups."""
OWN: dict[str, tuple[str, ...]] = {
    "source": ("source",),
    "source on chip": ("source", "curves"),
    "source and model": ("source", "model"),
}
"""Effects that a new source draws anew."""
LEVELS: dict[str, dict[str, float]] = {
    "step_time": {"framework": 0.3, "die": 0.3, "precision": 0.3, "generation": 0.3, "job": 0.3, "family": 0.3},
    "memory": {"generation": 0.3, "framework": 0.6, "figure": 0.3, "job": 0.3},
    "decode": {"figure": 0.2, "root": 0.4},
    "prefill": {"figure": 0.3, "root": 0.3},
    "throughput": {"figure": 0.3, "root": 0.3},
}
"""Columns whose values have a spread of their own, by metric, and the standard deviation of its logarithm beforehand: of
several tried, those of the best mean score over runs left out with their source. Frameworks differ most: recipes that
state everything, and tools whose settings a table does not tell. Of GPUs it is the die: clocks of GeForce GPUs are less
known. Of precisions, fp8 is many recipes under one name. Generations differ, for old GPUs are measured with old software, and so
do kinds of job: tuning tools state less. Mixtures of experts exchange and balance, which few tables describe. Of memory it is
the kind of job, too: frozen weights are held as the checkpoint stores them, of trained ones a framework keeps copies; not the
kind of model, whose bytes are counted alike: with it the score of peaks left out by source is worse. Of serving it is not
the die: GPUs for graphics were measured with other software than those for computing, so that errors by
die would be errors of the software, and too small on the die with which the better known software was measured."""
FREEDOM = 4.0
"""Degrees of freedom of a run's own error: assumed."""
SOURCE_FREEDOM: dict[str, float] = {"step_time": 4.0}
"""Degrees of freedom of the scale that all runs of one source share, by metric: assumed, as FREEDOM; of 2 and 4, that of the
better coverage over sources. Other metrics have no such scale: it made intervals of memory wider."""
TYPICAL = 0.05
"""What a standard deviation of an effect is before any run is looked at: assumed; its logarithm is known to UNSURE."""
UNSURE = 0.7
SLOPES: dict[str, dict[str, tuple[float, float]]] = {
    "step_time": {
        "kernel": (0.0, 0.1),
        "distance": (0.05, 0.05),
        "nodes": (0.0, 0.1),
        "alone": (0.0, 0.3),
        "incomplete": (0.2, 0.2),
    },
    "memory": {"incomplete": (0.2, 0.2)},
    "decode": {"distance": (0.15, 0.03), "unseen": (0.35, 0.2)},
    "prefill": {"distance": (0.15, 0.03), "unseen": (0.05, 0.1)},
    "throughput": {"distance": (0.15, 0.03), "unseen": (0.25, 0.2)},
}
"""Further terms of log(w) by metric, mean and standard deviation beforehand: assumed. ``kernel``: log2 of typical over the
run's size of a multiplication; ``distance``: of ``distances``, which runs of step time tell, so that little is assumed;
``nodes``: log2 of nodes, for a table tells little of a fabric and of who shares it; ``alone``: 1 where a single GPU exchanges
nothing; ``unseen``: of ``unseen``, about the logarithm of the ratio that ``planner fit`` prints for releases of one source alone
(``evidence.serving.study.unseen_ratio``; docs/accuracy-serving.md): 1.41 in decoding when they were set, 1.05 in prefill, 1.31 in
throughput, where a single release tells it;
``incomplete``: 1 where the row says that something is missing (quality B). Memory has no term of distance: bytes are counted
alike at any size, and held-out runs far from the others err no more."""
ROUNDS = 5
"""Times that the weights of outlying runs are found anew."""
LEFT_OUT_ITERATIONS = 12
"""Steps of the minimizer where one source of many is left out: the others hardly move."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """What the fit found: standard deviations of effects, of a run's own error, and the terms of log(w)."""

    deviations: dict[str, float]
    run: float
    terms: dict[str, float]


class Design:
    """The model's matrices for a table of held-out runs: which effects each has, what its spread depends on."""

    def __init__(
        self,
        table: Columns,
        residual: Array,
        terms: Sequence[str],
        spread: Array,
        before: Mapping[str, tuple[float, float]],
        metric: str,
    ) -> None:
        self.metric = metric
        self.effects = [*SHARED, *OWN]
        self.residual = residual
        self.terms, self.spread, self.before = list(terms), spread, dict(before)
        self.groups: list[tuple[str, ...]] = []
        seen: dict[tuple[str, ...], int] = {}
        columns = np.empty((len(residual), len(self.effects)), dtype=np.intp)
        for e, (name, keys) in enumerate({**SHARED, **OWN}.items()):
            for i in range(len(residual)):
                group = (name, *(str(table[key][i]) for key in keys))
                columns[i, e] = seen.setdefault(group, len(seen))
        self.groups = list(seen)
        self.columns = columns
        self.effect = np.array([self.effects.index(group[0]) for group in self.groups])

    @cached_property
    def shared(self) -> csr_matrix:
        """(runs, groups): 1 where a run has a shared effect."""
        return self._matrix(np.arange(len(self.effects)) < len(SHARED))

    @cached_property
    def own(self) -> csr_matrix:
        """(runs, groups): 1 where a run has an effect of its source."""
        return self._matrix(np.arange(len(self.effects)) >= len(SHARED))

    def rows(self, keep: Mask) -> Design:
        """The design of some of the runs, with the same groups and terms."""
        part = copy(self)
        for cached in ("shared", "own"):
            part.__dict__.pop(cached, None)
        part.residual, part.spread, part.columns = self.residual[keep], self.spread[keep], self.columns[keep]
        return part

    def _matrix(self, chosen: Mask) -> csr_matrix:
        from scipy.sparse import csr_matrix

        n, k = self.columns.shape
        ends = np.arange(0, n * k + 1, k)
        return csr_matrix((np.tile(chosen, n).astype(float), self.columns.ravel(), ends), shape=(n, len(self.groups)))

    def prior(self) -> tuple[Array, Array]:
        """Mean and standard deviation of the terms beforehand."""
        known = [self.before[term] for term in self.terms]
        return np.array([m for m, _ in known]), np.array([s for _, s in known])

    def components(self, theta: Array) -> Components:
        """Coordinates as numbers with names."""
        k = len(self.effects)
        return Components(
            deviations={name: float(v) for name, v in zip(self.effects, np.exp(theta[:k]), strict=True)},
            run=float(np.exp(theta[k])),
            terms={term: float(v) for term, v in zip(self.terms, theta[k + 1 :], strict=True)},
        )


def design(table: Columns, residual: Array, away: Array, metric: str = "step_time") -> Design:
    """The design of a table; ``away`` as ``distances`` gives it."""
    terms: list[str] = []
    columns: list[Array] = []
    before: dict[str, tuple[float, float]] = {}
    for column, unsure in LEVELS[metric].items():
        for value in sorted({str(v) for v in table[column]}):
            terms.append(f"{column} {value}")
            columns.append(np.array([str(v) == value for v in table[column]], dtype=float))
            before[terms[-1]] = (0.0, unsure)
    for slope, known in SLOPES[metric].items():
        terms.append(slope)
        columns.append(_slope_column(slope, table, away))
        before[slope] = known
    spread = np.column_stack(columns) if len(residual) else np.empty((0, len(terms)))
    return Design(table, residual, terms, spread, before, metric)


def _slope_column(slope: str, table: Columns, away: Array) -> Array:
    """What a term of log(w) is multiplied with, (runs,)."""
    if slope == "distance":
        return away
    if slope == "unseen":
        return unseen(table)
    if slope == "alone":
        return np.asarray(np.asarray(table["num_gpus"], float) == 1.0, dtype=float)
    return np.log2(np.asarray(table["num_nodes"], float)) if slope == "nodes" else np.asarray(table[slope], float)


def distances(table: Columns, metric: str = "step_time") -> Array:
    """How far each run lies from what other sources measured of its root framework and kind of model, in doublings.

    log2 of parameters beyond their range there, plus log2 of GPUs beyond the most there (memory is that of one GPU, however many
    there are); of its kind of model under any framework where no other source has its own.
    """
    size, gpus = np.log2(np.asarray(table["parameters"], float)), counted_gpus(np.asarray(table["num_gpus"], float), metric)
    source, root, family = (np.asarray(table[c]).astype(str) for c in ("source", "root", "family"))
    found = np.zeros(len(size))
    cells = sorted(set(zip(source.tolist(), root.tolist(), family.tolist(), strict=True)))
    for of_source, of_root, of_family in cells:
        mine = (source == of_source) & (root == of_root) & (family == of_family)
        others = (source != of_source) & (family == of_family)
        near = others & (root == of_root)
        chosen = near if near.any() else others
        if chosen.any():
            found[mine] = beyond(size[mine], gpus[mine], size[chosen].min(), size[chosen].max(), gpus[chosen].max())
    return found


def unseen(table: Columns) -> Array:
    """1 for runs of a framework, or of an engine's release, that no other source has, else 0."""
    names, sources = np.asarray(table["framework"]).astype(str), np.asarray(table["source"]).astype(str)
    of_name = {name: len(set(sources[names == name].tolist())) for name in sorted(set(names.tolist()))}
    return np.array([float(of_name[name] < 2) for name in names.tolist()])


def counted_gpus(num_gpus: Array, metric: str) -> Array:
    """log2 of GPUs where their number makes an error, else 0."""
    return np.zeros_like(num_gpus) if metric == "memory" else np.log2(num_gpus)


def beyond(size: Array, gpus: Array, smallest: float, largest: float, most: float) -> Array:
    """Doublings of parameters outside a range, plus doublings of GPUs beyond the most; all logarithms to base 2."""
    return np.maximum(np.maximum(size - largest, smallest - size), 0.0) + np.maximum(gpus - most, 0.0)


def source_weights(table: Columns) -> Array:
    """n^(-1/2) for a run of a source of n runs."""
    _, inverse, counts = np.unique(np.asarray(table["source"]).astype(str), return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse].astype(float) ** -0.5)


@dataclass(frozen=True)
class Fitted:
    """The fitted model of one metric: coordinates, the weights of the runs, and the design that they belong to."""

    of: Design
    theta: Array
    by_source: Array  # weights of the likelihood: by source, and by how outlying a run is
    outlying: Array

    @property
    def weights(self) -> Array:
        """Both weights together."""
        return self.by_source * self.outlying

    @property
    def components(self) -> Components:
        """The variance components and terms of the spread."""
        return self.of.components(self.theta)

    def doubts(self, keep: Array | None = None) -> Array:
        """Variance of each term of log(w) given the runs with weights ``keep``, 1 / (1 / s^2 + 2 sum x^2).

        n errors tell the logarithm of their standard deviation to (2 n)^(-1/2); a run counts as ``source_weights`` says.
        """
        _, unsure = self.of.prior()
        counted = self.by_source * (1.0 if keep is None else keep)
        return np.asarray(1.0 / (1.0 / unsure**2 + 2.0 * (self.of.spread**2 * counted[:, None]).sum(axis=0)))

    @cached_property
    def widths(self) -> Array:
        """w of every run."""
        return np.asarray(np.exp(self.of.spread @ self.theta[len(self.of.effects) + 1 :]))

    def posterior(self, residual: Array, keep: Array | None = None) -> tuple[Array, Array]:
        """Means and covariance of all effects given the runs with weights ``keep``; groups without runs stay at the prior."""
        from scipy.sparse import diags

        found = self.components
        precision = self.weights * (1.0 if keep is None else keep) / (found.run * self.widths) ** 2
        z = self.of.shared + diags(self.widths) @ self.of.own
        variance = np.array(list(found.deviations.values()))[self.of.effect] ** 2
        inverse = (z.T @ diags(precision) @ z).toarray() + np.diag(1.0 / variance)
        covariance = np.linalg.inv(inverse)
        return np.asarray(covariance @ (z.T @ (precision * residual))), covariance

    def own_variance(self) -> float:
        """Variance that a new source's run adds where w = 1."""
        found = self.components
        return float(sum(found.deviations[name] ** 2 for name in OWN) + found.run**2)


def fit_hierarchy(table: Columns, residual: Array, metric: str = "step_time", iterations: int = 60) -> Fitted:
    """Variance components and spread that make the held-out residuals most likely; some seconds for 2,000 runs."""
    of = design(table, residual, distances(table, metric), metric)
    mean, _ = of.prior()
    theta = np.concatenate([np.full(len(of.effects), np.log(TYPICAL)), [np.log(2.0 * TYPICAL)], mean])
    return _fitted(Fitted(of, theta, source_weights(table), np.ones(len(residual))), ROUNDS, iterations)


def without(fitted: Fitted, keep: Mask) -> Fitted:
    """The model fitted to the runs that are kept alone, from where the fit to all of them ended."""
    part = Fitted(fitted.of.rows(keep), fitted.theta, fitted.by_source[keep], fitted.outlying[keep])
    return _fitted(part, 1, LEFT_OUT_ITERATIONS)


def _fitted(start: Fitted, rounds: int, iterations: int) -> Fitted:
    from scipy.optimize import minimize

    of, by_source, theta, outlying = start.of, start.by_source, start.theta, start.outlying
    for _ in range(rounds):
        of_round = (of, by_source, outlying)
        found = minimize(
            _negative, theta, args=of_round, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "ftol": 1e-6}
        )
        theta = found.x
        outlying = outlying_weights(_standardized(theta, *of_round), of, by_source)
    return Fitted(of, theta, by_source, outlying)


def outlying_weights(standardized: Array, of: Design, by_source: Array) -> Array:
    """How much each run counts given its squared error over its variance, (runs,): (f + 1) / (f + z^2) of its own scale, times
    (g + n) / (g + sum z^2) of its source's, n the weight of the source's runs. A run as expected counts as 1."""
    own = (FREEDOM + 1.0) / (FREEDOM + standardized)
    freedom = SOURCE_FREEDOM.get(of.metric, np.inf)
    if np.isinf(freedom):
        return np.asarray(own)
    source = of.columns[:, of.effects.index("source")]
    runs, squares = np.bincount(source, by_source), np.bincount(source, by_source * own * standardized)
    return np.asarray(own * ((freedom + runs) / (freedom + squares))[source])


def _negative(theta: Array, of: Design, by_source: Array, outlying: Array) -> tuple[float, Array]:
    """Minus the logarithm of the marginal posterior, and its derivatives by the coordinates."""
    value, slope, _ = _likelihood(theta, of, by_source, outlying)
    return -value, -slope


def _standardized(theta: Array, of: Design, by_source: Array, outlying: Array) -> Array:
    """Expected squares of the runs' own errors over their variance."""
    return _likelihood(theta, of, by_source, outlying)[2]


def _likelihood(theta: Array, of: Design, by_source: Array, outlying: Array) -> tuple[float, Array, Array]:
    from scipy.linalg import cho_factor, cho_solve
    from scipy.sparse import diags

    k = len(of.effects)
    deviation, run, beta = np.exp(theta[:k]), np.exp(theta[k]), theta[k + 1 :]
    w = np.exp(of.spread @ beta)
    scale = (run * w) ** 2
    precision = by_source * outlying / scale
    own = diags(w) @ of.own
    z = of.shared + own
    variance = deviation[of.effect] ** 2
    factor = cho_factor((z.T @ diags(precision) @ z).toarray() + np.diag(1.0 / variance), lower=True)
    covariance = cho_solve(factor, np.eye(len(variance)))
    y = of.residual
    right = z.T @ (precision * y)
    mean = covariance @ right
    error = y - z @ mean
    value = -0.5 * float(
        np.sum(y * y * precision)
        - right @ mean
        + np.sum(np.log(scale / outlying) * by_source)
        + np.sum(np.log(variance))
        + 2.0 * np.sum(np.log(np.diag(factor[0])))
    )
    zc = z @ covariance
    of_run = np.asarray(z.multiply(zc).sum(1)).ravel()
    of_own = np.asarray(own.multiply(zc).sum(1)).ravel()
    by_run = (error**2 + of_run) * precision - by_source
    by_width = by_run + precision * (error * (own @ mean) - of_own)
    slope = np.concatenate(
        [
            np.bincount(of.effect, weights=(mean**2 + np.diag(covariance)) / variance - 1.0, minlength=k),
            [by_run.sum()],
            of.spread.T @ by_width,
        ]
    )
    before, unsure = of.prior()
    value -= 0.5 * float(np.sum(((theta[:k] - np.log(TYPICAL)) / UNSURE) ** 2) + np.sum(((beta - before) / unsure) ** 2))
    slope[:k] -= (theta[:k] - np.log(TYPICAL)) / UNSURE**2
    slope[k + 1 :] -= (beta - before) / unsure**2
    return value, slope, np.asarray((error**2 + of_run) / scale)
