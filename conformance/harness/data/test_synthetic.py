"""The generated data set is the same everywhere, has COCO's form, and can show the known mistakes of ports."""

from collections import Counter
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from harness.data.synthetic import Spec, SyntheticImage, annotations_of, draw_image, load_spec
from harness.data.synthetic.coco import ContentHash, image_entry, image_id_of, instances
from harness.data.synthetic.layout import SceneLayout
from harness.data.synthetic.scene import lay_out
from harness.data.synthetic.shapes import FULL
from harness.errors import HarnessError

SPEC = load_spec()
BY_ID = {kind.id: kind for kind in SPEC.classes}


@pytest.fixture(scope="module")
def val() -> list[SyntheticImage]:
    return [draw_image(SPEC, "val", index) for index in range(SPEC.part("val").images)]


@pytest.fixture(scope="module")
def layouts() -> list[SceneLayout]:
    return [lay_out(SPEC, "val", index) for index in range(SPEC.part("val").images)]


@pytest.fixture(scope="module")
def singles(val: list[SyntheticImage]) -> list[dict[str, Any]]:
    return [found for drawn in val for found in drawn.annotations if not found["iscrowd"]]


def content_hash(spec: Spec, images: list[SyntheticImage]) -> str:
    content = ContentHash()
    for drawn in images:
        content.add_image(drawn.image)
    annotations = [found for drawn in images for found in drawn.annotations]
    return content.finish(instances(spec, map(image_entry, images), annotations))


# The same everywhere


def test_validation_split_has_the_stated_hash(val: list[SyntheticImage]) -> None:
    assert content_hash(SPEC, val) == SPEC.part("val").sha256


def test_hash_notices_one_pixel_and_one_box(val: list[SyntheticImage]) -> None:
    first = draw_image(SPEC, "val", 0)
    hashes = [content_hash(SPEC, [first])]
    first.image[5, 7, 1] ^= 1
    hashes.append(content_hash(SPEC, [first]))
    first.image[5, 7, 1] ^= 1
    first.annotations[0]["bbox"][0] += 1
    hashes.append(content_hash(SPEC, [first]))
    assert len(set(hashes)) == 3


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(["val", "train"]), st.lists(st.integers(0, 199), min_size=2, max_size=4, unique=True))
def test_image_does_not_depend_on_what_was_drawn_before(split: str, order: list[int]) -> None:
    forwards = {index: draw_image(SPEC, split, index) for index in order}
    backwards = {index: draw_image(SPEC, split, index) for index in reversed(order)}
    for index, drawn in forwards.items():
        np.testing.assert_array_equal(drawn.image, backwards[index].image)
        assert drawn.annotations == backwards[index].annotations == annotations_of(SPEC, split, index)


def test_no_image_is_drawn_twice(val: list[SyntheticImage]) -> None:
    train = [draw_image(SPEC, "train", index) for index in range(100)]
    assert len({drawn.image.tobytes() for drawn in (*val, *train)}) == len(val) + 100


@pytest.mark.parametrize("index", [-1, 200])
def test_image_outside_the_split_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=r"0\.\.199"):
        draw_image(SPEC, "val", index)


def test_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HarnessError, match="val, train"):
        draw_image(SPEC, "test", 0)


# Pixels and annotations agree


