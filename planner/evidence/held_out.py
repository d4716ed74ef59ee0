"""Held-out runs as one table, and the model of their errors that intervals come from.

``catalog/held_out.parquet`` has one row for each measured figure of each run that ``planner fit`` predicted without its source:
what the run was, and log(measured / predicted). Each set of runs replaces its own rows; the model is fitted to all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.common import data
from planner.common.arrays import Array, Mask, Positions
from planner.evidence.measured_runs import Run
from planner.uncertainty.effects import Effects, as_effects, doublings
from planner.uncertainty.hierarchy import SHARED, SLOPES, Fitted, fit_hierarchy, source_weights, without
from planner.uncertainty.interval import LEVEL, NORMAL_95, Metric, Subject
from planner.uncertainty.subject import lever

if TYPE_CHECKING:
    import pandas as pd

TABLE = data.CATALOG / "held_out.parquet"
METRICS: tuple[Metric, ...] = ("step_time", "memory")
COORDINATES = ("tp", "pp", "cp", "ep", "micro_batch_size", "seq_len", "gpus", "size")
FIELDS = (
    "framework",
    "curves",
    "family",
    "num_nodes",
    "num_gpus",
    "parameters",
    "root",
    "generation",
    "die",
    "precision",
    "job",
    "model",
    "figure",
    "kernel",
    "movable",
    "incomplete",
)
MOST_PAIRS = 200
"""Pairs of one source that are looked at, evenly spaced."""
ALIKE = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ALIKE_DOUBLINGS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ALIKE_LENGTHS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Correlations of two runs' own errors that are tried, and doublings over which they fall: of degrees and sizes, and of the
sequence's length."""
DIGITS = 6


def source_of(run: Run) -> str:
    """The source that is left out with a run."""
    return run.columns.get("source", "") or "no source"


def rows_of(run: Run, subject: Subject, metric: Metric, residual: float, in_sample: float) -> dict[str, Any]:
    """One row: ``residual`` = log(measured / predicted) without the run's source, ``in_sample`` with it."""
    return {
        "metric": metric,
        "id": run.id,
        "source": source_of(run),
        **{name: getattr(subject, name) for name in FIELDS},
        **dict(zip(COORDINATES, subject.coordinates, strict=True)),
        "residual": residual,
        "in_sample": in_sample,
    }


def subjects(frame: pd.DataFrame) -> list[Subject]:
    """The rows' subjects."""
    return [
        Subject(
            **{name: row[name] for name in FIELDS if name not in ("num_nodes", "num_gpus")},
            num_nodes=int(row["num_nodes"]),
            num_gpus=int(row["num_gpus"]),
            coordinates=tuple(float(row[name]) for name in COORDINATES),
        )
        for row in frame.to_dict(orient="records")
    ]


@dataclass(frozen=True)
class Held:
    """The model of one metric over all held-out runs, and what it said of each run when its source was left out."""

    metric: Metric
    frame: pd.DataFrame
    table: dict[str, Any]  # of catalog/uncertainty.toml; as_effects reads it
    mean: Array
    deviation: Array  # scaled: 90 % of the runs lie within 1.645 of it
    pairs: pd.DataFrame  # runs of one source, two and two: positions, error, mean and deviation of the difference
    left_out: Mapping[str, Effects]  # by source: the model that never saw it, scaled
    fitted: Fitted  # to all runs, not scaled

    @property
    def inside(self) -> Mask:
        """Whether each run lies in its interval."""
        return np.asarray(np.abs(self.frame["residual"].to_numpy() - self.mean) <= NORMAL_95 * self.deviation)

    def without(self, source: str) -> Effects:
        """The model that never saw a source: of one without a figure here, that of all."""
        return self.left_out.get(source, self._whole)

    @cached_property
    def _whole(self) -> Effects:
        return as_effects(self.table, self.metric)


