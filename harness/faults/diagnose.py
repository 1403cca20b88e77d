"""Which known mistake explains what a port gave: the catalogue, tried on the reference itself.

Every mistake that can be made is made on our own network and compared with what came: first one at a time, the cheap
ones (outputs, batches, decoding) before those that need another run of the network, then those with parameters that
have to be found, then two together. A mistake explains what came where what is left is what precision explains.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.faults.base import Fault, FaultStage, Params, Setting, compatible
from harness.faults.chain import Chain
from harness.faults.estimates import ESTIMATES
from harness.faults.evidence import Distance, Evidence
from harness.faults.fit import fitted
from harness.faults.forms import Forms

EXPLAINED = 2.5
"""Mean distance in units of what may differ: precision leaves 0.1 to 0.5, and 1 to 2.5 where decisions hang on it."""
REMOVED = 0.2
"""Share of the deviation that may be left, too: what hardly deviates is not explained by what hardly changes it."""
SURE = 0.5
"""Distance at which no dearer mistake is tried any more."""
FEW = 0.5
"""Distance below which only a few values deviate: no two mistakes are looked for then."""
SHOWN = 3
PARAMS_IN_PAIRS = 2
"""Of one fault, how many parameters are tried together with other faults."""
PROMISING = 250
"""Pairs that are tried before parameters are looked for."""
AFTER_FIRST = 40
"""Pairs that are still tried after one explains."""
SECONDS = 45.0
"""For one diagnosis."""
COSTS: tuple[tuple[FaultStage, ...], ...] = (
    ("heads", "numeric", "batch", "decode", "results"),
    ("preprocess",),
    ("network",),
)
"""Stages by what it costs to try their mistakes: arithmetic, a run of the network, a run of a slower one."""


@dataclass(frozen=True)
class Hypothesis:
    """Mistakes, with parameters, that may explain what came.

    Attributes:
        faults: One or two.
        params: Of each.
        free: How many parameters were looked for.
    """

    faults: tuple[Fault, ...]
    params: tuple[Params, ...]
    free: int = 0

    @property
    def forms(self) -> Forms:
        """The port that makes them."""
        forms = Forms()
        for fault, params in zip(self.faults, self.params, strict=True):
            forms = fault.apply(forms, params)
        return forms

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the faults."""
        return tuple(fault.id for fault in self.faults)


@dataclass(frozen=True)
class Explanation:
    """An answer of the diagnosis.

    Attributes:
        faults: The mistakes; none where nothing known explains what came.
        params: Of each.
        residual: Difference that remains, which 99 of 100 values do not exceed; for detections, the share without an
            equal.
        confidence: That it is right, 0 to 1.
    """

    faults: tuple[Fault, ...]
    params: tuple[Params, ...]
    residual: float
    confidence: float


