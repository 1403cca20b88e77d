"""Walks through a graph of operators, whatever tool wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

NodeT = TypeVar("NodeT")


def walk_back(
    start: Iterable[str], producer: Callable[[str], NodeT | None], inputs: Callable[[NodeT], Iterable[str]]
) -> list[NodeT]:
    """Collect the nodes that some tensors are computed by, in the order in which the walk meets them.

    Args:
        start: Names of the tensors.
        producer: Gives the node that computes a tensor, or None for weights and inputs of the graph.
        inputs: Gives the tensors of a node to which the walk continues; none to end it there.
    """
    found: dict[str, NodeT] = {}
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        node = producer(name)
        if node is not None and name not in found:
            found[name] = node
            waiting += inputs(node)
    return list(found.values())


def serving_one_output(
    nodes: Iterable[tuple[NodeT, Sequence[str], Sequence[str]]], outputs: Sequence[str]
) -> list[NodeT]:
    """Collect the nodes on which exactly one of several outputs depends: the branch of each head.

    Args:
        nodes: Each node with the names of its outputs and inputs, in topological order.
        outputs: Names of the outputs of the graph.

    Returns:
        The nodes in topological order.
    """
    serves: dict[str, set[str]] = {output: {output} for output in outputs}
    found = []
    for node, made, taken in reversed(list(nodes)):
        own = set().union(*(serves.get(name, set()) for name in made))
        for name in taken:
            serves.setdefault(name, set()).update(own)
        if len(own) == 1:
            found.append(node)
    return found[::-1]