def fit_held(frame: pd.DataFrame, metric: Metric) -> Held:
    """Fit the hierarchical model to one metric's rows, and predict each source by a fit that never saw it."""
    chosen = frame[frame["metric"] == metric].reset_index(drop=True)
    columns = {name: chosen[name].to_numpy() for name in chosen.columns}
    residual, part = columns["residual"].astype(float), np.asarray(lever(columns["movable"].astype(float)))
    in_sample = columns["in_sample"].astype(float) / part
    fitted = fit_hierarchy(columns, residual / part, metric)
    asked = subjects(chosen)
    mean, deviation = np.empty(len(chosen)), np.empty(len(chosen))
    left_out: dict[str, Effects] = {}
    for source in chosen["source"].unique():
        others = (chosen["source"] != source).to_numpy()
        table = effects_table(without(fitted, others), chosen[others], in_sample[others], counted=False)
        left_out[source] = known = as_effects(table, metric)
        for i in np.flatnonzero(~others):
            found = known.standing(asked[i])
            mean[i], deviation[i] = found.mean, float(found.deviation)
    weights = both_weights(columns)
    off, told_all = np.abs(residual - mean) / deviation, columns["incomplete"].astype(float) == 0.0
    # a question states its settings, so runs that do decide its width; of the others what is not known adds to it
    scale, incomplete_scale = scales(off, weights, told_all)
    table = effects_table(fitted, chosen, in_sample)
    pairs = pairs_of(chosen)
    told, pairs = fit_pairs(pairs, residual, asked, left_out, told_all)
    table |= {"scale": round(scale, 4), "incomplete_scale": round(incomplete_scale, 4), **told}
    factors = {"scale": table["scale"], "incomplete_scale": table["incomplete_scale"]}
    scaled = {source: replace(known, **factors) for source, known in left_out.items()}
    return Held(metric, chosen, table, mean, scale * np.where(told_all, 1.0, incomplete_scale) * deviation, pairs, scaled, fitted)


def said_by_others(held: Held, parts: Iterable[Sequence[int]]) -> tuple[Array, Array]:
    """(mean, deviation) of each run's error as the model says that never saw the runs of its part, at the scale of all.

    ``parts``: positions in ``held.frame``, each run in one of them.
    """
    frame, asked = held.frame, subjects(held.frame)
    part = np.asarray(lever(frame["movable"].to_numpy().astype(float)))
    in_sample = frame["in_sample"].to_numpy().astype(float) / part
    factors = {"scale": held.table["scale"], "incomplete_scale": held.table["incomplete_scale"]}
    mean, deviation = np.empty(len(frame)), np.empty(len(frame))
    for members in parts:
        others = ~np.isin(np.arange(len(frame)), members)
        table = effects_table(without(held.fitted, others), frame[others], in_sample[others], counted=False)
        known = replace(as_effects(table, held.metric), **factors)
        for i in members:
            found = known.standing(asked[i])
            mean[i], deviation[i] = found.mean, float(found.deviation)
    return mean, deviation


def scales(off: Array, weights: Array, told_all: Mask) -> tuple[float, float]:
    """(factor on deviations, further factor where not ``told_all``) that put LEVEL of the weight of either kind inside.

    ``off``: errors over deviations. Runs of which a setting is not known are never narrower; of one kind alone it decides.
    """
    whole = told_all if told_all.any() else np.ones_like(told_all)
    scale = quantile(off[whole], weights[whole], LEVEL) / NORMAL_95
    rest = ~whole
    further = quantile(off[rest], weights[rest], LEVEL) / NORMAL_95 / scale if rest.any() else 1.0
    return scale, max(further, 1.0)


def fit_uncertainty(held_out: pd.DataFrame, name: str, *, alone: bool = False) -> tuple[pd.DataFrame, list[Held]]:
    """The stored held-out runs with those of the set ``name`` replaced, and the model of each metric fitted to all of them.

    ``alone``: to these runs only, the stored ones left aside.
    """
    frame = merged(None if alone else load_held_out(), held_out, name)
    return frame, [fit_held(frame, metric) for metric in METRICS if (frame["metric"] == metric).any()]


def both_weights(columns: Mapping[str, Any]) -> Array:
    """Half of the weight by rows, half by sources: each run 1/n, and each source the same."""
    inverse = source_weights(columns) ** 2
    return np.asarray(0.5 / len(inverse) + 0.5 * inverse / inverse.sum())


def quantile(values: Array, weights: Array, level: float) -> float:
    """The smallest value that holds ``level`` of the weight at or below it; NORMAL_95 of no values."""
    if not len(values):
        return NORMAL_95
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(total, level * total[-1])), len(values) - 1)])


