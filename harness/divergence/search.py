"""Bisection: the first nodes that make something wrong of what is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.checks.comparison import Comparison
from harness.divergence.graph import CutGraph

Measure = Callable[[Sequence[str]], Mapping[str, Comparison]]
"""Runs the device on the model cut at some tensors, and holds each to what is expected of it."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a device first goes wrong.

    Attributes:
        start: Place of the first node that may be at fault; all that crosses to it is right, or something right was
            made of it.
        end: Place behind the last; all nodes between are at fault where nothing between them could be compared.
        worst: Of what crosses behind them, the comparison that is furthest beyond its limit.
        tensor: That it is of.
        runs: How often the device ran.
    """

    start: int
    end: int
    worst: Comparison
    tensor: str
    runs: int


def first_divergence(graph: CutGraph, known: set[str], measure: Measure) -> tuple[Divergence | None, int]:
    """Find the first nodes whose inputs are right and whose outputs are not.

    Every answer is certain by what was measured: of the nodes found, what goes in was right, or something right was
    made of it, and what comes out was wrong. That it is the *first* such place takes for granted that what is wrong
    stays wrong down to the outputs. So the search ends with a run that shows everything before it, and begins anew
    there where something was wrong before and healed.

    Args:
        graph: What the device runs.
        known: Tensors of which the right value is known.
        measure: Runs and compares.

    Returns:
        What was found, None where the outputs are right; and how often the device ran.
    """
    cuts = _cuts(graph, known)
    search = _Search(graph, known, measure)
    last = len(cuts) - 1
    wrong = search.wrong_at(cuts[last])
    if wrong is None:
        return None, search.runs
    right = -1
    while True:
        while last - right > 1:
            middle = (right + last) // 2
            found = search.wrong_at(cuts[middle])
            if found is None:
                right = middle
            else:
                last, wrong = middle, found
        place = 0 if right < 0 else cuts[right]
        earlier = search.first_wrong_before(place)
        if earlier is None:
            tensor, comparison = wrong
            # Earlier than what is certain only where a device does not give the same twice.
            start = min(search.last_certain_cut(place), graph.made_by[tensor])
            return Divergence(start, cuts[last], comparison, tensor, search.runs), search.runs
        # It was wrong already, and what came after hid it.
        tensor, comparison = wrong = earlier
        last = next(place for place, cut in enumerate(cuts) if cut > graph.made_by[tensor])
        right = -1


def _cuts(graph: CutGraph, known: set[str]) -> list[int]:
    """Places where something new can be compared, the end included."""
    return sorted({graph.made_by[name] + 1 for name in graph.values if name in known} | {len(graph)})


@dataclass(slots=True)
class _Search:
    graph: CutGraph
    known: set[str]
    measure: Measure
    runs: int = 0

    def wrong_at(self, place: int) -> tuple[str, Comparison] | None:
        """The worst of what crosses a cut; None where all of it is right.

        In the place of a tensor that is not known stand the known ones that it was made of.
        """
        needed = set(self.graph.crossing(place))
        for node in reversed(self.graph.nodes[:place]):
            if needed.intersection(node.output) - self.known:
                needed.update(node.input)
        return self._worst([name for name in self.graph.values if name in needed & self.known])

    def last_certain_cut(self, place: int) -> int:
        """The last cut up to `place`, all before which was right where it is known, that nothing wrong can cross.

        A tensor that is not known is taken for right where something right was made of it.
        """
        for cut in range(place, 0, -1):
            certain = set(self.known)
            for node in reversed(self.graph.nodes[:cut]):
                if certain.intersection(node.output):
                    certain.update(node.input)
            if certain.issuperset(set(self.graph.crossing(cut)).intersection(self.graph.values)):
                return cut
        return 0

    def first_wrong_before(self, place: int) -> tuple[str, Comparison] | None:
        """The first tensor that is wrong of all before a cut."""
        names = [name for name in self.graph.values if name in self.known and self.graph.made_by[name] < place]
        if not names:
            return None
        compared = self._run(names)
        return next(((name, compared[name]) for name in names if compared[name].problem is not None), None)

    def _worst(self, names: Sequence[str]) -> tuple[str, Comparison] | None:
        if not names:
            return None
        wrong = [(name, found) for name, found in self._run(names).items() if found.problem is not None]
        return max(wrong, key=lambda pair: _excess(pair[1]), default=None)

    def _run(self, names: Sequence[str]) -> Mapping[str, Comparison]:
        self.runs += 1
        return self.measure(names)


def _excess(comparison: Comparison) -> float:
    return comparison.measured / comparison.allowed if comparison.allowed else math.inf
