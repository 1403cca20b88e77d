"""The weights that ship with the suite: small, trained, and with deformable convolutions that deform."""

import re

import pytest
import torch

from harness.cards import load_model_card
from harness.centernet.networks import create_model
from harness.centernet.ops import DCNv2, split_offset_mask
from harness.centernet.preprocess import make_batch
from harness.data.dataset import load_coco
from harness.data.synthetic import embedded_dataset_root
from harness.paths import data_path
from harness.run.session import Session
from harness.training.weights import load_weights

MEGABYTES = 8
DEFORMED = 0.3
"""Least median offset of every DCN layer in pixels."""


@pytest.fixture(scope="module")
def offsets() -> dict[str, float]:
    """Median |offset| in pixels of each DCN layer over a few images."""
    card = load_model_card("embedded")
    assert card.network is not None
    assert card.network.weights is not None
    model = create_model(card.network.arch, card.head_channels, width=card.network.width).eval()
    load_weights(model, data_path("fixtures", card.network.weights))
    found: dict[str, float] = {}

    def note(name: str, offset_mask: torch.Tensor) -> None:
        found[name] = float(split_offset_mask(offset_mask)[0].abs().median())

    for name, module in model.named_modules():
        if isinstance(module, DCNv2):
            module.conv_offset_mask.register_forward_hook(lambda _m, _i, out, name=name: note(name, out))
    images = load_coco(embedded_dataset_root("val"), limit=4)
    batch = make_batch(card, [(id_, images.read_image(id_)) for id_ in images.image_ids])
    with torch.inference_mode():
        model(torch.from_numpy(batch.images))
    return found


def test_all_sixteen_layers_deform(offsets: dict[str, float]) -> None:
    assert len(offsets) == 16
    assert min(offsets.values()) >= DEFORMED, offsets


def test_weights_are_small() -> None:
    files = list(data_path("fixtures", "weights").glob("*.pth"))
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) <= MEGABYTES * 1e6


def test_no_committed_model_carries_a_path() -> None:
    files = [*data_path("fixtures").rglob("*.pth"), *data_path("fixtures").rglob("*.onnx")]
    assert files
    for file in files:
        assert not re.search(rb"/(?:home|root|tmp|Users)/|site-packages", file.read_bytes()), file


def test_ap_shows_a_gain_and_a_loss(session: Session) -> None:
    options = session.options
    if (options.card.name, options.coco, options.limit) != ("embedded", None, None) or options.weights or options.onnx:
        pytest.skip("the run is about another model, data set or number of images")
    assert 0.30 <= session.scoring.reference_metrics.AP <= 0.65
