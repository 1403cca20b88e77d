"""Bisection for the first nodes that compute wrong tensors from right ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.checks.comparison import Comparison
from harness.divergence.graph import CutGraph

Measure = Callable[[Sequence[str]], Mapping[str, Comparison]]
"""Runs the device on the model cut at some tensors, and compares each with its right value."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first divergence of a device.

    Attributes:
        start: Place of the first suspect node. Every tensor that crosses to it is right, or a right one was computed
            from it.
        end: Place behind the last suspect node. No tensor between start and end could be compared.
        worst: The comparison that is furthest beyond its limit, of the tensors that cross at `end`.
        tensor: Name of that tensor.
        runs: Number of runs of the device.
    """

    start: int
    end: int
    worst: Comparison
    tensor: str
    runs: int


def first_divergence(graph: CutGraph, known: set[str], measure: Measure) -> tuple[Divergence | None, int]:
    """Find the first nodes whose inputs are right and whose outputs are not.

    Every answer is certain by measurement: the inputs of the nodes were right, or a right tensor was computed from
    them, and an output was wrong. That the place is the *first* one is an assumption of bisection: an error persists
    down to the outputs. The search therefore ends with a run that compares every tensor before the place. If one of
    them is wrong, later nodes have hidden that error, and the search begins again before it.

    Args:
        graph: The graph that the device runs.
        known: Names of the tensors with a known right value.
        measure: Runs the device and compares tensors.

    Returns:
        The divergence, or None if the outputs are right; and the number of runs of the device.
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
            # The node can lie before the certain cut only if the device is not deterministic.
            start = min(search.last_certain_cut(place), graph.made_by[tensor])
            return Divergence(start, cuts[last], comparison, tensor, search.runs), search.runs
        # An earlier tensor was wrong, and later nodes hid it.
        tensor, comparison = wrong = earlier
        last = next(place for place, cut in enumerate(cuts) if cut > graph.made_by[tensor])
        right = -1


def _cuts(graph: CutGraph, known: set[str]) -> list[int]:
    """List the places at which another tensor can be compared, the end included."""
    return sorted({graph.made_by[name] + 1 for name in graph.values if name in known} | {len(graph)})


@dataclass(slots=True)
class _Search:
    graph: CutGraph
    known: set[str]
    measure: Measure
    runs: int = 0

    def wrong_at(self, place: int) -> tuple[str, Comparison] | None:
        """Return the worst tensor that crosses a cut; None if all are right.

        A tensor without a known value is replaced by the known tensors that it was computed from.
        """
        needed = set(self.graph.crossing(place))
        for node in reversed(self.graph.nodes[:place]):
            if needed.intersection(node.output) - self.known:
                needed.update(node.input)
        return self._worst([name for name in self.graph.values if name in needed & self.known])

    def last_certain_cut(self, place: int) -> int:
        """Return the last cut up to `place` that no wrong tensor can cross; all known tensors before `place` are right.

        A tensor without a known value counts as right if a right tensor was computed from it.
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
        """Return the first wrong tensor of all before a cut; None if there is none."""
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
