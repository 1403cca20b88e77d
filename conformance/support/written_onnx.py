"""What tests ask of an ONNX that was written: what it computes, and that it names nothing of the machine."""

from __future__ import annotations

import re
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

ALLOWED = 1e-4
"""Of each output's largest magnitude."""

ABSOLUTE_PATH = re.compile(rb"/(?:home|root|tmp|usr|opt|var|mnt|Users)/|site-packages|[A-Za-z]:\\")


def run_onnx(model: Path | ModelProto, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What ONNX Runtime computes of one input, without this project's device."""
    content = model if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def assert_computes(model: ModelProto, network: HeadedNetwork, card: ModelCard, images: NDArray[Any]) -> None:
    """The outputs of the card, in its order, equal to those of the network."""
    with torch.inference_mode():
        golden = CardNetwork(network, card)(torch.from_numpy(images))
    found = run_onnx(model, images)
    assert list(found) == list(card.output.names)
    for (name, values), expected in zip(found.items(), golden, strict=True):
        assert values.shape == expected.shape, name
        difference = float(np.abs(values - expected.numpy()).max() / expected.abs().max())
        assert difference <= ALLOWED, f"{name}: off by {difference:.2e}"


def assert_names_no_path(model: ModelProto) -> None:
    """Nothing of the exporting machine is in the file."""
    bare = ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")  # weights hold any bytes by chance
    content = bare.SerializeToString()
    assert not ABSOLUTE_PATH.findall(content)
    assert str(Path(harness.__file__).parent.parent).encode() not in content
    assert b"stack_trace" not in content
