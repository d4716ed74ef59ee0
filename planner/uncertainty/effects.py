"""What held-out runs say of a question: mean and spread of log(measured / predicted) for a source never seen.

``catalog/uncertainty.toml`` holds the hierarchical model that ``planner fit`` found (hierarchy.py): the effects that a question
shares with measured runs, with their covariance, and the standard deviations of what a new source draws anew. A question adds up
its effects; one that nobody measured counts as 0 with the spread of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from planner.common import data
from planner.common.arrays import Array, Number
from planner.common.files import State, state_of
from planner.common.message import Message, join_messages
from planner.common.spec import read_table
from planner.hardware.curves import CURVES
from planner.uncertainty.hierarchy import LEVELS, OWN, SHARED, beyond, counted_gpus
from planner.uncertainty.subject import Kind, Metric, Subject, lever

UNCERTAINTY = data.CATALOG / "uncertainty.toml"
SERVING_UNCERTAINTY = data.CATALOG / "serving_uncertainty.toml"
SERVING = ("decode", "prefill", "throughput")
"""Metrics of serving."""
FAR = 2.0
"""Doublings beyond the sizes measured from which an interval is called extrapolated: four times as large."""
KNOWN_BIAS = 0.03
"""Mean log error of runs of this kind from which the interval says that it is moved."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Normal distribution of log(measured / predicted) for a question asked by a new source, and where it comes from."""

    mean: Number
    deviation: Number
    provenance: Kind
    why: str


