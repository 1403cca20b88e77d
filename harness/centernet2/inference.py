"""CenterNet2 as the pipeline runs it: resized images in, detections in a fixed number of slots out.

The network input is the resized image itself, uint8 BGR: the network normalises it, and pads it right and below. Its
outputs are `OUTPUTS`; a slot beyond the detections of an image has class `EMPTY` and zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.cards import TwoStageCard, load_card
from harness.cards.centernet2 import load_two_stage_settings
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.centernet2.model import CenterNet2, create_centernet2, rescaled
from harness.centernet2.samples import make_sample, resized_size
from harness.centernet2.slots import EMPTY
from harness.devices.artifact import Artifact, TensorSpec, require_batch_size
from harness.errors import HarnessError
from harness.types import Batch, Detections, Heads, Outputs, Placement, UInt8

INPUT = "images"
OUTPUTS = ("boxes", "scores", "classes")
"""(N, slots, 4) float32 x1, y1, x2, y2 in pixels of the input; (N, slots) float32, not increasing; (N, slots) int64."""


class InSlots(nn.Module):
    """A copy of the detector, in evaluation mode, whose detections come as tensors of fixed shapes.

    It computes in the dtype of its weights, and gives float32.

    Args:
        model: The detector.
    """

    def __init__(self, model: CenterNet2) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.slots = model.settings.detections.top_k

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, h, w) uint8 BGR -> `OUTPUTS`."""
        count = len(images)
        boxes = torch.zeros(count, self.slots, 4)
        scores, classes = torch.zeros(count, self.slots), torch.full((count, self.slots), EMPTY)
        for image, found in enumerate(self.model(list(images.numpy(force=True)))):
            own = slice(0, len(found))
            boxes[image, own] = torch.from_numpy(found.boxes).float()
            scores[image, own] = torch.from_numpy(found.scores).float()
            classes[image, own] = torch.from_numpy(found.classes)
        return boxes, scores, classes


def create_model(name: str) -> CenterNet2:
    """Create the network of a card with random weights, in training mode.

    Args:
        name: Of a card, "centernet2_r50" or "centernet2_narrow", or the path of one.

    Raises:
        HarnessError: There is no such card, or it is not of this family.
    """
    card = load_card(name)
    if not isinstance(card, TwoStageCard):
        raise HarnessError(
            f"'{card.name}' is of the family '{card.family}'",
            field="name",
            remedy="give a card of the family 'centernet2'",
        )
    return create_centernet2(card.network)


def require_settings(card: TwoStageCard) -> None:
    """Hold a card to the numbers that all networks share.

    Raises:
        HarnessError: It names no network of theirs, or another number of categories than they have classes.
    """
    settings = load_two_stage_settings()
    settings.network_named(card.network)
    if len(card.category_ids) != settings.roi.classes:
        raise HarnessError(
            f"'{card.name}' has {len(card.category_ids)} categories, the network {settings.roi.classes} classes",
            field="category_ids",
            remedy="give one category for each class",
        )


def place(card: TwoStageCard, image_size: tuple[int, int]) -> Placement:
    """Compute the placement of an image of `image_size` = (width, height) pixels in the network input.

    Raises:
        HarnessError: The image has no pixels.
    """
    width, height = image_size
    if width < 1 or height < 1:
        raise HarnessError(f"an image of {width}x{height} pixels", remedy="leave it out, or get it again")
    new_height, new_width = resized_size(height, width, card.test.shortest_edge, card.test.longest_edge)
    sx, sy = new_width / width, new_height / height
    return Placement(
        forward=np.array([[sx, 0, 0], [0, sy, 0]], np.float64),
        inverse=np.array([[1 / sx, 0, 0], [0, 1 / sy, 0]], np.float64),
        image_size=image_size,
        input_size=(new_width, new_height),
    )