def effects_table(fitted: Fitted, frame: pd.DataFrame, in_sample: Array, *, counted: bool = True) -> dict[str, Any]:
    """The model as tables for ``catalog/uncertainty.toml``; not scaled.

    ``counted``: with the numbers of runs, which only words need.

    The means are of the errors that remain with the constants as they are (``in_sample``): what a framework's constants took up
    when its own sources were fitted is no bias of the next one.
    """
    of, found = fitted.of, fitted.components
    means, covariance = fitted.posterior(in_sample)
    seen = np.zeros(len(of.groups), dtype=bool)
    seen[np.unique(of.columns)] = True
    chosen = [g for g in range(len(of.groups)) if seen[g] and of.groups[g][0] in SHARED]
    part = covariance[np.ix_(chosen, chosen)]
    met = (of.spread != 0.0).any(axis=0)
    terms = [(name, i) for i, name in enumerate(of.terms) if met[i] or name in SLOPES[of.metric]]
    doubts = fitted.doubts()
    return {
        "runs": len(frame),
        "sources": int(frame["source"].nunique()),
        "scale": 1.0,
        "incomplete_scale": 1.0,
        "pair_scale": 1.0,
        "incomplete_pair_scale": 1.0,
        "alike": 0.0,
        "alike_doublings": 1.0,
        "alike_lengths": 1.0,
        "deviations": {**{k: round(v, DIGITS) for k, v in found.deviations.items()}, "run": round(found.run, DIGITS)},
        "terms": {name: round(found.terms[name], DIGITS) for name, _ in terms},
        "doubts": {name: round(float(doubts[i]), DIGITS) for name, i in terms},
        "measured": measured_table(frame) if counted else [],
        "reach": reach_table(frame),
        "effect": [
            {
                "group": list(of.groups[g]),
                "mean": round(float(means[g]), DIGITS),
                "covariance": [round(float(v), DIGITS + 2) for v in part[i, : i + 1]],
            }
            for i, g in enumerate(chosen)
        ],
    }


