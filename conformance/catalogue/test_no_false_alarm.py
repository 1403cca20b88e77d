"""Correct ports conform: 20 networks and 20 sets of images, every precision, batch sizes, numbers of threads.

What is compared and what is allowed is the suite's own; the margins (measured / allowed) of each port are printed.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from conformance.support.recipe import recipe_weight
from conformance.support.small_model import SIDES, small_card
from harness.centernet.heads import read_heads
from harness.centernet.networks import HeadedNetwork, create_model
from harness.checks.comparison import Comparison
from harness.checks.detections import compare_decisions
from harness.checks.heads import compare_heads
from harness.devices.artifact import Exported
from harness.devices.base import Device
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.torch import TorchDevice
from harness.export import export_standard
from harness.export.fold import fold_every_batch_norm
from harness.run.reference import Reference
from harness.run.subject import Subject
from harness.types import Float32, Heads

ARCH, WIDTH = "resdcn_18", 0.125
CARD = small_card(ARCH)
IMAGES = 4
SAMPLE, SEEDS = 2, 20
"""Numbers of seeds, of the default run and of the catalogue's."""


@dataclass(frozen=True, slots=True)
class Port:
    """A correct port: its device, precision and batch size, and PyTorch's threads."""

    device: Device
    precision: str = "fp32"
    batch_size: int = 1
    threads: int = 1


PORTS = {
    **{f"onnxruntime fp32, batch size {size}": Port(OnnxRuntimeDevice(), batch_size=size) for size in (1, 2, 4)},
    **{f"onnxruntime fp32, {n} threads": Port(OnnxRuntimeDevice(threads=n), batch_size=4) for n in (1, 2, 3)},
    **{f"onnxruntime fp16, batch size {n}": Port(OnnxRuntimeDevice(), "fp16", n) for n in (1, 4)},
    **{f"torch fp32, batch size {size}": Port(TorchDevice(), batch_size=size) for size in (2, 4)},
    **{f"torch fp32, {n} threads": Port(TorchDevice(), batch_size=4, threads=n) for n in (2, 3)},
    **{f"torch bf16, batch size {size}": Port(TorchDevice(), "bf16", size) for size in (1, 4)},
}


def network_of(seed: int) -> HeadedNetwork:
    """A network with weights of its own, offsets and batch norm far from trivial, scores from nearly 0 to nearly 1."""
    network = create_model(ARCH, width=WIDTH)
    state = network.state_dict()
    for name, tensor in state.items():
        tensor.copy_(torch.from_numpy(recipe_weight(f"{seed}.{name}", tuple(tensor.shape))))
    state["hm.2.bias"] -= 4
    state["wh.2.bias"] += torch.tensor([5.0, 3.0])
    return network.eval().requires_grad_(False)


def images_of(seed: int) -> Float32:
    """Images (4, 3, 64, 96), normalised: smooth fields with edges and a little noise."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(IMAGES):
        field_ = cv2.resize(random.standard_normal((5, 7, 3)), SIDES[::-1], interpolation=cv2.INTER_CUBIC)
        for _ in range(4):
            (x1, x2), (y1, y2) = (np.sort(random.integers(0, side, 2)) for side in SIDES[::-1])
            field_[y1:y2, x1:x2] = random.standard_normal(3) * 1.5
        found.append(field_ + 0.05 * random.standard_normal(field_.shape))
    return np.stack(found).astype(np.float32).transpose(0, 3, 1, 2).copy()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as ONNX, batch norm folded, so that its weights have the names of the folded network's."""
    path = tmp_path_factory.mktemp("template") / "template.onnx"
    export_standard(folded(network_of(0)), CARD, path, batch_size=None, weights_sha256="0" * 64)
    return path


def folded(network: HeadedNetwork) -> HeadedNetwork:
    copied = copy.deepcopy(network)
    fold_every_batch_norm(copied)
    return copied


def with_weights(template: Path, network: HeadedNetwork, path: Path) -> Path:
    """The template with the weights of another network."""
    model, state = onnx.load(template), folded(network).state_dict()
    for tensor in model.graph.initializer:
        if tensor.name.endswith((".weight", ".bias")):  # else a constant of the operators
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    onnx.save(model, path)
    return path


@dataclass(slots=True)
class Judge:
    """The suite's comparisons of one network and its images, and how close each port came."""

    subject: Subject
    images: Float32
    golden: list[Heads] = field(default_factory=list)
    exact: list[Heads] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.golden = self.heads(Port(TorchDevice()))
        self.exact = [self.subject.second_opinion(image[None]) for image in self.images]

    def heads(self, port: Port) -> list[Heads]:
        """Of each image."""
        card, dialect = self.subject.card, port.device.card.dialect
        exported = Exported(card, dialect, self.subject.module, None if dialect == "module" else self.subject.onnx)
        artifact = port.device.convert(exported, port.batch_size, port.precision)
        before = torch.get_num_threads()
        torch.set_num_threads(port.threads)
        try:
            batches = np.split(self.images, len(self.images) // port.batch_size)
            found = [read_heads(card, port.device.run(artifact, batch), len(batch)) for batch in batches]
        finally:
            torch.set_num_threads(before)
        return [{name: head[i : i + 1] for name, head in one.items()} for one in found for i in range(len(one["hm"]))]

    def compare(self, port: Port) -> Iterator[Comparison]:
        """Heads and decisions of each image, by the tolerance of the port's precision."""
        reference = Reference(self.subject, port.precision)
        for image, heads, golden, exact in zip(self.images, self.heads(port), self.golden, self.exact, strict=True):
            allowed = reference.allowed(image[None], golden, exact)
            yield from compare_heads(heads, golden, allowed, "image")
            yield from compare_decisions(CARD, heads, golden, allowed, "image")


def judge(seed: int, template: Path, folder: Path) -> Judge:
    network = network_of(seed)
    path = with_weights(template, network, folder / "port.onnx")
    return Judge(Subject(CARD, network, path, f"{seed:064}"), images_of(seed))


@pytest.mark.parametrize("seeds", [SAMPLE, pytest.param(SEEDS, marks=pytest.mark.catalogue)])
def test_correct_ports_conform(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: int) -> None:
    """Run all ports on all seeds, print the margins, and fail with every false alarm."""
    margins: dict[str, list[float]] = {name: [] for name in PORTS}
    alarms, count = [], 0
    for seed in range(seeds):
        judged = judge(seed, template, tmp_path)
        for name, port in PORTS.items():
            for comparison in judged.compare(port):
                count += 1
                margins[name].append(comparison.measured / comparison.allowed)
                if comparison.problem is not None:
                    alarms.append(f"seed {seed}, {name}: {comparison}")
    with capsys.disabled():
        print(f"\n{count} comparisons of correct ports over {seeds} seeds, false alarms: {len(alarms)}")
        for name, found in margins.items():
            print(f"  {name}: largest measured / allowed {max(found):.2f}, median {np.median(found):.2f}")
    assert alarms == []