def preprocess(card: TwoStageCard, image: UInt8) -> tuple[UInt8, Placement]:
    """Resize an image as the training does.

    Args:
        card: The contract of the model.
        image: (H, W, 3) uint8, BGR.

    Returns:
        (3, h, w) uint8 BGR, and where the image lies in it.

    Raises:
        HarnessError: The image is not (H, W, 3) uint8, or is empty.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise HarnessError("an image must be uint8 of shape (height, width, 3)", remedy="read it in colour")
    placement = place(card, (image.shape[1], image.shape[0]))
    width, height = placement.input_size
    return make_sample(image, [], [], (height, width), flip=False).image, placement


def make_batch(card: TwoStageCard, images: Sequence[tuple[int, UInt8]], *, slots: int | None = None) -> Batch:
    """Resize images into one array.

    Args:
        card: The contract of the model.
        images: (COCO image id, (H, W, 3) uint8 BGR image), at least one.
        slots: Size of the batch; slots beyond the images are black.

    Raises:
        HarnessError: An image is not (H, W, 3) uint8 or is empty, or images differ in size.
        ValueError: No images, or more than `slots`.
    """
    slots = len(images) if slots is None else slots
    if not 0 < len(images) <= slots:
        raise ValueError(f"{len(images)} images do not make a batch of {slots}")
    made = [preprocess(card, image) for _, image in images]
    shapes = {pixels.shape for pixels, _ in made}
    if len(shapes) > 1:
        raise HarnessError(
            f"images of one batch need one input shape; theirs are {sorted(shapes)}",
            field="--batch-sizes",
            remedy="run a two-stage model with batch size 1",
        )
    batch = np.zeros((slots, *shapes.pop()), np.uint8)
    batch[: len(images)] = [pixels for pixels, _ in made]
    return Batch(batch, tuple(image_id for image_id, _ in images), tuple(placement for _, placement in made))


def input_spec(batch: int | None) -> TensorSpec:
    """Return the input tensor: images of any size."""
    return TensorSpec(INPUT, (batch, 3, None, None), "uint8")


def output_specs(batch: int | None) -> tuple[TensorSpec, ...]:
    """Return the output tensors, with a slot for each detection that an image can have."""
    slots = load_two_stage_settings().detections.top_k
    shapes: tuple[tuple[int | None, ...], ...] = ((batch, slots, 4), (batch, slots), (batch, slots))
    dtypes = ("float32", "float32", "int64")
    return tuple(TensorSpec(*one) for one in zip(OUTPUTS, shapes, dtypes, strict=True))


def check_contract(artifact: Artifact, batch_size: int) -> None:
    """Check the tensors that an artifact states, before anything runs.

    Raises:
        HarnessError: An input or output differs from `input_spec` and `output_specs`, or the batch size does not fit.
    """
    require_batch_size(artifact.batch_size, batch_size)
    given, wanted = (*artifact.inputs, *artifact.outputs), (input_spec(None), *output_specs(None))
    for found, promised in zip(given, wanted, strict=False):
        if found != promised:
            raise HarnessError(
                f"the model has {found}, a two-stage detector {promised}",
                field="outputs",
                remedy="give the tensors that harness/centernet2/inference.py names, with batch, height and width open",
            )
    if len(given) != len(wanted):
        raise HarnessError(f"the model has {len(given)} inputs and outputs, a two-stage detector {len(wanted)}")


def read_heads(card: TwoStageCard, outputs: Outputs, batch: int) -> Heads:
    """Take the detections in their slots from a device's outputs; their values are not checked.

    Args:
        card: The contract of the model.
        outputs: Outputs of the device for one batch.
        batch: Number of slots of that batch, N, padded ones included.

    Raises:
        DeviceOutputError: An output is missing, or has another type, dtype or shape than promised.
    """
    del card
    specs = output_specs(batch)
    if any(spec.name not in outputs for spec in specs):
        expected, got = ", ".join(OUTPUTS), ", ".join(outputs) or "none"
        raise DeviceOutputError(None, f"outputs named {expected}", got, stage="detections")
    for spec in specs:
        tensor: object = outputs[spec.name]
        if not isinstance(tensor, np.ndarray):
            raise DeviceOutputError(spec.name, "a NumPy array", type(tensor).__name__)
        if (tensor.shape, str(tensor.dtype)) != (spec.shape, spec.dtype):
            raise DeviceOutputError(spec.name, f"{spec.dtype} {spec.shape}", f"{tensor.dtype} {tensor.shape}")
    return {spec.name: outputs[spec.name] for spec in specs}


def decode(card: TwoStageCard, heads: Heads) -> list[Detections]:
    """Return the detections of each sample in pixels of the network input, the surest first.

    Raises:
        NonFiniteHeadError: A box or score is NaN or infinite.
        DeviceOutputError: A class is none of the card's.
    """
    return [_decode_one(card, heads, sample) for sample in range(len(heads["boxes"]))]


def _decode_one(card: TwoStageCard, heads: Mapping[str, NDArray[Any]], sample: int) -> Detections:
    boxes, scores, classes = (heads[name][sample] for name in OUTPUTS)
    for name, values in (("boxes", boxes), ("scores", scores)):
        if not np.isfinite(values).all():
            raise NonFiniteHeadError(name, sample, int((~np.isfinite(values)).sum()))
    kept = np.flatnonzero(classes != EMPTY)
    wrong = classes[kept][(classes[kept] < 0) | (classes[kept] >= len(card.category_ids))]
    if len(wrong):
        raise DeviceOutputError("classes", f"0..{len(card.category_ids) - 1}, or {EMPTY}", str(wrong[0]))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return Detections(boxes[kept], scores[kept], classes[kept])


def to_image_space(card: TwoStageCard, found: Detections, placement: Placement) -> Detections:
    """Return the detections in pixels of the image, within it; those without area are dropped."""
    del card
    (width, height), (own_width, own_height) = placement.input_size, placement.image_size
    return rescaled(found, (height, width), (own_height, own_width))
