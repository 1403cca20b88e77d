"""Comparisons of the parts of a run put together as those of the run in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.checks.comparison import Comparison, worst


def join(parts: Sequence[Sequence[Comparison]]) -> list[Comparison]:
    """Join what was compared of one stage in all parts.

    What every part has compared stands once, with the worst outcome. Of the later calls, each part has the worst of its
    own, and the worst of these is that of all. Counts of images are added up, unless a part lacks them: there, as in a
    run in one piece, something before it has failed.

    Args:
        parts: In the order of their images.
    """
    groups: dict[str, list[Comparison]] = {}
    for comparisons in parts:
        for one in comparisons:
            groups.setdefault(one.worst_of or one.what, []).append(one)
    joined = []
    for group in groups.values():
        if not group[0].images:
            joined.append(worst(group))
        elif len(group) == len(parts):
            joined.append(_added(group))
    return joined


def _added(group: Sequence[Comparison]) -> Comparison:
    """Add up what the parts say of all their images: the first that deviates, or the rows of all."""
    images, beyond = sum(one.images for one in group), sum(one.beyond for one in group)
    failed = next((one for one in group if one.problem is not None), None)
    if failed is not None:
        return replace(failed, images=images, beyond=beyond)
    return replace(group[0], images=images, beyond=beyond, count=sum(one.count for one in group))


def until_first_problem(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons up to the first that deviates, where a run in one piece makes no more."""
    end = next((place for place, one in enumerate(comparisons) if one.problem is not None), len(comparisons))
    return list(comparisons[: end + 1])
