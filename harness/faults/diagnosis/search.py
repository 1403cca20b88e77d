"""Search for the known faults that explain what a port gave: the catalogue, tried on the reference itself.

Every fault that is possible is put into the reference, and the prediction compared with the evidence: first one fault
at a time, the cheap stages before those that need another run of the network; then two together, and faults with
fitted parameters, the likely ones first; at last both at once. A search is bounded by the work of its evaluations, so
that its answer does not depend on the speed of the machine; its constants are in ``search.toml``.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.faults import AnyFault, compatible
from harness.faults.diagnosis.estimates import ESTIMATES
from harness.faults.diagnosis.evidence import Distance, Evidence
from harness.faults.diagnosis.explanation import Explanation, Hypothesis, accounts_for, confidence_of, mean_of
from harness.faults.diagnosis.fit import Fit
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search_table import TABLE
from harness.faults.fault import FaultStage, Params, Setting
from harness.faults.port_spec import PortSpec

COSTS: tuple[tuple[FaultStage, ...], ...] = (
    ("heads", "numeric", "batch", "decode", "results"),
    ("preprocess",),
    ("network",),
)
"""Stages by the dearest evaluation that their faults need: arithmetic, the network, a faulty network."""

SAY_EVERY_S = 10.0
"""Seconds between two signs of life."""

logger = logging.getLogger(__name__)


@dataclass
class Search:
    """One search.

    Args:
        chain: The reference, on the images of the evidence.
        evidence: Output of the port.
        setting: Decides which faults are possible.
        catalogue: The known faults.
        budget: Units of work that the search may spend before it tries nothing further, see ``search.toml``. Single
            faults are always tried.
    """

    chain: Chain
    evidence: Evidence
    setting: Setting
    catalogue: Sequence[AnyFault]
    budget: float = TABLE.cost.budget
    tried: dict[Hypothesis, Distance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = self.chain.work
        right = [self.evidence.distance(self.chain, PortSpec(), index) for index in range(len(self.evidence))]
        self.order = sorted(range(len(right)), key=lambda index: -right[index].worst)
        self.right = right
        self.in_some_samples = False
        self.found: list[tuple[Hypothesis, float, float]] = []
        self.count, self.said = 0, time.monotonic()

    def exhausted(self) -> bool:
        """Tell whether the budget is spent."""
        return self.chain.work - self.begun > self.budget

    @property
    def first(self) -> int:
        """Index of the image that deviates most."""
        return self.order[0]

    @property
    def richest(self) -> int:
        """Index of the image whose pixels vary most: one of few colours does not determine fitted parameters."""
        return max(self.order, key=lambda index: float(np.std(self.chain.images[index], axis=(0, 1)).min()))

    def explain(self) -> list[Explanation]:
        """Search, and rank the explanations.

        Returns:
            The best explanations, best first; one without faults if no known fault explains the evidence; empty if the
            evidence does not deviate.
        """
        if not any(right.deviates for right in self.right):
            return []
        with np.errstate(all="ignore"):  # a fault may turn numbers into NaN or infinity
            return self._explain()

    def _explain(self) -> list[Explanation]:
        for stages in COSTS:
            for hypothesis in self._singles(stages):
                self._try(hypothesis)
            if any(worst <= TABLE.threshold.sure for _, worst, _ in self.found):
                return self._ranked()
        if not self.found and self._may_be_two():
            pairs = itertools.islice(self._pairs(), TABLE.pairs.most)
            self._try_until_found(itertools.islice(pairs, TABLE.pairs.promising))
            for part in (None, *self.evidence.parts):
                if not self.found:
                    for hypothesis in self._fits(part):
                        self._try(hypothesis)
            if not self.found:
                self._try_until_found(self._read_off())
            if not self.found:
                self._try_until_found(pairs)
            if not self.found:
                self._try_until_found(self._joint_fits())
        return self._ranked()

    def explained_by(self, hypothesis: Hypothesis) -> bool:
        """Decide whether certain faults explain all images."""
        with np.errstate(all="ignore"):
            found = [self.evidence.distance(self.chain, hypothesis.port, i) for i in self.order]
        return accounts_for(found, [self.right[i] for i in self.order])

    def _may_be_two(self) -> bool:
        """Decide whether two faults together could explain what none does alone.

        They cannot where none gives the shapes of the evidence, or NaN and infinity where it has them, and where one
        explains every image that deviates and spoils others: the port makes that mistake in some samples only.
        """
        near = any(math.isfinite(distance.worst) for distance in self.tried.values())
        return near and not self.in_some_samples and self.right[self.first].worst > TABLE.threshold.few

    def _applicable(self) -> list[AnyFault]:
        return [f for f in self.catalogue if f.stage in self.evidence.stages and f.applies(self.setting)]

    def _singles(self, stages: Sequence[FaultStage]) -> Iterator[Hypothesis]:
        for fault in self._applicable():
            if fault.stage not in stages:
                continue
            guesses = list(fault.guesses)
            if fault.estimate is not None:
                guesses += ESTIMATES[fault.estimate](self.chain, self.evidence, self.first, PortSpec())
            for params in dict.fromkeys(guesses):
                yield Hypothesis((fault,), (params,))

    def _fits(self, part: str | None) -> Iterator[Hypothesis]:
        for fault in self._applicable():
            if fault.starts and not self.exhausted():
                fit = Fit(self.chain, self.evidence, self.richest, fault, self.exhausted, part)
                params = fit.fitted([*self._tried_params(fault), *fault.starts])
                if params is not None:
                    yield Hypothesis((fault,), (params,), len(params))

    def _joint_fits(self) -> Iterator[Hypothesis]:
        """Combine two faults, fitting the parameters of one on top of the other; promising pairs are fitted further."""
        others, begun = [other for other, _ in self._best_params() if not other.free], []
        # One fit for each of many pairs: only the starts whose parameters are all equal.
        starts = {
            fault: [*self._tried_params(fault), *(start for start in fault.starts if len(set(start)) == 1)]
            for fault in self._applicable()
            if fault.starts
        }
        for fault, other in itertools.product(starts, others):
            if compatible((fault, *other.faults)) and not self.exhausted():
                fit = Fit(self.chain, self.evidence, self.richest, fault, self.exhausted, base=other.port)
                begun += [(error, params, fit, other) for error, params in fit.begun(starts[fault])[:1]]
        for count, rounds in (
            (TABLE.pairs.joint_first_pairs, TABLE.pairs.joint_first_rounds),
            (TABLE.pairs.joint_last_pairs, TABLE.pairs.joint_last_rounds),
        ):
            begun = [
                (*fit.descended(params, rounds), fit, other)
                for _, params, fit, other in sorted(begun, key=lambda one: one[0])[:count]
                if not self.exhausted()
            ]
        for _, params, fit, other in sorted(begun, key=lambda one: one[0]):
            yield Hypothesis((fit.fault, *other.faults), (params, *other.params), len(params))

    def _tried_params(self, fault: AnyFault) -> list[Params]:
        """List the parameters with which a fault was tried alone."""
        return [one.params[0] for one in self.tried if one.faults == (fault,)]

    def _pairs(self) -> Iterator[Hypothesis]:
        """Combine two faults, first those of which one explains a part of the heads."""
        tried = dict(self._best_params())

        def promise(pair: tuple[Hypothesis, Hypothesis]) -> tuple[float, float]:
            one, other = (tried[h] for h in pair)
            better, worse = sorted((one.best, other.best))
            return better + TABLE.pairs.worse_of_two * worse, one.worst + other.worst

        pairs = (pair for pair in itertools.combinations(tried, 2) if compatible(pair[0].faults + pair[1].faults))
        for a, b in sorted(pairs, key=promise):
            yield Hypothesis(a.faults + b.faults, a.params + b.params)

    def _read_off(self) -> Iterator[Hypothesis]:
        """Combine two faults, estimating the parameters of one on top of the other."""
        others = [hypothesis for hypothesis, _ in self._best_params()]
        for fault in self._applicable():
            if fault.estimate is None:
                continue
            for other in others:
                if compatible((fault, *other.faults)):
                    for params in ESTIMATES[fault.estimate](self.chain, self.evidence, self.first, other.port):
                        yield Hypothesis((fault, *other.faults), (params, *other.params))

    def _try_until_found(self, hypotheses: Iterable[Hypothesis]) -> None:
        """Try hypotheses a few beyond the first that explains: a later one may explain better."""
        left = TABLE.pairs.after_first
        for hypothesis in hypotheses:
            if self.exhausted() or left <= 0:
                return
            left -= bool(self.found)
            self._try(hypothesis)

    def _best_params(self) -> Iterator[tuple[Hypothesis, Distance]]:
        """Select of each fault alone the closest parameters, and of fitted ones also those closest in one part."""
        by_fault: dict[str, list[tuple[Hypothesis, Distance]]] = {}
        for hypothesis, distance in self.tried.items():
            by_fault.setdefault(hypothesis.ids[0], []).append((hypothesis, distance))
        for some in by_fault.values():
            closest = sorted(some, key=lambda one: one[1].worst)[: TABLE.pairs.params_in_pairs]
            fitted = sorted((one for one in some if one[0].free), key=lambda one: one[1].best)[:1]
            yield from dict([*closest, *fitted]).items()

    def _try(self, hypothesis: Hypothesis) -> None:
        """Compare with the image that deviates most and, if that is explained, with the others."""
        self._say()
        distance = self.evidence.distance(self.chain, hypothesis.port, self.first)
        if len(hypothesis.faults) == 1:
            self.tried[hypothesis] = distance
        if not self._explains(distance, self.right[self.first]):
            return
        everything = [distance, *self._others(hypothesis)]
        right = [self.right[index] for index in self.order]
        if not accounts_for(everything, right):
            loud = [pair for pair in zip(everything, right, strict=True) if pair[1].worst > TABLE.threshold.quiet]
            single = len(hypothesis.faults) == 1
            self.in_some_samples |= single and 0 < len(loud) < len(right) and accounts_for(*zip(*loud, strict=True))
            return
        if not self._each_counts(hypothesis, everything):
            return
        self.found.append((hypothesis, mean_of(everything), max(one.residual for one in everything)))

    def _say(self) -> None:
        self.count += 1
        if time.monotonic() - self.said >= SAY_EVERY_S:
            self.said = time.monotonic()
            spent = min(1.0, (self.chain.work - self.begun) / self.budget)
            logger.info("diagnosis: %d mistakes and pairs of them tried, %.0f %% of the work", self.count, 100 * spent)

    def _others(self, hypothesis: Hypothesis) -> list[Distance]:
        """Measure the distance from all images but the first."""
        return [self.evidence.distance(self.chain, hypothesis.port, index) for index in self.order[1:]]

    def _each_counts(self, hypothesis: Hypothesis, both: Sequence[Distance]) -> bool:
        """Decide whether two faults explain far more than either, which may make no difference on some images."""
        if len(hypothesis.faults) == 1:
            return True
        for fault, params in zip(hypothesis.faults, hypothesis.params, strict=True):
            alone = Hypothesis((fault,), (params,))
            if alone not in self.tried:
                self.tried[alone] = self.evidence.distance(self.chain, alone.port, self.first)
            if not accounts_for(both, [self.tried[alone], *self._others(alone)]):
                return False
        return True

    @staticmethod
    def _explains(distance: Distance, right: Distance) -> bool:
        return distance.worst <= min(TABLE.threshold.explained, TABLE.threshold.removed * right.worst)

    def _ranked(self) -> list[Explanation]:
        if not self.found:
            return [Explanation((), (), self.right[self.first].residual, 0.0)]
        simplest = sorted(self.found, key=lambda one: (len(one[0].faults), one[0].free, one[1]))
        best = simplest[0]
        limit = TABLE.confidence.rival_ratio * best[1] + TABLE.confidence.rival_distance
        rivals = [
            one for one in simplest
            if one[0].ids != best[0].ids and one[1] <= limit and one[0].free <= best[0].free
        ]  # fmt: skip
        explanations: list[Explanation] = []
        for hypothesis, worst, residual in simplest:
            if any(hypothesis.ids == tuple(f.id for f in e.faults) for e in explanations):
                continue
            confidence = confidence_of(worst, len(rivals), len(hypothesis.faults), hypothesis.free)
            if explanations:
                confidence = min(confidence, (1 - explanations[0].confidence) if not rivals else confidence)
            explanations.append(Explanation(hypothesis.faults, hypothesis.params, residual, round(confidence, 2)))
        return explanations[: TABLE.confidence.shown]
