"""Training samples of CenterNet2: pixels, sizes and boxes of the official code, and what is left out."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest

from conformance.support.centernet2_objects import OBJECTS
from harness.cards import load_recipe
from harness.centernet2.cases import block_image
from harness.centernet2.samples import Samples, make_sample, resized_size
from harness.data.dataset import Annotation, Category, Dataset, ImageEntry, Instances
from harness.errors import HarnessError
from harness.paths import data_path

GOLDEN_PILLOW = "13.0.0"
CASES = ((61, 97, 48, 1333), (61, 97, 96, 120), (97, 61, 50, 90))
"""Height and width of the image, shortest and longest edge."""
AUGMENTATION = load_recipe("centernet2_1x").augmentation


@pytest.mark.parametrize(
    ("height", "width", "shortest", "longest", "expected"),
    [
        (480, 640, 800, 1333, (800, 1067)),
        (427, 640, 640, 1333, (640, 959)),
        (640, 426, 672, 1333, (1010, 672)),
        (333, 500, 736, 1333, (736, 1105)),
        (120, 1000, 800, 1333, (160, 1333)),
        (1000, 120, 800, 1333, (1333, 160)),
        (375, 500, 704, 1333, (704, 939)),
        (61, 97, 64, 120, (64, 102)),
        (1, 1, 640, 1333, (640, 640)),
        (3, 5000, 800, 1333, (1, 1333)),
        (1, 5000, 800, 1333, (1, 1333)),  # where the official code asks for no pixel
    ],
)
def test_size_is_that_of_the_official_code(
    height: int, width: int, shortest: int, longest: int, expected: tuple[int, int]
) -> None:
    assert resized_size(height, width, shortest, longest) == expected


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_pixels_and_boxes_are_those_of_the_official_code(tmp_path: Path, case: int, flip: bool) -> None:
    height, width, shortest, longest = CASES[case]
    dataset = written(tmp_path, block_image(50 + case, height, width))
    augmentation = AUGMENTATION.model_copy(
        update={"shortest_edges": (shortest,), "longest_edge": longest, "flip": float(flip)}
    )
    sample = Samples(dataset, range(80), augmentation, seed=0)[0]
    with np.load(data_path("fixtures", "golden", "centernet2_samples", "pixels.npz")) as golden:
        pixels, classes = golden[f"{case}/image"], golden[f"{case}/classes"]
        boxes = golden[f"{case}/{'flip' if flip else 'plain'}/boxes"]
    expected = (pixels[:, ::-1] if flip else pixels).transpose(2, 0, 1)
    assert (sample.image.dtype, sample.image.shape) == (np.uint8, expected.shape)
    allowed = 0 if version("pillow") == GOLDEN_PILLOW else 1
    assert np.abs(sample.image.astype(int) - expected).max() <= allowed
    assert (sample.boxes.dtype, sample.classes.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(sample.boxes, boxes, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(sample.classes, classes)


def written(
    folder: Path,
    image: np.ndarray,
    objects: tuple[tuple[tuple[float, ...], int, int], ...] = OBJECTS,
    *,
    other: bool = False,
) -> Dataset:
    """Write a (3, h, w) image with its objects, and an empty one, one of crowds, and one empty or of category 90."""
    height, width = image.shape[1:]
    entries = tuple(ImageEntry(id_, f"{id_}.png", width, height) for id_ in range(1, 5))
    for entry in entries:
        assert cv2.imwrite(str(folder / entry.file_name), image.transpose(1, 2, 0))
    shown = [(1, *each) for each in objects]
    shown += [(3, (1.0, 1.0, 20.0, 20.0), 5, 1)]
    shown += [(4, (1.0, 1.0, 20.0, 20.0), 90, 0)] if other else []
    annotations = tuple(
        Annotation(number, image_id, category, box, 1.0, crowd)  # type: ignore[arg-type]
        for number, (image_id, box, category, crowd) in enumerate(shown)
    )
    return Dataset(folder, Instances(entries, annotations, (Category(5, "five"), Category(90, "ninety"))))


def test_images_without_an_object_are_left_out(tmp_path: Path) -> None:
    assert Samples(written(tmp_path, block_image(0, 40, 60)), range(80), AUGMENTATION, seed=0).image_ids == (1,)
    with pytest.raises(HarnessError, match="annotations: none of 4 images shows an object of the 80 classes"):
        Samples(written(tmp_path, block_image(0, 40, 60), ()), range(80), AUGMENTATION, seed=0)


def test_object_of_a_category_that_is_no_class_is_refused(tmp_path: Path) -> None:
    dataset = written(tmp_path, block_image(0, 40, 60), other=True)
    assert Samples(dataset, (*range(80), 90), AUGMENTATION, seed=0).image_ids == (1, 4)
    with pytest.raises(HarnessError, match="categories that are no class of the model: 90"):
        Samples(dataset, range(80), AUGMENTATION, seed=0)


def test_objects_without_area_within_the_image_are_counted(tmp_path: Path) -> None:
    boxes = (
        (1.0, 1.0, 5.0, 5.0),
        (-9.0, 1.0, 9.0, 5.0),
        (60.0, 1.0, 5.0, 5.0),
        (1.0, 40.0, 5.0, 5.0),
        (1.0, 1.0, 0.0, 5.0),
    )
    dataset = written(tmp_path, block_image(0, 40, 60), tuple((box, 5, 0) for box in boxes))
    assert Samples(dataset, range(80), AUGMENTATION, seed=0).without_area == 4


def test_image_whose_boxes_are_all_empty_has_none(tmp_path: Path) -> None:
    objects = (((5.0, 5.0, 0.0, 9.0), 2, 0), ((-30.0, 5.0, 20.0, 9.0), 2, 0))
    sample = Samples(written(tmp_path, block_image(0, 40, 60), objects), range(80), AUGMENTATION, seed=0)[0]
    assert (sample.boxes.shape, sample.classes.shape) == ((0, 4), (0,))


def test_box_without_area_is_dropped_mirrored_or_not() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    boxes = [(3.0, 3.0, -2.0, 4.0), (5.0, 2.0, 4.0, 0.0), (19.0, 9.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)]
    for flip, expected in ((False, [[57, 27, 60, 30], [0, 0, 3, 3]]), (True, [[0, 27, 3, 30], [57, 0, 60, 3]])):
        sample = make_sample(image, boxes, [1, 2, 3, 4], (30, 60), flip=flip)
        np.testing.assert_array_equal(sample.boxes, expected)
        assert sample.classes.tolist() == [3, 4]


def test_edges_and_flips_are_drawn_evenly_and_are_a_function_of_seed_and_number(tmp_path: Path) -> None:
    image = np.zeros((3, 16, 16), np.uint8)
    image[:, :, :8] = 255
    small = AUGMENTATION.model_copy(update={"shortest_edges": (16, 24, 32), "longest_edge": 100})
    samples = Samples(written(tmp_path, image), range(80), small, seed=4)
    drawn = [samples[number].image for number in range(300)]
    for edge in (16, 24, 32):
        sides = [bool(one[0, 0, 0] == 255) for one in drawn if one.shape == (3, edge, edge)]
        assert 70 < len(sides) < 130  # of 100, with a deviation of 8
        assert 0.3 < np.mean(sides) < 0.7
    again = Samples(samples.dataset, range(80), small, seed=4)
    assert all(np.array_equal(again[number].image, drawn[number]) for number in reversed(range(20)))
    other = Samples(samples.dataset, range(80), small, seed=5)
    assert any(other[number].image.shape != drawn[number].shape for number in range(20))


def test_official_augmentation() -> None:
    assert AUGMENTATION.shortest_edges == tuple(range(640, 801, 32))
    assert (AUGMENTATION.longest_edge, AUGMENTATION.flip) == (1333, 0.5)


def test_sample_keeps_the_place_of_an_object_in_the_image(tmp_path: Path) -> None:
    """A white rectangle on black is where its box says, at every size, mirrored or not."""
    image = np.zeros((3, 60, 90), np.uint8)
    image[:, 20:50, 10:40] = 255
    dataset = written(tmp_path, image, (((10.0, 20.0, 30.0, 30.0), 5, 0),))
    samples = Samples(dataset, range(80), AUGMENTATION, seed=2)
    for number in range(6):
        sample = samples[number]
        rows, columns = (np.flatnonzero(sample.image[0].max(axis=axis) > 127) for axis in (1, 0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(sample.boxes, [found], rtol=0, atol=0.51)


def test_order_is_of_the_images_with_objects_alone(tmp_path: Path) -> None:
    dataset = written(tmp_path, block_image(0, 40, 60))
    more = tuple(replace(entry, image_id=2, id=99) for entry in dataset.instances.annotations[:1])
    both = Dataset(tmp_path, replace(dataset.instances, annotations=dataset.instances.annotations + more))
    samples = Samples(both, range(80), AUGMENTATION, seed=1)
    assert all({samples.image_id(2 * epoch), samples.image_id(2 * epoch + 1)} == {1, 2} for epoch in range(5))
