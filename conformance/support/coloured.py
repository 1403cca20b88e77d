"""A CenterNet of a few numbers that finds coloured rectangles exactly, and images of them in COCO's layout.

Its input is RGB in 0..1 of 64 x 64 pixels. The score of a class falls steeply with the distance of the mean colour of a
window from the colour of the class, so pixels that are prepared otherwise score nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from harness.cards import ModelCard
from harness.cards.model import Input, OutputHeads
from harness.types import UInt8

SIDE, STRIDE = 64, 4
COLOURS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.1, 0.1, 1.0))
"""Of the classes, R, G and B."""
CELLS = (5, 3)
"""Width and height of every object on the output grid."""
IMAGE = (96, 72)
"""Width and height of the images in pixels: scaled to 64 by 2/3, with a margin above and below."""
STEEP, HIGHEST = 24.0, 6.0
FAR, ABYSS = 0.5, 1000.0
"""Beyond this distance of colours the logit falls so steeply that the score becomes 0."""


def coloured_card() -> ModelCard:
    """The card of the network."""
    image = Input(
        name="input",
        height=SIDE,
        width=SIDE,
        channel_order="RGB",
        scale=1 / 255,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        geometry="letterbox",
    )
    heads = OutputHeads(names=("hm", "wh", "reg"), hm="logits")
    return ModelCard(name="coloured", description="d", source="s", category_ids=(1, 2, 3), input=image, output=heads)


def coloured_network() -> ModelProto:
    """(N, 3, 64, 64) RGB in 0..1 -> hm (logits), wh and reg on a grid of 16 x 16."""
    constants = {
        "colours": np.array(COLOURS, np.float32).reshape(1, 3, 3, 1, 1),
        "classes": np.array([1], np.int64),
        "channels": np.array([2], np.int64),
        "steep": np.float32(-STEEP),
        "highest": np.float32(HIGHEST),
        "far": np.float32(FAR),
        "abyss": np.float32(ABYSS),
        "nothing": np.zeros((2, 3, 1, 1), np.float32),
        "size": np.array(CELLS, np.float32),
        "half": np.array([0.5, 0.5], np.float32),
    }
    node = helper.make_node
    nodes = [
        node("AveragePool", ["input"], ["cells"], kernel_shape=[STRIDE, STRIDE], strides=[STRIDE, STRIDE]),
        node("AveragePool", ["cells"], ["mean"], kernel_shape=[*CELLS[::-1]], pads=[1, 2, 1, 2]),
        node("Unsqueeze", ["mean", "classes"], ["each"]),
        node("Sub", ["each", "colours"], ["difference"]),
        node("Abs", ["difference"], ["distance"]),
        node("ReduceSum", ["distance", "channels"], ["distances"], keepdims=0),
        node("Mul", ["distances", "steep"], ["fall"]),
        node("Add", ["fall", "highest"], ["near"]),
        node("Sub", ["distances", "far"], ["beyond"]),
        node("Relu", ["beyond"], ["too_far"]),
        node("Mul", ["too_far", "abyss"], ["drop"]),
        node("Sub", ["near", "drop"], ["hm"]),
        node("Conv", ["cells", "nothing", "size"], ["wh"]),
        node("Conv", ["cells", "nothing", "half"], ["reg"]),
    ]
    grid = SIDE // STRIDE
    outputs = [("hm", len(COLOURS)), ("wh", 2), ("reg", 2)]
    graph = helper.make_graph(
        nodes,
        "coloured",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, grid, grid]) for name, c in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_coloured_images(root: Path, count: int) -> Path:
    """Write images with their annotations, as ``--coco`` takes them; return `root`."""
    random = np.random.default_rng(0)
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], list[dict[str, object]]()
    for number in range(1, count + 1):
        pixels, boxes = _painted(random)
        name = f"{number}.png"
        cv2.imwrite(str(root / "val2017" / name), pixels)
        images.append({"id": number, "file_name": name, "width": IMAGE[0], "height": IMAGE[1]})
        for category, box in boxes:
            found = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": box}
            annotations.append({**found, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": str(number)} for number in range(1, len(COLOURS) + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def _painted(random: np.random.Generator) -> tuple[UInt8, list[tuple[int, list[int]]]]:
    """An image (H, W, 3) BGR of two or three objects, each in a place of its own, and their category and box."""
    width, height = CELLS[0] * STRIDE * 3 // 2, CELLS[1] * STRIDE * 3 // 2
    pixels = np.full((IMAGE[1], IMAGE[0], 3), 128, np.uint8)
    boxes = []
    for place in random.permutation(6)[: random.integers(2, 4)].tolist():
        left = 6 + 48 * (place % 2) + int(random.integers(-6, 12))
        top = 2 + 24 * (place // 2) + int(random.integers(-2, 4))
        left, top = min(left, IMAGE[0] - width), min(top, IMAGE[1] - height)
        category = int(random.integers(1, len(COLOURS) + 1))
        colour = [round(255 * value) for value in COLOURS[category - 1][::-1]]
        pixels[top : top + height, left : left + width] = colour
        boxes.append((category, [left, top, width, height]))
    return pixels, boxes
