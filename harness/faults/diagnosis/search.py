"""Which known mistake explains what a port gave: the catalogue, tried on the reference itself.

Every mistake that can be made is made on our own network and compared with what came: first one at a time, the cheap
ones (outputs, batches, decoding) before those that need another run of the network, then two together and those with
parameters that have to be found, the likely ones first, and at last both at once. A mistake explains what came where
what is left is what precision explains.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.faults.base import Fault, FaultStage, Params, Setting, compatible
from harness.faults.diagnosis.estimates import ESTIMATES
from harness.faults.diagnosis.evidence import Distance, Evidence
from harness.faults.diagnosis.explanation import (
    EXPLAINED,
    REMOVED,
    Explanation,
    Hypothesis,
    accounts_for,
    confidence_of,
    mean_of,
)
from harness.faults.diagnosis.fit import Fit
from harness.faults.diagnosis.predict import Chain
from harness.faults.forms import Forms

SURE = 0.5
"""Distance at which no dearer mistake is tried any more."""
FEW = 0.5
"""Distance below which only a few values deviate: no two mistakes are looked for then."""
SHOWN = 3
PARAMS_IN_PAIRS = 2
"""Of one fault, how many parameters are tried together with other faults."""
PROMISING = 250
"""Pairs that are tried before parameters are looked for."""
JOINT = ((30, 2), (4, 20))
"""Of how many pairs the parameters of one are looked for beside the other, and in how many rounds, in turn."""
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

    @property
    def richest(self) -> int:
        """The image whose pixels vary most: one of few colours leaves parameters open that have to be found."""
        return max(self.order, key=lambda index: float(np.std(self.chain.images[index], axis=(0, 1)).min()))

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
        """Whether certain mistakes explain all images."""
        with np.errstate(all="ignore"):
            found = [self.evidence.distance(self.chain, hypothesis.forms, i) for i in self.order]
        return accounts_for(found, [self.right[i] for i in self.order])

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

    def _fits(self, part: str | None) -> Iterator[Hypothesis]:
        for fault in self._applicable():
            if fault.starts and time.monotonic() < self.end:
                fit = Fit(self.chain, self.evidence, self.richest, fault, self.end, part)
                params = fit.fitted([*self._tried_params(fault), *fault.starts])
                if params is not None:
                    yield Hypothesis((fault,), (params,), len(params))

    def _joint_fits(self) -> Iterator[Hypothesis]:
        """Two mistakes, the parameters of one sought beside what the other alone would give, first where it is easy."""
        others, begun = [other for other, _ in self._best_params() if not other.free], []
        # A search for each of many pairs: of the starts, those that take all parameters to be alike.
        starts = {
            fault: [*self._tried_params(fault), *(start for start in fault.starts if len(set(start)) == 1)]
            for fault in self._applicable()
            if fault.starts
        }
        for fault, other in itertools.product(starts, others):
            if compatible((fault, *other.faults)) and time.monotonic() < self.end:
                fit = Fit(self.chain, self.evidence, self.richest, fault, self.end, base=other.forms)
                begun += [(error, params, fit, other) for error, params in fit.begun(starts[fault])[:1]]
        for count, rounds in JOINT:
            begun = [
                (*fit.descended(params, rounds), fit, other)
                for _, params, fit, other in sorted(begun, key=lambda one: one[0])[:count]
                if time.monotonic() < self.end
            ]
        for _, params, fit, other in sorted(begun, key=lambda one: one[0]):
            yield Hypothesis((fit.fault, *other.faults), (params, *other.params), len(params))

    def _tried_params(self, fault: Fault) -> list[Params]:
        """With which one mistake alone was made."""
        return [one.params[0] for one in self.tried if one.faults == (fault,)]

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
        """Of each fault alone the parameters that came closest; of those that were looked for also in one part."""
        by_fault: dict[str, list[tuple[Hypothesis, Distance]]] = {}
        for hypothesis, distance in self.tried.items():
            by_fault.setdefault(hypothesis.ids[0], []).append((hypothesis, distance))
        for some in by_fault.values():
            closest = sorted(some, key=lambda one: one[1].worst)[:PARAMS_IN_PAIRS]
            fitted = sorted((one for one in some if one[0].free), key=lambda one: one[1].best)[:1]
            yield from dict([*closest, *fitted]).items()

    def _try(self, hypothesis: Hypothesis) -> None:
        """Compare with the image that deviates most, and where that is explained with the others."""
        forms = hypothesis.forms
        distance = self.evidence.distance(self.chain, forms, self.first)
        if len(hypothesis.faults) == 1:
            self.tried[hypothesis] = distance
        if not self._explains(distance, self.right[self.first]):
            return
        everything = [distance, *self._others(hypothesis)]
        right = [self.right[index] for index in self.order]
        if not accounts_for(everything, right) or not self._each_counts(hypothesis, everything):
            return
        self.found.append((hypothesis, mean_of(everything), max(one.residual for one in everything)))

    def _others(self, hypothesis: Hypothesis) -> list[Distance]:
        """From all images but the first."""
        return [self.evidence.distance(self.chain, hypothesis.forms, index) for index in self.order[1:]]

    def _each_counts(self, hypothesis: Hypothesis, both: Sequence[Distance]) -> bool:
        """Whether two mistakes explain far more than one of them, which may be the right thing for some images."""
        if len(hypothesis.faults) == 1:
            return True
        for fault, params in zip(hypothesis.faults, hypothesis.params, strict=True):
            alone = Hypothesis((fault,), (params,))
            if alone not in self.tried:
                self.tried[alone] = self.evidence.distance(self.chain, alone.forms, self.first)
            if not accounts_for(both, [self.tried[alone], *self._others(alone)]):
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
            confidence = confidence_of(worst, len(rivals), len(hypothesis.faults), hypothesis.free)
            if explanations:
                confidence = min(confidence, (1 - explanations[0].confidence) if not rivals else confidence)
            explanations.append(Explanation(hypothesis.faults, hypothesis.params, residual, round(confidence, 2)))
        return explanations[:SHOWN]
