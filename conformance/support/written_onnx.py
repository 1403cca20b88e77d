"""Checks of written ONNX files: their outputs, and the absence of paths of the machine."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import ModelProto

import harness
from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.export.network import CardNetwork

Arrays = dict[str, NDArray[Any]]

ALLOWED = 1e-4
"""Allowed difference, as a share of each output's largest magnitude."""

ABSOLUTE_PATH = re.compile(rb"/(?:home|root|tmp|usr|opt|var|mnt|Users)/|site-packages|[A-Za-z]:\\")


def copied(model: ModelProto) -> ModelProto:
    """Copy a model, to be changed."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def run_onnx(model: Path | ModelProto, given: NDArray[Any] | Arrays, *, optimised: bool = True) -> Arrays:
    """Compute the outputs by ONNX Runtime, without this project's device; `given` is the only input, or all by name."""
    content = model if isinstance(model, Path) else model.SerializeToString()
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = given if isinstance(given, dict) else {session.get_inputs()[0].name: given}
    return dict(zip(names, session.run(names, feeds), strict=True))


def golden_outputs(network: HeadedNetwork, card: ModelCard, images: NDArray[Any]) -> Arrays:
    """Compute the outputs of the card by the network itself, its DCNs by torchvision."""
    with torch.inference_mode():
        outputs = CardNetwork(network, card)(torch.from_numpy(images))
    return {name: tensor.numpy() for name, tensor in zip(card.output.names, outputs, strict=True)}


def assert_equal(found: Mapping[str, NDArray[Any]], expected: Arrays, allowed: float = ALLOWED) -> None:
    """Compare names, order, shapes and values."""
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        difference = float(np.abs(found[name] - values).max() / np.abs(values).max())
        assert difference <= allowed, f"{name}: off by {difference:.2e} of its magnitude, allowed {allowed:.0e}"


def assert_computes(model: ModelProto, network: HeadedNetwork, card: ModelCard, images: NDArray[Any]) -> None:
    """Compare the outputs of a model with those of the network, in the order of the card."""
    assert_equal(run_onnx(model, images), golden_outputs(network, card, images))


@contextmanager
def unchanged(network: HeadedNetwork) -> Iterator[None]:
    """Fail if the block changes the modules, their modes or the weights of a network."""

    def form() -> list[tuple[type, bool, object]]:
        return [(type(part), part.training, getattr(part, "decomposed", None)) for part in network.modules()]

    parts, before = form(), {name: tensor.clone() for name, tensor in network.state_dict().items()}
    yield
    after = network.state_dict()
    assert form() == parts
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def assert_names_no_path(model: ModelProto) -> None:
    """Require that a model holds no path of the exporting machine."""
    bare = copied(model)
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")  # weights hold any bytes by chance
    content = bare.SerializeToString()
    assert not ABSOLUTE_PATH.findall(content)
    assert str(Path(harness.__file__).parent.parent).encode() not in content
    assert b"stack_trace" not in content