def measured_table(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """How many runs there are of each framework on each family of GPUs, and of which models."""
    keys = ["root", "framework", "generation", "curves"]
    return [
        {
            **dict(zip(keys, key, strict=True)),
            "runs": int(group["id"].nunique()),
            "sources": int(group["source"].nunique()),
            "models": {str(k): int(v) for k, v in group.groupby("model")["id"].nunique().sort_index().items()},
        }
        for key, group in frame.groupby(keys)
    ]


def reach_table(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Sizes measured by root framework and kind of model; an empty key is any."""
    tables = []
    every = frame.assign(root="", family=frame["family"])
    whole = frame.assign(root="", family="")
    for part in (frame, every, whole):
        for (root, family), group in part.groupby(["root", "family"]):
            tables.append(
                {
                    "root": root,
                    "family": family,
                    "fewest_parameters": float(f"{group['parameters'].min():.4g}"),
                    "most_parameters": float(f"{group['parameters'].max():.4g}"),
                    "most_gpus": int(group["num_gpus"].max()),
                }
            )
    return tables


def pairs_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Pairs of different runs of one source, at most MOST_PAIRS of each, evenly spaced; positions, and each pair's weight."""
    import pandas as pd

    parts = []
    for source, group in frame.groupby("source"):
        at = group.index.to_numpy()
        first, second = np.triu_indices(len(at), 1)
        chosen = np.unique(np.linspace(0, max(len(first) - 1, 0), min(len(first), MOST_PAIRS)).astype(int))
        parts.append(pd.DataFrame({"source": source, "first": at[first[chosen]], "second": at[second[chosen]]}))
    return pd.concat(parts, ignore_index=True)


def fit_pairs(
    pairs: pd.DataFrame,
    residual: Array,
    asked: Sequence[Subject],
    left_out: Mapping[str, Effects],
    told_all: Mask,
) -> tuple[dict[str, float], pd.DataFrame]:
    """How alike two runs of one source err, and the factors on the deviation that make 90 % of the pairs lie inside: of those
    whose runs state all settings, ``told_all``, as a question does, and of the others.

    The correlation of two runs' own errors and the doublings over which it falls are those of the best mean log score of the
    pairs, each source left out of what predicts it.
    """
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    error = residual[first] - residual[second]
    told = told_all[first] & told_all[second]
    weights = both_weights({"source": pairs["source"].to_numpy()})
    means, base, cross = np.empty(len(pairs)), np.empty(len(pairs)), np.empty(len(pairs))
    apart, length = np.empty(len(pairs)), np.empty(len(pairs))
    for p, (i, j, source) in enumerate(zip(first.tolist(), second.tolist(), pairs["source"].tolist(), strict=True)):
        known, one, two = left_out[source], asked[i], asked[j]
        means[p], deviation = known.difference(one, two)
        base[p] = deviation**2
        w1, w2 = known.width(one, known.distance(one)), known.width(two, known.distance(two))
        cross[p] = 2.0 * known.run**2 * float(w1 * lever(one.movable)) * float(w2 * lever(two.movable))
        apart[p], length[p] = doublings(one, two)
    best = (np.inf, {"alike": 0.0, "alike_doublings": 1.0, "alike_lengths": 1.0}, base)
    for alike, over, over_length in product(ALIKE, ALIKE_DOUBLINGS, ALIKE_LENGTHS):
        variance = np.maximum(base - alike * np.exp(-apart / over - length / over_length) * cross, 1e-6)
        z = np.abs(error - means) / np.sqrt(variance)
        scale, further = scales(z, weights, told)
        scaled = scale * np.where(told, 1.0, further)
        score = float(np.sum(weights * (np.log(np.sqrt(variance) * scaled) + np.maximum(z / scaled - NORMAL_95, 0.0))))
        if score < best[0]:
            best = (score, {"alike": alike, "alike_doublings": over, "alike_lengths": over_length}, variance)
    _, likeness, variance = best
    scale, further = scales(np.abs(error - means) / np.sqrt(variance), weights, told)
    factors = {"pair_scale": round(scale, 4), "incomplete_pair_scale": round(further, 4), **likeness}
    deviations = scale * np.where(told, 1.0, further) * np.sqrt(variance)
    return factors, pairs.assign(error=error, mean=means, deviation=deviations)


def merged(old: pd.DataFrame | None, new: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with one set's rows replaced."""
    import pandas as pd

    named = new.assign(set=name)
    return named if old is None else pd.concat([old[old["set"] != name], named], ignore_index=True)


def load_held_out(path: Path = TABLE) -> pd.DataFrame | None:
    """The stored table; None where there is none yet."""
    import pandas as pd

    return pd.read_parquet(path) if path.is_file() else None


def uncertainty_text(models: Iterable[Held], source: str, where: str = "the runs are in held_out.parquet") -> str:
    """``catalog/uncertainty.toml``: one table a metric."""
    lines = [
        f"# Written by {source}; {where}.",
        "# The hierarchical model of log(measured / predicted), hierarchy.py. deviations: standard deviations",
        "# of effects; terms: of the logarithm of the spread, doubts: their variances; scale, pair_scale: factors on deviations",
        "# so that 90 % of runs, and of pairs, left out by source lie inside, incomplete_scale and incomplete_pair_scale:",
        "# further ones of runs that leave out a setting; covariance: of an effect with those before it and with itself.",
    ]
    for model in models:
        table = model.table
        plain = {k: v for k, v in table.items() if not isinstance(v, dict | list)}
        lines += ["", f"[{model.metric}]", *(f"{k} = {v!r}" for k, v in plain.items())]
        for name in ("deviations", "terms", "doubts"):
            lines += ["", f"[{model.metric}.{name}]", *(f'"{k}" = {v!r}' for k, v in table[name].items())]
        for name in ("measured", "reach", "effect"):
            for row in table[name]:
                lines += ["", f"[[{model.metric}.{name}]]", *(f"{k} = {_toml(v)}" for k, v in row.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {v!r}' for k, v in value.items()) + " }"
    return repr(value)


def positions(frame: pd.DataFrame, column: str) -> dict[str, Positions]:
    """Positions of a column's values, in their order."""
    return {str(key): np.flatnonzero((frame[column] == key).to_numpy()) for key in frame[column].unique()}