@dataclass
class Diagnosis:
    """One search.

    Args:
        chain: The reference, on the images of the evidence.
        evidence: What came.
        setting: What mistakes hang on.
        catalogue: The mistakes that are known.
        seconds: That the search may take.
        most_pairs: How many pairs are tried at most.
    """

    chain: Chain
    evidence: Evidence
    setting: Setting
    catalogue: Sequence[Fault]
    seconds: float = SECONDS
    most_pairs: int = 40_000
    tried: dict[Hypothesis, Distance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.seconds
        right = [self.evidence.distance(self.chain, Forms(), index) for index in range(len(self.evidence))]
        self.order = sorted(range(len(right)), key=lambda index: -right[index].worst)
        self.right = right
        self.found: list[tuple[Hypothesis, float, float]] = []

    @property
    def first(self) -> int:
        """The image that deviates most."""
        return self.order[0]

    def explain(self) -> list[Explanation]:
        """The best explanations, best first; one without faults where nothing known explains what came.

        None at all where what came does not deviate.
        """
        if not any(right.deviates for right in self.right):
            return []
        with np.errstate(all="ignore"):  # what a mistake makes of numbers may be none
            return self._explain()

    def _explain(self) -> list[Explanation]:
        for stages in COSTS:
            for hypothesis in self._singles(stages):
                self._try(hypothesis)
            if any(worst <= SURE for _, worst, _ in self.found):
                return self._ranked()
        if not self.found and self.right[self.first].worst > FEW:
            pairs = itertools.islice(self._pairs(), self.most_pairs)
            self._try_until_found(itertools.islice(pairs, PROMISING))
            if not self.found:
                for hypothesis in self._fits():
                    self._try(hypothesis)
            if not self.found:
                self._try_until_found(self._read_off())
            if not self.found:
                self._try_until_found(pairs)
        return self._ranked()

    def explained_by(self, hypothesis: Hypothesis) -> bool:
        """Whether certain mistakes explain all images."""
        with np.errstate(all="ignore"):
            found = [self.evidence.distance(self.chain, hypothesis.forms, i) for i in range(len(self.evidence))]
        return _mean(found) <= min(EXPLAINED, REMOVED * _mean(self.right))

    def _applicable(self) -> list[Fault]:
        return [f for f in self.catalogue if f.stage in self.evidence.stages and f.applies(self.setting)]

    def _singles(self, stages: Sequence[FaultStage]) -> Iterator[Hypothesis]:
        for fault in self._applicable():
            if fault.stage not in stages:
                continue
            guesses = list(fault.guesses)
            if fault.estimate is not None:
                guesses += ESTIMATES[fault.estimate](self.chain, self.evidence, self.first, Forms())
            for params in dict.fromkeys(guesses):
                yield Hypothesis((fault,), (params,))

    def _fits(self) -> Iterator[Hypothesis]:
        for fault in self._applicable():
            if fault.starts and time.monotonic() < self.end:
                starts = [*(h.params[0] for h in self.tried if h.faults == (fault,)), *fault.starts]
                params = fitted(self.chain, self.evidence, self.first, fault, starts, self.end)
                if params is not None:
                    yield Hypothesis((fault,), (params,), len(params))

    def _pairs(self) -> Iterator[Hypothesis]:
        """Two mistakes together, first those of which one explains a part of the heads."""
        tried = dict(self._best_params())

        def promise(pair: tuple[Hypothesis, Hypothesis]) -> tuple[float, float]:
            one, other = (tried[h] for h in pair)
            return min(one.best, other.best) + 0.1 * max(one.best, other.best), one.worst + other.worst

        pairs = (pair for pair in itertools.combinations(tried, 2) if compatible(pair[0].faults + pair[1].faults))
        for a, b in sorted(pairs, key=promise):
            yield Hypothesis(a.faults + b.faults, a.params + b.params)

    def _read_off(self) -> Iterator[Hypothesis]:
        """Two mistakes, the parameters of one read off what came beside what the other alone would give."""
        others = [hypothesis for hypothesis, _ in self._best_params()]
        for fault in self._applicable():
            if fault.estimate is None:
                continue
            for other in others:
                if compatible((fault, *other.faults)):
                    for params in ESTIMATES[fault.estimate](self.chain, self.evidence, self.first, other.forms):
                        yield Hypothesis((fault, *other.faults), (params, *other.params))

    def _try_until_found(self, hypotheses: Iterable[Hypothesis]) -> None:
        """Those that come soon after one that explains may explain better."""
        left = AFTER_FIRST
        for hypothesis in hypotheses:
            if time.monotonic() > self.end or left <= 0:
                return
            left -= bool(self.found)
            self._try(hypothesis)

    def _best_params(self) -> Iterator[tuple[Hypothesis, Distance]]:
        """Of each fault alone the parameters that came closest."""
        by_fault: dict[str, list[tuple[Hypothesis, Distance]]] = {}
        for hypothesis, distance in self.tried.items():
            by_fault.setdefault(hypothesis.ids[0], []).append((hypothesis, distance))
        for some in by_fault.values():
            yield from sorted(some, key=lambda one: one[1].worst)[:PARAMS_IN_PAIRS]

    def _try(self, hypothesis: Hypothesis) -> None:
        """Compare with the image that deviates most, and where that is explained with the others."""
        forms = hypothesis.forms
        distance = self.evidence.distance(self.chain, forms, self.first)
        if len(hypothesis.faults) == 1:
            self.tried[hypothesis] = distance
        if not self._explains(distance, self.right[self.first]):
            return
        everything = [distance, *self._others(hypothesis)]
        worst = _mean(everything)
        if worst > min(EXPLAINED, REMOVED * _mean(self.right)) or not self._each_counts(hypothesis, worst):
            return
        self.found.append((hypothesis, worst, max(one.residual for one in everything)))

    def _others(self, hypothesis: Hypothesis) -> list[Distance]:
        """From all images but the first."""
        return [self.evidence.distance(self.chain, hypothesis.forms, index) for index in self.order[1:]]

    def _each_counts(self, hypothesis: Hypothesis, worst: float) -> bool:
        """Whether two mistakes explain far more than one of them, which may be the right thing for some images."""
        if len(hypothesis.faults) == 1:
            return True
        for fault, params in zip(hypothesis.faults, hypothesis.params, strict=True):
            alone = Hypothesis((fault,), (params,))
            if alone not in self.tried:
                self.tried[alone] = self.evidence.distance(self.chain, alone.forms, self.first)
            if worst > REMOVED * _mean([self.tried[alone], *self._others(alone)]):
                return False
        return True

    @staticmethod
    def _explains(distance: Distance, right: Distance) -> bool:
        return distance.worst <= EXPLAINED and distance.worst <= REMOVED * right.worst

    def _ranked(self) -> list[Explanation]:
        if not self.found:
            return [Explanation((), (), self.right[self.first].residual, 0.0)]
        simplest = sorted(self.found, key=lambda one: (len(one[0].faults), one[0].free, one[1]))
        best = simplest[0]
        rivals = [
            one for one in simplest
            if one[0].ids != best[0].ids and one[1] <= 1.5 * best[1] + 0.02 and one[0].free <= best[0].free
        ]  # fmt: skip
        explanations: list[Explanation] = []
        for hypothesis, worst, residual in simplest:
            if any(hypothesis.ids == tuple(f.id for f in e.faults) for e in explanations):
                continue
            confidence = _confidence(worst, len(rivals), len(hypothesis.faults), hypothesis.free)
            if explanations:
                confidence = min(confidence, (1 - explanations[0].confidence) if not rivals else confidence)
            explanations.append(Explanation(hypothesis.faults, hypothesis.params, residual, round(confidence, 2)))
        return explanations[:SHOWN]


def _mean(distances: Sequence[Distance]) -> float:
    return float(np.mean([one.worst for one in distances]))


def _confidence(worst: float, rivals: int, faults: int, free: int) -> float:
    """How sure an answer is: less where precision alone does not account for the rest, or others explain as much."""
    sure = 0.98 - 0.15 * max(0.0, worst - 0.5) - 0.03 * (faults - 1) - 0.01 * free
    return sure / (1 + rivals)
