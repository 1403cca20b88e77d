"""The first wrong node of any graph is found in few runs, whatever of its tensors can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from harness.checks.comparison import Comparison
from harness.divergence.graph import CutGraph, save
from harness.divergence.search import Divergence, first_divergence


def chain(seed: int, count: int) -> ModelProto:
    """Make a graph of nodes that each add two earlier tensors, as in a network of skip connections."""
    random = np.random.default_rng(seed)
    nodes, names = [], ["input"]
    for place in range(count):
        taken = [names[int(random.integers(max(0, len(names) - 5), len(names)))] for _ in range(2)]
        nodes.append(helper.make_node("Add", [names[-1] if place % 3 else taken[0], taken[1]], [f"t{place}"]))
        names.append(f"t{place}")
    used = {name for node in nodes for name in node.input}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names]
    outputs = [value for value in values[1:] if value.name not in used]
    graph = helper.make_graph(nodes, "g", values[:1], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def located_in(graph: CutGraph, fault: int, unknown: set[str]) -> tuple[Divergence, int]:
    """Search for one wrong node; the right values of the tensors `unknown` are not known."""
    wrong: set[str] = set()
    for place, node in enumerate(graph.nodes):
        if place == fault or wrong.intersection(node.input):
            wrong.update(node.output)

    def measure(names: Sequence[str]) -> Mapping[str, Comparison]:
        assert names
        return {name: Comparison(name, 1.0, 0.5, 1, "wrong" if name in wrong else None) for name in names}

    known = set(graph.values) - unknown
    found, runs = first_divergence(graph, known, measure)
    assert found is not None
    between = [name for name in graph.values if found.start <= graph.made_by[name] < found.end - 1]
    assert not wrong & set(between) & known
    assert found.runs == runs
    return found, runs


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), data=st.data())
def test_any_node_of_any_graph_is_found_in_log2_runs(
    seed: int, count: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph = CutGraph(save(chain(seed, count), tmp_path_factory.mktemp("chain") / "chain.onnx"))
    fault = data.draw(st.integers(0, count - 1))
    unknown = data.draw(st.sets(st.sampled_from(graph.values), max_size=count // 3)) - set(graph.outputs)
    found, runs = located_in(graph, fault, unknown)
    assert found.start <= fault < found.end
    assert runs <= math.ceil(math.log2(count + 1)) + 2
    if not unknown:
        assert found.end - found.start == 1


def test_what_nothing_right_was_made_of_may_be_wrong(tmp_path: Path) -> None:
    """Unknown tensors pass by the known ones that are right, and go wrong before those."""
    graph = CutGraph(save(chain(12, 9), tmp_path / "chain.onnx"))
    found, _ = located_in(graph, 0, {"t0", "t1", "t2"})
    assert (found.start, found.end) == (0, 6)
    found, _ = located_in(graph, 5, {"t0"})  # t1 is right, and it was made of t0
    assert (found.start, found.end) == (5, 6)