@dataclass(frozen=True)
class Effects:
    """The stored model of one metric."""

    metric: str
    runs: int
    sources: int
    deviations: Mapping[str, float]
    run: float
    terms: Mapping[str, float]
    doubts: Mapping[str, float]  # variance of a term of the spread, as far as the runs tell
    scale: float  # on deviations, so that 90 % of the runs left out by source lie inside, of those that state their settings
    incomplete_scale: float  # on those of runs of which a setting is not known, besides
    pair_scale: float  # on deviations of a difference, of two that state their settings
    incomplete_pair_scale: float  # further, where one of them does not
    alike: float  # correlation of the own errors of two runs of one source, model and chip
    alike_doublings: float  # doublings of sizes and degrees over which it falls by 1 / e
    alike_lengths: float  # doublings of the sequence over which it does: attention and multiplications err apart
    groups: Mapping[tuple[str, ...], int]
    means: Array
    covariance: Array
    measured: tuple[Mapping[str, Any], ...]
    reach: Mapping[tuple[str, str], tuple[float, float, float]]

    def standing(self, subject: Subject) -> Standing:
        """Mean, deviation and words for one question; columns where ``subject.kernel`` or ``subject.movable`` is one.

        Of serving, knowing more never widens: the deviation is at most that of the same question of an engine that nobody
        measured, whose sizes are looked for among those measured of all engines. Training frameworks have a spread of their own
        (LEVELS): of one whose recipes leave settings out it is known to be wide.
        """
        mean = float(self.means[self._shared(subject)[0]].sum())
        away = self.distance(subject)
        deviation = self._deviation(subject)
        if self.metric in SERVING:
            deviation = np.minimum(deviation, self._deviation(replace(subject, framework="", root="")))
        why, extrapolated = self._why(subject, away)
        if mean >= KNOWN_BIAS:
            why.append(Message("moved up by {0:.0%}: such runs took that much more than predicted", np.expm1(mean)))
        if mean <= -KNOWN_BIAS:
            why.append(Message("moved down by {0:.0%}: such runs took that much less than predicted", -np.expm1(mean)))
        part = lever(subject.movable)
        return Standing(
            mean=_plain(part * mean),
            deviation=_plain(part * deviation),
            provenance="extrapolated" if extrapolated else "fitted",
            why=join_messages("; ", why),
        )

    def _deviation(self, subject: Subject) -> Number:
        """scale sqrt(variance of what is shared + w^2 variance of what a new source draws anew)."""
        at, unknown = self._shared(subject)
        shared = float(self.covariance[np.ix_(at, at)].sum()) + sum(self.deviations[name] ** 2 for name in unknown)
        own = sum(self.deviations[name] ** 2 for name in OWN) + self.run**2
        scale = self.scale * (self.incomplete_scale if subject.incomplete else 1.0)
        return scale * np.sqrt(shared + self.width(subject, self.distance(subject)) ** 2 * own)

    def difference(self, first: Subject, second: Subject) -> tuple[float, float]:
        """Mean and standard deviation of the difference of two questions' logarithms, both asked by one new source.

        What they share cancels: effects of the same group, the source, the source's GPU and model where these are the same,
        and the part of the runs' own errors that nearby settings have in common. Of serving, knowing more never widens, as of
        ``standing``: the deviation is at most that of the same two questions of engines that nobody measured, alike or not as
        the two are.
        """
        mean, deviation = self._difference(first, second)
        if self.metric in SERVING:
            deviation = min(deviation, self._difference(*_unmeasured(first, second))[1])
        return mean, deviation

    def _difference(self, first: Subject, second: Subject) -> tuple[float, float]:
        """Mean and deviation as the effects of each add up."""
        one, unknown_one = self._shared(first)
        two, unknown_two = self._shared(second)
        part_one, part_two = float(lever(first.movable)), float(lever(second.movable))
        contrast = np.zeros(len(self.means))
        np.add.at(contrast, one, part_one)
        np.add.at(contrast, two, -part_two)
        variance = float(contrast @ self.covariance @ contrast)
        for name, keys in SHARED.items():
            same = all(_key(first, key) == _key(second, key) for key in keys)
            of_one, of_two = part_one * (name in unknown_one), part_two * (name in unknown_two)
            variance += self.deviations[name] ** 2 * ((of_one - of_two) ** 2 if same else of_one**2 + of_two**2)
        w1 = part_one * float(self.width(first, self.distance(first)))
        w2 = part_two * float(self.width(second, self.distance(second)))
        for name, keys in OWN.items():
            together = all(key == "source" or _key(first, key) == _key(second, key) for key in keys)
            own = (w1 - w2) ** 2 if together else w1**2 + w2**2
            variance += self.deviations[name] ** 2 * own
        variance += self.run**2 * (w1**2 + w2**2 - 2.0 * self.likeness(first, second) * w1 * w2)
        scale = self.pair_scale * (self.incomplete_pair_scale if first.incomplete or second.incomplete else 1.0)
        return float(contrast @ self.means), scale * float(np.sqrt(max(variance, 0.0)))

    def likeness(self, first: Subject, second: Subject) -> float:
        """Correlation of two runs' own errors: ``alike`` exp(-doublings between them / ``alike_doublings``), those of the
        sequence's length over ``alike_lengths``."""
        rest, length = doublings(first, second)
        return float(self.alike * np.exp(-rest / self.alike_doublings - length / self.alike_lengths))

    def width(self, subject: Subject, away: float) -> Number:
        """w of the hierarchical model: the spread of a question of this kind over the typical one's.

        The root of its mean square over what is not known of its terms, exp(mean + variance) of each: a kind that few runs tell
        of is wider than one that many do.
        """
        log = self._slope("distance", away) + self._slope("incomplete", subject.incomplete)
        log += self._slope("nodes", math.log2(subject.num_nodes)) + self._slope("alone", float(subject.num_gpus == 1))
        for level, unsure in LEVELS[self.metric].items():
            name = f"{level} {getattr(subject, level)}"
            log += self.terms.get(name, 0.0) + self.doubts.get(name, unsure**2)
        if "unseen" in self.terms and ("framework", subject.framework) not in self.groups:
            log += self.terms["unseen"] + self.doubts["unseen"]
        if "kernel" not in self.terms:
            return float(np.exp(log))
        kernel = np.asarray(subject.kernel, dtype=float)
        return np.exp(log + self.terms["kernel"] * kernel + self.doubts["kernel"] * kernel**2)

    def _slope(self, term: str, at: float) -> float:
        return self.terms.get(term, 0.0) * at + self.doubts.get(term, 0.0) * at**2

    def distance(self, subject: Subject) -> float:
        """Doublings beyond what was measured of the subject's root framework and kind of model."""
        reach = self._reach(subject)
        if reach is None:
            return 0.0
        size, fewest, most = np.log2(np.array([subject.parameters, *reach[:2]], dtype=float))
        gpus, most_gpus = counted_gpus(np.array([subject.num_gpus, reach[2]], dtype=float), self.metric)
        return float(beyond(size, gpus, fewest, most, most_gpus))

    def _reach(self, s: Subject) -> tuple[float, float, float] | None:
        """Fewest and most parameters and most GPUs measured of the nearest kind; None where nothing was."""
        return self.reach.get((s.root, s.family)) or self.reach.get(("", s.family)) or self.reach.get(("", ""))

    def _shared(self, subject: Subject) -> tuple[list[int], list[str]]:
        """Positions of the subject's effects, and the names of those that nobody measured."""
        known, unknown = [], []
        for name, keys in SHARED.items():
            group = (name, *(_key(subject, key) for key in keys))
            if group in self.groups:
                known.append(self.groups[group])
            else:
                unknown.append(name)
        return known, unknown

    def _why(self, s: Subject, away: float) -> tuple[list[str], bool]:
        """What the interval rests on, in words, and whether it is extrapolated."""
        of_root = [m for m in self.measured if m["root"] == s.root]
        chips, near = _nearest_chips(s.curves, of_root)
        own = _runs(m for m in near if m["framework"] == s.framework)
        words: list[str]
        if self.metric in SERVING:
            words = _served(s, of_root, near, own, chips)
        elif own and own == _runs(near):
            text = "one measured run of {1} on {2} GPUs" if own == 1 else "{0} measured runs of {1} on {2} GPUs"
            words = [Message(text, own, s.framework, chips)]
        elif near:
            text = (
                "one measured run of {1} and frameworks based on it, on {2} GPUs"
                if _runs(near) == 1
                else "{0} measured runs of {1} and frameworks based on it, on {2} GPUs"
            )
            words = [Message(text, _runs(near), s.root, chips)]
            words += (
                [Message("{0} of them of {1} itself", own, s.framework)]
                if own
                else [Message("none of them of {0} itself", s.framework)]
            )
        elif of_root:
            one = _runs(of_root) == 1
            text = (
                "one measured run of {1} and frameworks based on it"
                if one
                else "{0} measured runs of {1} and frameworks based on it"
            )
            words = [Message(text, _runs(of_root), s.root), Message("none of them on {0} GPUs", s.curves)]
        else:
            words = [Message("no runs of {0} were measured", s.framework), Message("{0} of other frameworks", self.runs)]
        of_model = sum(int(m["models"].get(s.model, 0)) for m in near or of_root)
        if of_root:
            words += [Message("{0} of this model", of_model)] if of_model else ["none of this model"]
        same_generation = any(m["generation"] == s.generation for m in self.measured)
        return [*words, *self._beyond(s)], not of_root or not same_generation or away > FAR

    def _beyond(self, s: Subject) -> list[str]:
        fewest, most, gpus = self._reach(s) or (s.parameters, s.parameters, s.num_gpus)
        reasons: list[str] = []
        if s.num_gpus > gpus and self.metric != "memory":
            reasons.append(Message("{0} GPUs, at most {1:.0f} were measured", s.num_gpus, gpus))
        if s.parameters > most:
            reasons.append(Message("{0:,.4g}B parameters, at most {1:,.4g}B were measured", s.parameters / 1e9, most / 1e9))
        if s.parameters < fewest:
            reasons.append(Message("{0:,.4g}B parameters, at least {1:,.4g}B were measured", s.parameters / 1e9, fewest / 1e9))
        return reasons


