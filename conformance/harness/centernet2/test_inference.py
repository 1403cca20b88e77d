"""CenterNet2 in the pipeline: its input is the official one, its slots hold what the model detects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.cards import TwoStageCard, load_card
from harness.centernet.heads import DeviceOutputError
from harness.centernet2.cases import case_model, load_case
from harness.centernet2.inference import (
    EMPTY,
    InSlots,
    decode,
    make_batch,
    output_specs,
    place,
    preprocess,
    read_heads,
    to_image_space,
)
from harness.errors import HarnessError
from harness.types import Detections

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def card() -> TwoStageCard:
    found = load_card("centernet2_narrow")
    assert isinstance(found, TwoStageCard)
    return found


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), (1067, 800)), ((480, 640), (800, 1067)), ((1000, 300), (1333, 400))]
)
def test_image_gets_the_official_size(card: TwoStageCard, size: tuple[int, int], expected: tuple[int, int]) -> None:
    placement = place(card, size)
    assert placement.input_size == expected
    corner = placement.forward @ np.array([*size, 1.0])
    assert corner.tolist() == pytest.approx(expected)
    assert (placement.inverse @ np.array([*corner, 1.0])).tolist() == pytest.approx(size)


def test_network_input_is_the_resized_image_itself(card: TwoStageCard) -> None:
    image = np.full((30, 60, 3), (10, 20, 30), np.uint8)
    pixels, _ = preprocess(card, image)
    assert pixels.shape == (3, 667, 1333)
    assert pixels.reshape(3, -1).min(axis=1).tolist() == pixels.reshape(3, -1).max(axis=1).tolist() == [10, 20, 30]


def test_slots_hold_what_the_model_detects_and_come_back_whole(card: TwoStageCard) -> None:
    model, image = case_model("narrow").eval(), load_case("base").images[0]
    [expected] = model([image])
    outputs = InSlots(model)(torch.from_numpy(np.stack([image, image])))
    named = {spec.name: output.numpy() for spec, output in zip(output_specs(2), outputs, strict=True)}
    first, second = decode(card, read_heads(card, named, 2))
    for found in (first, second):
        assert np.array_equal(found.classes, expected.classes)
        assert np.abs(found.boxes - expected.boxes).max() <= 1e-3
        assert np.abs(found.scores - expected.scores).max() <= 1e-5


def test_image_without_detections_has_empty_slots(card: TwoStageCard) -> None:
    model = case_model("narrow")
    own = model.settings.detections.model_copy(update={"score_threshold": 0.999})
    model.settings = model.settings.model_copy(update={"detections": own})
    outputs = InSlots(model)(torch.from_numpy(load_case("base").images[0][None]))
    assert (outputs[2] == EMPTY).all()
    named = {spec.name: output.numpy() for spec, output in zip(output_specs(1), outputs, strict=True)}
    assert [len(found) for found in decode(card, read_heads(card, named, 1))] == [0]


def test_missing_output_is_the_devices_fault(card: TwoStageCard) -> None:
    with pytest.raises(DeviceOutputError, match="outputs named boxes, scores, classes, got none"):
        read_heads(card, {}, 1)


def test_detections_are_clipped_to_the_image_and_empty_ones_dropped(card: TwoStageCard) -> None:
    placement = place(card, (640, 480))  # 5 / 3 as large
    boxes = np.array([[0, 0, 500, 400], [1000, 700, 2000, 2000], [1100, 0, 1200, 10]], np.float32)
    found = to_image_space(card, Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.arange(3)), placement)
    assert found.classes.tolist() == [0, 1]
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 500 * 640 / 1067, 240], abs=1e-3)
    assert found.boxes[1].tolist() == pytest.approx([1000 * 640 / 1067, 420, 640, 480], abs=1e-3)


def test_images_of_two_sizes_are_no_batch(card: TwoStageCard) -> None:
    images = [(1, np.zeros((40, 60, 3), np.uint8)), (2, np.zeros((60, 40, 3), np.uint8))]
    with pytest.raises(HarnessError, match=r"theirs are \[\(3, 800, 1200\), \(3, 1200, 800\)\]"):
        make_batch(card, images)
    batch = make_batch(card, images[:1], slots=2)
    assert (batch.images.shape, batch.image_ids) == ((2, 3, 800, 1200), (1,))


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)], ids=["grey", "float"])
def test_what_is_no_image_is_refused(card: TwoStageCard, image: np.ndarray) -> None:
    with pytest.raises(HarnessError, match="an image must be uint8"):
        preprocess(card, image)
