"""Narrow networks, small images and their truth, on which every known mistake shows."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from conformance.support.recipe import recipe_weight
from conformance.support.small_model import Changes, small_card
from harness.cards import ModelCard
from harness.cards.model import Decode
from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.data.dataset import Dataset, load_coco
from harness.faults import PortSpec, Setting
from harness.faults.port import Port, TorchRunner
from harness.faults.stages.results import Rows, write_as
from harness.run.subject import Subject
from harness.types import UInt8

SIZES = ((75, 53), (60, 91), (81, 81), (101, 55), (64, 96), (96, 70), (57, 57))
"""(height, width): odd and even, wide and high."""
NORMALISED: Changes = {"scale": 1 / 255, "mean": (0.408, 0.447, 0.470), "std": (0.289, 0.274, 0.278)}


class Narrow(HeadedNetwork):
    """Batch norm, one DCNv2 with offset groups and dilation as asked for, and heads."""

    def __init__(self, wh: int = 2, groups: int = 1, dilation: int = 1) -> None:
        heads = {"hm": 80, "wh": wh} | ({"reg": 2} if wh == 2 else {})
        super().__init__(heads, 8, 6)
        dcn = DCNv2(8, 8, padding=dilation, dilation=dilation, offset_groups=groups)
        self.stages = nn.Sequential(
            nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), dcn, nn.BatchNorm2d(8), nn.ReLU()
        )

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 8, H / 4, W / 4)."""
        result: Tensor = self.stages(x)
        return result


def narrow_network(wh: int = 2, groups: int = 1, dilation: int = 1, seed: int = 0) -> HeadedNetwork:
    """Scores from 0 to nearly 1, boxes of some cells that overlap, offsets of some cells."""
    network = Narrow(wh, groups, dilation)
    name_of = (lambda name: name) if seed == 0 else (lambda name: f"{seed}.{name}")
    for name, tensor in network.state_dict().items():
        kind = name if "conv_offset_mask" in name or name.endswith(("running_var", "tracked")) else name_of(name)
        tensor.copy_(torch.from_numpy(recipe_weight(kind, tuple(tensor.shape))))
    with torch.no_grad():
        network.hm[2].weight *= 3.0
        network.hm[2].bias -= 2.0
        network.wh[2].bias += torch.tensor([9.0, 7.0] * (wh // 2))
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Case:
    """Model of which right and wrong ports are made.

    Attributes:
        name: Short.
        card: Its contract.
        module: Its network.
    """

    name: str
    card: ModelCard
    module: HeadedNetwork

    @property
    def subject(self) -> Subject:
        """Make the subject that the suite checks."""
        return Subject(self.card, self.module, None, self.name)

    def setting(self, precision: str = "fp32", batch_size: int = 4) -> Setting:
        """Read the properties that decide which faults are possible."""
        return Setting.of(self.card, self.module, precision, batch_size)

    def port(self, spec: PortSpec, *, half: bool = False, batch_size: int = 4) -> Port:
        """Make a port that computes by a specification."""
        return Port(self.card, TorchRunner(self.card, self.module, half=half), spec, batch_size)


LTRB: Changes = {"names": ("hm", "wh"), "heads": ("hm", "wh"), "box": "ltrb", "hm": "probability", "box_unit": "input"}


@cache
def cases() -> dict[str, Case]:
    """Make a model like the official ones, one like mb3_centernet, and one whose DCN has groups and dilation."""
    thresholded = Decode(score_threshold=0.245)  # nothing is found in the image of one colour
    pixels: Changes = {"layout": "NHWC", "channel_order": "RGB", "geometry": "letterbox"}
    return {
        "official": Case("official", small_card(None, image=NORMALISED, decode=thresholded), narrow_network()),
        "ltrb": Case("ltrb", small_card(None, image={**NORMALISED, **pixels}, output=LTRB), narrow_network(4)),
        "grouped": Case("grouped", small_card(None, image=NORMALISED), narrow_network(2, groups=2, dilation=2)),
    }


def image_of(seed: int, height: int, width: int) -> UInt8:
    """Coarse and fine structure in three different colours; the last of `SIZES` is of one colour."""
    random = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for cell, weight in ((16, 0.6), (5, 0.4)):
        coarse = random.uniform(0, 255, (height // cell + 2, width // cell + 2, 3))
        image += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(image * [1.0, 0.8, 1.2], 0, 255).astype(np.uint8)


def make_images(root: Path, count: int = len(SIZES), seed: int = 0) -> Dataset:
    """Write small images without objects in COCO's layout."""
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    entries = []
    for number, (height, width) in enumerate(SIZES[:count]):
        image = image_of(100 * seed + number, height, width)
        if number == len(SIZES) - 1:
            image[:] = (90, 120, 150)
        cv2.imwrite(str(root / "val2017" / f"{number + 1:012}.png"), image)
        entries.append({"id": number + 1, "file_name": f"{number + 1:012}.png", "width": width, "height": height})
    categories = [{"id": i, "name": f"c{i}"} for i in range(1, 92)]
    _write(root, {"images": entries, "annotations": [], "categories": categories})
    return load_coco(root)


def annotate(root: Path, rows: Rows) -> Dataset:
    """Make truth of the best detections: small and large, some crowds, and one where little is found."""
    file = root / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    annotations: list[dict[str, Any]] = []
    by_image = Counter[int]()
    for row in rows:
        by_image[row["image_id"]] += 1
        place = by_image[row["image_id"]]
        if place > 30 or place % 3 == 0:
            continue
        x, y, width, height = row["bbox"]
        box = [x + 0.05 * width * (place % 4), y, 1.5 * max(width, 1.0), max(height, 1.0)]
        entry = {"id": len(annotations) + 1, "image_id": row["image_id"], "category_id": row["category_id"]}
        annotations.append({**entry, "bbox": box, "area": 0.6 * box[2] * box[3], "iscrowd": int(place % 7 == 1)})
    last = {"id": len(annotations) + 1, "image_id": len(content["images"]), "category_id": 1}
    annotations.append({**last, "bbox": [5, 5, 20, 20], "area": 300, "iscrowd": 0})
    _write(root, {**content, "annotations": annotations})
    return load_coco(root)


def rows_of_port(port: Port, dataset: Dataset) -> Rows:
    """Write the rows of a port's results file."""
    images = [dataset.read_image(image_id) for image_id in dataset.image_ids]
    found = dict(zip(dataset.image_ids, port.detections(images), strict=True))
    places = dict(zip(dataset.image_ids, (placement for _, placement in port.inputs(images)), strict=True))
    return write_as(port.card, port.spec.results, found, places)


def _write(root: Path, content: dict[str, Any]) -> None:
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
