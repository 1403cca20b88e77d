"""A complete subject for the suite in one folder: a card, weights, an ONNX, a data set, and a vendor's devices."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import torch

from conformance.support import vendor
from conformance.support.recipe import recipe_network
from harness.cards import ModelCard, load_model_card
from harness.centernet.networks import HeadedNetwork
from harness.centernet.preprocess import preprocess
from harness.data.dataset import Dataset, load_coco
from harness.data.synthetic import load_spec, materialise
from harness.devices.artifact import Exported
from harness.devices.torch import TorchDevice
from harness.export import export_standard
from harness.files import file_sha256
from harness.run.pipeline import detect

ARCH, WIDTH, SIDE = "res_18", 0.0625, 64
IMAGES = 11
"""No multiple of the batch size 4, and more than the images whose heads are compared."""
COMPARED = (0, 1, 3, 4, 6, 7, 9, 10)
"""Places of the images whose heads are compared: eight, spread from the first to the last."""
OBJECTS = 12
"""Annotations of each image: the best detections of the network, so that its AP is far from 0."""

CARD = f"""\
name = "tiny"
description = "a network of a few thousand parameters"
source = "this test"
batch_sizes = [1, 4]

[network]
arch = "{ARCH}"
width = {WIDTH}

[input]
height = {SIDE}
width = {SIDE}
channel_order = "BGR"
scale = 0.00392156862745098
mean = [0.408, 0.447, 0.470]
std = [0.289, 0.274, 0.278]
geometry = "affine"

[output]
names = ["hm", "wh", "reg"]
hm = "logits"
"""


class TinySetup:
    """The paths of all parts, below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.card, self.weights, self.onnx = (root / f"tiny.{suffix}" for suffix in ("toml", "pth", "onnx"))
        self.coco, self.vendor = root / "coco", root / "vendor"

    @property
    def model_card(self) -> ModelCard:
        return load_model_card(self.card)

    @property
    def dataset(self) -> Dataset:
        return load_coco(self.coco)


def make_tiny(root: Path) -> TinySetup:
    """Write all parts into the empty folder `root`."""
    tiny = TinySetup(root)
    tiny.card.write_text(CARD, encoding="utf-8")
    network = tiny_network()
    torch.save({"state_dict": network.state_dict()}, tiny.weights)
    export_standard(network, tiny.model_card, tiny.onnx, batch_size=None, weights_sha256=file_sha256(tiny.weights))
    materialise(load_spec(), "val", root, limit=IMAGES).rename(tiny.coco)
    _annotate(tiny, network)
    tiny.vendor.mkdir()
    vendor.install(tiny.vendor)
    _choose_unseen(tiny)
    return tiny


def tiny_network() -> HeadedNetwork:
    """Make a network with scores from nearly 0 to nearly 1, and boxes wider than high."""
    network = recipe_network(ARCH, WIDTH)
    state = network.state_dict()
    state["hm.2.weight"] *= 2
    state["hm.2.bias"] -= 4
    state["wh.2.bias"] += torch.tensor([5.0, 3.0])
    return network


def _annotate(tiny: TinySetup, network: HeadedNetwork) -> None:
    """Replace the annotations of the data set by the best detections of the network."""
    card, dataset, device = tiny.model_card, tiny.dataset, TorchDevice()
    artifact = device.convert(Exported(card, "module", module=network), 1, "fp32")
    results, _ = detect(device, artifact, card, dataset, 1)
    annotations: list[dict[str, Any]] = []
    for image_id, found in results.items():
        for (x1, y1, x2, y2), index in zip(found.boxes[:OBJECTS].tolist(), found.classes.tolist(), strict=False):
            width, height = x2 - x1, y2 - y1
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": card.category_ids[index]}
            box = {"bbox": [x1, y1, width, height], "area": width * height, "iscrowd": 0}
            annotations.append({**entry, **box})
    file = tiny.coco / "annotations" / "instances_val2017.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": annotations}))


def _choose_unseen(tiny: TinySetup) -> None:
    """Write the images whose heads are not compared to a file for `Selective` and `Larger`."""
    dataset = tiny.dataset
    others = [image_id for place, image_id in enumerate(dataset.image_ids) if place not in COMPARED]
    images = [preprocess(tiny.model_card, dataset.read_image(image_id))[0] for image_id in others]
    unseen = [zlib.crc32(image.tobytes()) for image in images]
    (tiny.vendor / "unseen.json").write_text(json.dumps(unseen))
