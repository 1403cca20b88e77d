"""A correct port at int8 is not said to deviate: 20 sets of weights and of images, judged by AP as the suite does."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conformance.catalogue.test_no_false_alarm import SEEDS, folded, with_weights
from harness.cards import ModelCard, load_model_card
from harness.cards.tolerances import load_tolerance
from harness.centernet.networks import HeadedNetwork
from harness.checks.bootstrap import Difference, paired_bootstrap
from harness.checks.matching import Matches, match
from harness.data.calibration import Calibration
from harness.data.dataset import Dataset, load_coco
from harness.data.synthetic import embedded_dataset_root
from harness.devices.artifact import Exported
from harness.devices.base import Device
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.torch import TorchDevice
from harness.export import export_standard
from harness.run.pipeline import detect
from harness.run.subject import load_subject

pytestmark = pytest.mark.catalogue

SIDE, IMAGES, CALIBRATION = 256, 16, 4
SPREAD = 0.002
"""Spread of the weights about the trained ones, as a share of each."""


def card() -> ModelCard:
    """Make the card of the embedded network at a quarter of the area."""
    own = load_model_card("embedded")
    return own.model_copy(update={"input": own.input.model_copy(update={"height": SIDE, "width": SIDE})})


def network_of(seed: int) -> HeadedNetwork:
    """The trained network, its weights a little off."""
    network = load_subject(card(), None, None).module
    assert network is not None
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.mul_(1 + SPREAD * torch.randn_like(parameter))
    return network


def images_of(seed: int, whole: Dataset) -> Dataset:
    """Some of the embedded images."""
    ids = set(np.random.default_rng(seed).choice(whole.image_ids, IMAGES, replace=False).tolist())
    images = tuple(image for image in whole.instances.images if image.id in ids)
    annotations = tuple(annotation for annotation in whole.instances.annotations if annotation.image_id in ids)
    return Dataset(whole.folder, replace(whole.instances, images=images, annotations=annotations))


def matches(device: Device, exported: Exported, precision: str, images: Dataset) -> Matches:
    artifact = device.convert(exported, 1, precision)
    results, _ = detect(device, artifact, exported.card, images, 1)
    return match(images.instances, results, exported.card.category_ids)


def difference(seed: int, template: Path, folder: Path, whole: Dataset) -> Difference:
    network, images, model = network_of(seed), images_of(seed, whole), card()
    golden = matches(TorchDevice(), Exported(model, "module", network), "fp32", images)
    path = with_weights(template, network, folder / "port.onnx")
    exported = Exported(model, "standard", None, path, Calibration(model, whole, CALIBRATION))
    return paired_bootstrap(matches(OnnxRuntimeDevice(), exported, "int8", images), golden)


def test_int8_of_twenty_networks_is_never_said_to_deviate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_coco(embedded_dataset_root("val"))
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    template = tmp_path / "template.onnx"
    export_standard(folded(network_of(0)), card(), template, batch_size=None, weights_sha256="0" * 64)
    allowed = load_tolerance("int8").ap_loss_allowed
    found = [difference(seed, template, tmp_path, whole) for seed in range(SEEDS)]
    verdicts = Counter(
        "undecided" if not one.decides(allowed) else "conforms" if one.loss <= allowed else "deviates" for one in found
    )
    losses = np.array([one.loss for one in found])
    error = losses.std(ddof=1) / len(losses) ** 0.5
    with capsys.disabled():
        print(
            f"\nonnxruntime int8, {SEEDS} seeds of {IMAGES} images: {dict(verdicts)}; "
            f"mean AP loss {losses.mean():.4f} (standard error {error:.4f}), allowed {allowed:.4f}"
        )
    assert verdicts["deviates"] == 0
    assert losses.mean() <= allowed