def _unmeasured(first: Subject, second: Subject) -> tuple[Subject, Subject]:
    """Two questions of engines that nobody measured: of the same software, and of the same release, where they are."""
    root = "" if second.root == first.root else "another"
    framework = "" if second.framework == first.framework else "another"
    return replace(first, root="", framework=""), replace(second, root=root, framework=framework)


LENGTH = 5
"""Place of the sequence's length among a subject's coordinates."""


def doublings(first: Subject, second: Subject) -> tuple[float, float]:
    """How far two subjects lie apart: doublings of degrees and sizes in all, and of the sequence's length."""
    apart = np.abs(np.asarray(first.coordinates) - np.asarray(second.coordinates))
    length = float(apart[LENGTH]) if len(apart) else 0.0
    return float(apart.sum()) - length, length


def _nearest_chips(curves: str, measured: Sequence[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]]]:
    """The GPU family of ``curves`` that was measured, and what was measured on it: its own, else one that it is based on."""
    for chips in CURVES.lineage(curves) if curves in CURVES.names() else (curves,):
        near = [m for m in measured if m["curves"] == chips]
        if near:
            return chips, near
    return curves, []


def _served(
    s: Subject, of_root: Sequence[Mapping[str, Any]], near: Sequence[Mapping[str, Any]], own: int, chips: str
) -> list[str]:
    """The measurements of the software that serves: of all its releases, on the same GPUs, of the release itself."""
    if not of_root:
        return [Message("nothing was measured of {0}", s.root)]
    if not near:
        measured = "one measurement of {1}" if _runs(of_root) == 1 else "{0} measurements of {1}"
        return [Message(measured, _runs(of_root), s.root), Message("none of them on {0} GPUs", s.curves)]
    measured = "one measurement of {1} on {2} GPUs" if _runs(near) == 1 else "{0} measurements of {1} on {2} GPUs"
    words: list[str] = [Message(measured, _runs(near), s.root, chips)]
    if s.framework == s.root or own == _runs(near):
        return words
    if not own:
        return [*words, Message("none of them of {0}, but of other releases", s.framework)]
    return [*words, Message("{0} of them of {1}", own, s.framework)]