def seen_colours(image: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    """Find the pixels of each colour by their strong channels, without knowledge of the generator."""
    blue, green, red = (image[..., channel].astype(int) for channel in range(3))
    low, high = np.minimum(np.minimum(blue, green), red), np.maximum(np.maximum(blue, green), red)
    strong = [channel > (low + high) / 2 for channel in (blue, green, red)]
    pattern = {
        "blue": (1, 0, 0), "green": (0, 1, 0), "red": (0, 0, 1),
        "cyan": (1, 1, 0), "magenta": (1, 0, 1), "yellow": (0, 1, 1),
    }  # fmt: skip
    return {
        name: (high - low > 90) & np.logical_and.reduce([s == bool(w) for s, w in zip(strong, want, strict=True)])
        for name, want in pattern.items()
    }


def test_all_that_is_coloured_is_annotated(val: list[SyntheticImage]) -> None:
    for drawn in val[:60]:
        for colour, seen in seen_colours(drawn.image).items():
            # Where two objects meet the colours mix in a line of one pixel.
            solid = cv2.erode(seen.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            for found in drawn.annotations:
                if BY_ID[found["category_id"]].colour == colour:
                    x, y, w, h = found["bbox"]
                    solid[y : y + h, x : x + w] = False
            assert not solid.any(), f"{drawn.file_name}: {colour} at {np.argwhere(solid)[0]} is in no box"


def test_boxes_of_objects_that_stand_alone_fit_what_is_coloured(val: list[SyntheticImage]) -> None:
    margin, alone = 4, 0
    for drawn in val:
        seen = seen_colours(drawn.image)
        taken = np.zeros(drawn.image.shape[:2], dtype=int)
        grown = [(*(max(v - margin, 0) for v in (x, y)), x + w + margin, y + h + margin) for x, y, w, h in boxes(drawn)]
        for x1, y1, x2, y2 in grown:
            taken[y1:y2, x1:x2] += 1
        for found, (x1, y1, x2, y2) in zip(drawn.annotations, grown, strict=True):
            if taken[y1:y2, x1:x2].max() > 1:
                continue
            alone += 1
            rows, columns = np.nonzero(seen[BY_ID[found["category_id"]].colour][y1:y2, x1:x2])
            x, y, w, h = found["bbox"]
            measured = [columns.min() + x1, rows.min() + y1, columns.max() + 1 + x1, rows.max() + 1 + y1]
            # Half-covered border pixels are pale, most of them at the tips of triangles.
            np.testing.assert_allclose(measured, [x, y, x + w, y + h], atol=2, err_msg=f"{drawn.file_name} {found}")
    assert alone > 500


def boxes(drawn: SyntheticImage) -> list[list[int]]:
    return [found["bbox"] for found in drawn.annotations]


def test_annotation_is_what_later_objects_leave_visible(val: list[SyntheticImage], layouts: list[SceneLayout]) -> None:
    far = 400
    for drawn, layout in zip(val, layouts, strict=True):
        # The reference paints on a canvas that is large enough, and crops.
        canvas = np.full((layout.height + 2 * far, layout.width + 2 * far), -1, dtype=np.int16)
        for index, thing in enumerate(layout.objects):
            h, w = thing.coverage.shape
            y, x = thing.top + far, thing.left + far
            canvas[y : y + h, x : x + w][thing.coverage >= FULL / 2] = index
        seen = canvas[far : far + layout.height, far : far + layout.width]
        for index, (thing, found) in enumerate(zip(layout.objects, drawn.annotations, strict=True)):
            code = coco_mask.encode(np.asfortranarray(seen == index, dtype=np.uint8))
            assert coco_mask.toBbox(code).tolist() == found["bbox"]
            assert coco_mask.area(code) == found["area"]
            assert found["area"] >= 0.5 * (thing.coverage >= FULL / 2).sum()


# COCO in form


def test_categories_are_cocos_eighty() -> None:
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    expected = {id_: name for id_, name in enumerate(names) if name not in ("__background__", "N/A")}
    drawn = {kind.id: kind.name for kind in SPEC.classes}
    listed = {entry["id"]: entry["name"] for entry in instances(SPEC, [], [])["categories"]}
    assert listed == expected | drawn
    assert len(listed) == 80


def test_ids_are_distinct_over_both_splits() -> None:
    images = [image_id_of(SPEC, name, i) for name, split in SPEC.split.items() for i in range(split.images)]
    assert len(set(images)) == 4200
    found = [entry["id"] for i in range(200) for name in SPEC.split for entry in annotations_of(SPEC, name, i)]
    assert len(set(found)) == len(found)
    assert min(found) > 0, "pycocotools takes annotation id 0 for no match"


def test_crowd_masks_decode_to_their_box_and_area(val: list[SyntheticImage]) -> None:
    crowds = [(drawn, found) for drawn in val for found in drawn.annotations if found["iscrowd"]]
    assert crowds
    for drawn, found in crowds:
        code = coco_mask.frPyObjects(found["segmentation"], *drawn.image.shape[:2])
        assert coco_mask.area(code) == found["area"]
        assert coco_mask.toBbox(code).tolist() == found["bbox"]


def test_boxes_lie_in_the_image_and_hold_their_area(val: list[SyntheticImage]) -> None:
    for drawn in val:
        height, width, _ = drawn.image.shape
        for found in drawn.annotations:
            x, y, w, h = found["bbox"]
            assert 0 <= x < x + w <= width
            assert 0 <= y < y + h <= height
            assert 0 < found["area"] <= w * h


# What shows the known mistakes


def test_red_blue_pairs_differ_by_the_exchange_alone() -> None:
    for a, b in SPEC.pairs.red_blue:
        assert BY_ID[a].shape == BY_ID[b].shape
        assert SPEC.colour[BY_ID[a].colour] == SPEC.colour[BY_ID[b].colour][::-1]
    paired = {id_ for pair in SPEC.pairs.red_blue for id_ in pair}
    unchanged = {k.id for k in SPEC.classes if SPEC.colour[k.colour] == SPEC.colour[k.colour][::-1]}
    assert len(paired) == len(BY_ID) / 2
    assert unchanged == BY_ID.keys() - paired


def test_orientation_pairs_differ_by_orientation_alone() -> None:
    turned = {("wide_bar", "tall_bar"), ("triangle_up", "triangle_down")}
    assert SPEC.shape["wide_bar"].ratio == SPEC.shape["tall_bar"].ratio
    assert (SPEC.shape["wide_bar"].along, SPEC.shape["tall_bar"].along) == ("x", "y")
    for a, b in SPEC.pairs.orientation:
        assert BY_ID[a].colour == BY_ID[b].colour
        assert (BY_ID[a].shape, BY_ID[b].shape) in turned
    assert {BY_ID[a].shape for a, _ in SPEC.pairs.orientation} == {"wide_bar", "triangle_up"}


def test_aspect_ratio_pairs_are_confused_by_a_stretch() -> None:
    assert SPEC.pairs.aspect_ratio
    for a, b in SPEC.pairs.aspect_ratio:
        round_, wide = SPEC.shape[BY_ID[a].shape], SPEC.shape[BY_ID[b].shape]
        assert BY_ID[a].colour == BY_ID[b].colour
        assert round_.outline == wide.outline
        # 640 x 427 stretched to a square makes 1.65 to 1.1, nearer to the disc than to the flattest ellipse.
        assert round_.ratio[1] < 110 < wide.ratio[0] < 190


def test_every_class_is_drawn_often_enough_to_have_an_ap(singles: list[dict[str, Any]]) -> None:
    count = Counter(found["category_id"] for found in singles)
    assert count.keys() == {kind.id for kind in SPEC.classes}
    assert len(count) == 24
    assert min(count.values()) >= 30


def test_small_medium_and_large_objects_are_present(singles: list[dict[str, Any]]) -> None:
    area = np.array([found["area"] for found in singles])
    small, large = np.mean(area < 32**2), np.mean(area >= 96**2)
    assert small == pytest.approx(0.35, abs=0.05)
    assert large == pytest.approx(0.20, abs=0.05)
    sides = np.array([found["bbox"][2:] for found in singles])
    assert sides.min() == SPEC.objects.least_side
    assert np.median(sides.max(axis=1) / sides.min(axis=1)) >= 1.5


def test_objects_are_hidden_and_cut(layouts: list[SceneLayout]) -> None:
    hidden, cut = [], []
    for layout in layouts:
        for index, thing in enumerate(layout.objects):
            inside = layout.window(thing)[1] >= FULL / 2
            hidden.append(layout.visible(index).sum() < inside.sum())
            cut.append(inside.sum() < (thing.coverage >= FULL / 2).sum())
    assert np.mean(hidden) > 0.1
    assert np.mean(cut) > 0.05


def test_images_vary_as_cocos_do(val: list[SyntheticImage]) -> None:
    shapes = Counter(drawn.image.shape[:2] for drawn in val)
    aspects = [width / height for height, width in shapes]
    assert len(shapes) >= 14
    assert min(aspects) < 0.7
    assert max(aspects) > 1.7
    assert shapes.most_common(1)[0][1] < 80
    counts = [sum(not found["iscrowd"] for found in drawn.annotations) for drawn in val]
    assert min(counts) == 1
    assert max(counts) == 12
    assert np.mean(counts) == pytest.approx(6.5, abs=0.7)
    assert np.mean([any(found["iscrowd"] for found in drawn.annotations) for drawn in val]) > 0.05
