"""Training samples: images and targets agree, and samples do not depend on the order of drawing."""

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conformance.support.small_training import six_images, small_card
from harness.cards import ModelCard
from harness.centernet.samples import MIN_VISIBLE, Sample, Samples, collate
from harness.data.dataset import Annotation, Category, Dataset, ImageEntry, Instances
from harness.types import Float64

BOX = (250.0, 180.0, 90.0, 60.0)
"""x, y, width, height of the rectangle in the test image."""


@pytest.fixture(scope="module")
def rectangle(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One image: a rectangle on black, its left half red and its right half blue."""
    x, y, w, h = (int(value) for value in BOX)
    image = np.zeros((480, 640, 3), np.uint8)
    image[y : y + h, x : x + w // 2, 2] = 255
    image[y : y + h, x + w // 2 : x + w, 0] = 255
    folder = tmp_path_factory.mktemp("rectangle")
    cv2.imwrite(str(folder / "1.png"), image)
    annotation = Annotation(id=1, image_id=1, category_id=7, bbox=BOX, area=BOX[2] * BOX[3], iscrowd=0)
    return Dataset(folder, Instances((ImageEntry(1, "1.png", 640, 480),), (annotation,), (Category(7, "box"),)))


def pixels(card: ModelCard, sample: Sample) -> Float64:
    """Undo the normalisation: (size, size, 3) BGR pixels in 0..1."""
    source = card.input
    image: Float64 = sample.image.transpose(1, 2, 0) * np.array(source.std) + np.array(source.mean)
    return image if source.channel_order == "BGR" else image[:, :, ::-1]


def within(side: NDArray[np.intp]) -> bool:
    """Tell whether the crop of 256 pixels holds a side of the rectangle as a whole."""
    return len(side) > 0 and side.min() > 1 and side.max() < 254


def test_boxes_follow_the_crop_mirrored_or_not(rectangle: Dataset) -> None:
    card = small_card(categories=(3, 7))
    mirrored = []
    for number in range(40):
        sample = Samples(rectangle, card, 256, seed=5)[number]
        image = pixels(card, sample)
        blue, red = image[:, :, 0], image[:, :, 2]
        bright = blue + red
        rows, columns = (np.flatnonzero(bright.max(axis=axis) > 0.5) for axis in (1, 0))
        if not (within(rows) and within(columns)):
            continue
        middle = [(side.min() + side.max() + 1) / 2 / 4 for side in (columns, rows)]
        targets = sample.targets
        place = np.array([targets.index[0] % 64, targets.index[0] // 64])
        # Half a pixel of the image, which COCO's boxes and pixel centres differ by, and the blur of interpolation.
        np.testing.assert_allclose(place + targets.reg[0], middle, rtol=0, atol=0.5)
        np.testing.assert_allclose(targets.wh[0], [len(columns) / 4, len(rows) / 4], rtol=0, atol=0.5)
        assert targets.hm.argmax() == (64 + place[1]) * 64 + place[0]  # of the second channel
        mirrored.append(bool((np.arange(256) * (blue - red).sum(axis=0)).sum() < 0))
    assert len(mirrored) >= 10
    assert {True, False} == set(mirrored)


def test_channels_come_in_the_order_of_the_card(rectangle: Dataset) -> None:
    bgr, rgb = (
        pixels(card, Samples(rectangle, card, 256, seed=5)[3])
        for card in (small_card(categories=(7,), channel_order=order) for order in ("BGR", "RGB"))
    )
    np.testing.assert_allclose(bgr, rgb, rtol=0, atol=1e-6)
    assert bgr[:, :, 0].max() > 0.9 > 0.1 > bgr[:, :, 1].max()  # blue and red, no green


@pytest.mark.parametrize(("iscrowd", "visible"), [(1, 1.0), (0, 0.2)])
def test_crowds_and_scraps_are_not_asked_for_nor_held_against_the_network(
    rectangle: Dataset, monkeypatch: pytest.MonkeyPatch, iscrowd: Literal[0, 1], visible: float
) -> None:
    """The crop begins at the image's left border; of a box, only `visible` lies within."""
    assert visible < MIN_VISIBLE or iscrowd
    annotation = replace(rectangle.instances.annotations[0], bbox=(64 - 100 * visible, 8.0, 100.0, 40.0))
    crowd = replace(rectangle.instances, annotations=(replace(annotation, iscrowd=iscrowd),))
    samples = Samples(Dataset(rectangle.folder, crowd), small_card(categories=(7,)), 64, seed=0)
    monkeypatch.setattr(Samples, "_crop", lambda self, random, width, height: np.eye(2, 3))
    targets = samples[0].targets
    assert not targets.hm.any()
    assert len(targets.index) == 0
    left = int((64 - 100 * visible) // 4)
    expected = np.ones((1, 16, 16))
    expected[0, 2:12, max(left, 0) :] = 0
    np.testing.assert_array_equal(targets.weight, expected)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return six_images(tmp_path_factory.mktemp("data"))


def test_sample_is_a_function_of_seed_and_number_alone(generated: Dataset) -> None:
    def drawn(seed: int, number: int) -> bytes:
        np.random.seed(number)  # noqa: NPY002 - must not matter
        torch.manual_seed(number + 1)
        sample = Samples(generated, small_card(), 64, seed)[number]
        targets = sample.targets
        return b"".join(a.tobytes() for a in (sample.image, targets.hm, targets.weight, targets.wh, targets.reg))

    forwards, backwards = [drawn(1, n) for n in range(8)], [drawn(1, n) for n in reversed(range(8))]
    assert forwards == backwards[::-1]
    assert len({*forwards, *(drawn(2, n) for n in range(8))}) == 16


def test_every_epoch_shows_every_image_once_in_another_order(generated: Dataset) -> None:
    samples = Samples(generated, small_card(), 64, seed=3)
    epochs = [[samples.image_id(number) for number in range(start, start + 6)] for start in range(0, 60, 6)]
    assert all(sorted(epoch) == list(generated.image_ids) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5


def test_batch_keeps_every_centre_in_its_own_image(generated: Dataset) -> None:
    samples = [Samples(generated, small_card(), 128, seed=3)[number] for number in range(4)]
    images, targets = collate(samples)
    assert images.shape == (4, 3, 128, 128)
    peaks = targets.hm.amax(dim=1).reshape(-1)
    assert len(targets.index) == sum(len(sample.targets.index) for sample in samples) > 4
    assert bool((peaks[targets.index] == 1).all())
    assert int((peaks == 1).sum()) == len(set(targets.index.tolist()))