def _plain(value: Number) -> Number:
    return value if np.ndim(value) else float(value)


def _runs(measured: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(m["runs"]) for m in measured)


def _key(subject: Subject, column: str) -> str:
    """The subject's value of a column of held-out runs."""
    return str(getattr(subject, column))


def load_effects(path: Path = UNCERTAINTY) -> dict[str, Effects]:
    """The stored models by metric."""
    return _effects(path, state_of(str(path)))


@lru_cache(maxsize=1024)
def _effects(path: Path, state: State) -> dict[str, Effects]:
    return {metric: as_effects(table, metric) for metric, table in read_table(path).items()}


def standing(metric: Metric, subject: Subject, known: Effects | None = None) -> Standing:
    """What held-out runs say of a question, by the catalog's model or ``known``; memory without a figure of its own is reserved
    memory."""
    asked = subject if metric != "memory" or subject.figure != "step" else replace(subject, figure="reserved")
    return (known or effects_of(metric)).standing(asked)


def effects_of(metric: Metric) -> Effects:
    """The stored model of a metric."""
    return load_effects(SERVING_UNCERTAINTY if metric in SERVING else UNCERTAINTY)[metric]


def as_effects(table: Mapping[str, Any], metric: str) -> Effects:
    """One metric's table of ``catalog/uncertainty.toml`` as a model."""
    effects = table["effect"]
    covariance = np.zeros((len(effects), len(effects)))
    for i, effect in enumerate(effects):
        covariance[i, : i + 1] = effect["covariance"]
    deviations = dict(table["deviations"])
    return Effects(
        metric=metric,
        runs=table["runs"],
        sources=table["sources"],
        run=deviations.pop("run"),
        deviations=deviations,
        terms=table["terms"],
        doubts=table["doubts"],
        scale=table["scale"],
        incomplete_scale=table.get("incomplete_scale", 1.0),
        pair_scale=table["pair_scale"],
        incomplete_pair_scale=table.get("incomplete_pair_scale", 1.0),
        alike=table["alike"],
        alike_doublings=table["alike_doublings"],
        alike_lengths=table.get("alike_lengths", table["alike_doublings"]),
        groups={tuple(effect["group"]): i for i, effect in enumerate(effects)},
        means=np.array([effect["mean"] for effect in effects], dtype=float),
        covariance=covariance + np.tril(covariance, -1).T,
        measured=tuple(table["measured"]),
        reach={(r["root"], r["family"]): (r["fewest_parameters"], r["most_parameters"], r["most_gpus"]) for r in table["reach"]},
    )
