"""Ports spoilt by hand: edited weights, ONNX files, arrays and results, without the catalogue's code."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from conformance.catalogue.diagnosing import PortDiagnosis
from harness.cards.model import Network
from harness.centernet.decode import decode, to_image_space
from harness.centernet.preprocess import place, preprocess
from harness.data.detections import Results, to_coco_json
from harness.export import export_standard
from harness.faults.diagnosis.evidence import Evidence
from harness.types import UInt8

Arrays = dict[str, NDArray[Any]]
Edit = Callable[[PortDiagnosis, Path], Evidence]
POINTS = 9


def _run(ports: PortDiagnosis, arrays: list[NDArray[Any]], rows: list[int] | None = None, drop: slice | None = None,
         bias: float = 0.0) -> list[Arrays]:  # fmt: skip
    """Heads of the network, the rows of its offset convolution re-ordered, or some of them without weights."""
    module = copy.deepcopy(ports.case.module)
    convolution = module.stages[3].conv_offset_mask  # type: ignore[index, union-attr]
    with torch.no_grad():
        if rows is not None:
            for parameter in (convolution.weight, convolution.bias):
                parameter[: len(rows)] = parameter[rows].clone()
        if drop is not None:
            convolution.weight[drop] = 0
            convolution.bias[drop] = bias
        return [{k: v.numpy() for k, v in module(torch.from_numpy(array[None])).items()} for array in arrays]


def _inputs(ports: PortDiagnosis) -> list[NDArray[Any]]:
    return [preprocess(ports.case.card, image)[0] for image in ports.images]


def _weights(**edit: Any) -> Edit:  # noqa: ANN401 - what `_run` takes
    return lambda ports, folder: ports.of_heads(_run(ports, _inputs(ports), **edit))


def _pixels(edit: Callable[[PortDiagnosis, UInt8], NDArray[Any]]) -> Edit:
    """Edit the pixels; the network input is (64, 96, 3) float64."""

    def made(ports: PortDiagnosis, folder: Path) -> Evidence:
        arrays = [np.ascontiguousarray(edit(ports, i).transpose(2, 0, 1), dtype=np.float32) for i in ports.images]
        return ports.of_heads(_run(ports, arrays))

    return made


MEAN, STD = np.array([0.408, 0.447, 0.470]), np.array([0.289, 0.274, 0.278])


def _warp(ports: PortDiagnosis, image: UInt8) -> NDArray[Any]:
    matrix = place(ports.case.card, (image.shape[1], image.shape[0])).forward
    return cv2.warpAffine(image, matrix, (96, 64)).astype(np.float64)


def _outputs(edit: Callable[[Arrays], Arrays]) -> Edit:
    return lambda ports, folder: ports.of_heads([edit(heads) for heads in _run(ports, _inputs(ports))])


def _onnx(edit: Callable[[onnx.ModelProto], None]) -> Edit:
    """Edit an export of the network and run it on ONNX Runtime."""

    def made(ports: PortDiagnosis, folder: Path) -> Evidence:
        path = folder / "edited.onnx"
        card = ports.case.card.model_copy(update={"network": Network(arch="res_18")})
        export_standard(ports.case.module, card, path, batch_size=1, weights_sha256="0" * 64)
        model = onnx.load(path)
        edit(model)
        onnx.save(model, path)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = [session.run(["hm", "wh", "reg"], {"input": array[None]}) for array in _inputs(ports)]
        return ports.of_heads([dict(zip(("hm", "wh", "reg"), outputs, strict=True)) for outputs in found])

    return made


def _exchange_names(model: onnx.ModelProto) -> None:
    names = {"wh": "reg", "reg": "wh"}
    for node in model.graph.node:
        for position, name in enumerate(node.output):
            node.output[position] = names.get(name, name)


def _add_sigmoid(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for position, name in enumerate(node.output):
            node.output[position] = "logits" if name == "hm" else name
    model.graph.node.append(onnx.helper.make_node("Sigmoid", ["logits"], ["hm"]))


def _rows(edit: Callable[[dict[str, Any]], None]) -> Edit:
    """Edit each row of the right results file."""

    def made(ports: PortDiagnosis, folder: Path) -> Evidence:
        results, card = Results(), ports.case.card
        of_images = zip(ports.dataset.image_ids, _run(ports, _inputs(ports)), ports.images, strict=True)
        for image_id, heads, image in of_images:
            found = decode(card, heads)[0]
            results.add(image_id, to_image_space(card, found, place(card, (image.shape[1], image.shape[0]))))
        rows = to_coco_json(results, card.category_ids)
        for row in rows:
            edit(row)
        return ports.of_rows(rows)

    return made


def _integers(row: dict[str, Any]) -> None:
    row["bbox"] = [float(int(value)) for value in row["bbox"]]


def _corners(row: dict[str, Any]) -> None:
    x, y, width, height = row["bbox"]
    row["bbox"] = [x, y, x + width, y + height]


def _inclusive(row: dict[str, Any]) -> None:
    x, y, width, height = row["bbox"]
    row["bbox"] = [x, y, width + 1, height + 1]


def _ids(row: dict[str, Any]) -> None:
    known = [i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}]
    row["category_id"] = known.index(row["category_id"]) + 1


INTERLEAVED = [2 * k + axis for k in range(POINTS) for axis in (1, 0)]
BLOCKS = [k + POINTS * axis for k in range(POINTS) for axis in (0, 1)]

SPOILT: dict[str, tuple[str, Edit]] = {
    "weights of the offsets, x before y": ("dcn-offset-xy", _weights(rows=INTERLEAVED)),
    "weights of the offsets in blocks": ("dcn-offset-blocks", _weights(rows=BLOCKS)),
    "no weights for the offsets": ("dcn-offset-zero", _weights(drop=slice(0, 18))),
    "a mask of 1": ("dcn-mask-ones", _weights(drop=slice(18, 27), bias=40.0)),
    "channels turned by slicing": (
        "input-channels-swapped", _pixels(lambda c, i: (_warp(c, i)[..., ::-1] / 255 - MEAN) / STD)
    ),
    "ImageNet's mean": ("input-mean", _pixels(lambda c, i: (_warp(c, i) / 255 - (0.485, 0.456, 0.406)) / STD)),
    "a deviation of 0.4, 0.2, 0.3": ("input-std", _pixels(lambda c, i: (_warp(c, i) / 255 - MEAN) / (0.4, 0.2, 0.3))),
    "no division": ("input-not-divided", _pixels(lambda c, i: (_warp(c, i) - MEAN) / STD)),
    "resized by cv2": ("input-stretched", _pixels(lambda c, i: (cv2.resize(i, (96, 64)) / 255.0 - MEAN) / STD)),
    "width and height turned": ("wh-axes-swapped", _outputs(lambda h: {**h, "wh": h["wh"][:, [1, 0]]})),
    "heads rounded to float16": (
        "half-for-single", _outputs(lambda h: {k: v.astype(np.float16).astype(np.float32) for k, v in h.items()})
    ),
    "names of two outputs exchanged in the ONNX": ("wh-reg-swapped", _onnx(_exchange_names)),
    "a Sigmoid at the end of the ONNX": ("hm-sigmoid-twice", _onnx(_add_sigmoid)),
    "coordinates through int()": ("boxes-truncated", _rows(_integers)),
    "corners written as boxes": ("boxes-corners", _rows(_corners)),
    "boxes that include their last pixel": ("boxes-plus-one", _rows(_inclusive)),
    "classes counted from 1": ("categories-contiguous", _rows(_ids)),
}  # fmt: skip
"""By description of the edit: the id of the fault that it makes, and the edit."""
