"""The published AP is a floor on exactly its own images, at the tenth of a point to which such figures are rounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.support.coco_reference import results_of
from harness.cards import ModelCard, load_model_card
from harness.cards.model import Published
from harness.cards.tolerances import load_tolerance
from harness.checks.accuracy import check_floor
from harness.checks.evaluate import Metrics, evaluate
from harness.data.dataset import Annotation, Category, ImageEntry, Instances
from harness.data.detections import Results
from harness.types import Detections

FLOOR = Published(ap=0.364, images=5000, resolution="fix_res", source="the fp16 port's table", floor=True)
CATEGORIES = (1, 3, 17, 90)
BOX = (100.0, 100.0, 200.0, 200.0)
"""Corners of the object in every image."""


def card(*published: Published) -> ModelCard:
    return load_model_card("embedded").model_copy(update={"published": published, "category_ids": CATEGORIES})


def detection(iou: float) -> tuple[float, ...]:
    """A box of the object's width that meets it with this intersection over union."""
    x1, y1, x2, y2 = BOX
    return (x1, y1, x2, y1 + (y2 - y1) * iou)


def five_thousand(last: int, images: int = 5000) -> tuple[Instances, Results]:
    """One object in each image, of four categories in turn, and what was found of them.

    Of the first category all; of the second all with an IoU of 0.67, which counts at four of the ten thresholds; of the
    third as many as reach five of the 101 recall levels; of the fourth those of `last` levels, at an IoU of 0.52, which
    counts at one threshold. The AP is the mean of 1, 0.4, 5 / 101 and `last` / 1010.
    """
    count = images // 4
    # Recall level r / 100 is reached by the share r / 100 of the objects, so these reach the levels 0 to n - 1.
    found = (count, count, 4 * count // 100 + 1, (last - 1) * count // 100 + 1)
    annotations, results = [], Results()
    x1, y1, x2, y2 = BOX
    box = (x1, y1, x2 - x1, y2 - y1)
    for image_id in range(images):
        kind, place = image_id % 4, image_id // 4
        annotations.append(Annotation(image_id, image_id, CATEGORIES[kind], box, box[2] * box[3], 0))
        rows = [(*detection((1.0, 0.67, 1.0, 0.52)[kind]), 0.9)] if place < found[kind] else []
        boxes = results_of({0: rows})[0]
        results.add(image_id, Detections(boxes.boxes, boxes.scores, boxes.classes + kind))
    entries = tuple(ImageEntry(image_id, f"{image_id}.jpg", 640, 480) for image_id in range(images))
    return Instances(entries, tuple(annotations), tuple(Category(id_, str(id_)) for id_ in CATEGORIES)), results


def measured(last: int, images: int = 5000) -> Metrics:
    instances, results = five_thousand(last, images)
    return evaluate(instances, results, CATEGORIES)


@pytest.mark.parametrize(("last", "shown", "reached"), [(4, "36.3366", False), (5, "36.3614", True)])
def test_five_thousand_images_on_either_side_of_the_edge(last: int, shown: str, reached: bool) -> None:
    metrics = measured(last)
    assert pytest.approx((1 + 0.4 + 5 / 101 + last / 1010) / 4, abs=1e-9) == metrics.AP
    found = check_floor(card(FLOOR), metrics.AP, metrics.images)
    word = "reached" if reached else "missed"
    assert (found.reached, found.text) == (reached, f"floor 36.4 {word} with {shown} (the fp16 port's table)")


def test_floor_does_not_apply_to_one_image_less() -> None:
    metrics = measured(1, images=4999)
    found = check_floor(card(FLOOR), metrics.AP, metrics.images)
    assert (found.reached, found.text) == (True, "floor not applicable (4999 images)")


@pytest.mark.parametrize("images", [1, 206, 4999, 5001])
def test_floor_applies_to_its_own_images_only(images: int) -> None:
    assert check_floor(card(FLOOR), 0.01, images).text == f"floor not applicable ({images} images)"
    assert check_floor(card(FLOOR), 0.01, images).reached


def test_card_without_a_floor_has_none() -> None:
    other = FLOOR.model_copy(update={"floor": False})
    for published in ((), (other,)):
        found = check_floor(card(*published), 0.01, 5000)
        assert (found.reached, found.text) == (True, "floor not applicable (no published AP on the card)")


@given(tenths=st.integers(1, 999), hundredth=st.floats(-0.049, 0.049), floor=st.integers(1, 999))
def test_compared_are_tenths_of_a_point(tenths: int, hundredth: float, floor: int) -> None:
    published = FLOOR.model_copy(update={"ap": floor / 1000})
    found = check_floor(card(published), (tenths / 10 + hundredth) / 100, 5000)
    assert found.reached == (tenths >= floor)
    assert f"with {tenths / 10 + hundredth:.4f}" in found.text


@pytest.mark.parametrize(
    ("name", "floor", "resolution"),
    [
        ("dla_34_keep_res", 37.4, "keep_res"),
        ("dla_34", 36.4, "fix_res"),
        ("dla_34_ascend", 36.4, "fix_res"),
        ("dla_34_ascend_builtin", 36.4, "fix_res"),
        ("dla_34_ascend_fp32", 36.5, "fix_res"),
    ],
)
def test_every_port_of_dla_34_has_the_floor_of_its_own_resolution(name: str, floor: float, resolution: str) -> None:
    own = load_model_card(name)
    [found] = [published for published in own.published if published.floor]
    assert (round(100 * found.ap, 1), found.resolution, found.images) == (floor, resolution, 5000)
    assert own.input.keep_res == (resolution == "keep_res")
    assert {p.ap for p in own.published if p.resolution != resolution} == set()
    assert check_floor(own, floor / 100, 5000).reached
    assert not check_floor(own, floor / 100 - 0.001, 5000).reached


def test_other_published_figures_stand_beside_the_floor_and_are_none() -> None:
    text = check_floor(load_model_card("dla_34_ascend"), 0.3655, 5000).text
    assert text == (
        "floor 36.4 reached with 36.5500 (Ascend ModelZoo CenterNet recipe: the 310 and 310P ports in float16); "
        "no floor: 36.6 (fix_res: Ascend ModelZoo CenterNet recipe: PyTorch without keep_res)"
    )


def test_floor_of_another_resolution_is_refused() -> None:
    values = load_model_card("dla_34").model_dump()
    values["published"] = ({**FLOOR.model_dump(), "ap": 0.374, "resolution": "keep_res"},)
    with pytest.raises(ValueError, match="the floor of a fix_res card cannot be a figure of the other resolution"):
        ModelCard(**values)


def test_float16_may_lose_what_the_published_port_lost() -> None:
    assert load_tolerance("fp16").ap_loss_allowed == pytest.approx(0.366 - 0.364)
