"""A data set is read completely and unchanged, or the error names file, field and remedy."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data.dataset import Annotation, load_coco, read_instances
from harness.errors import HarnessError

Edit = Callable[[dict[str, Any]], object]

TRUTH: dict[str, Any] = {
    "info": {"year": 2017},
    "images": [
        {"id": 30, "file_name": "c.jpg", "width": 20, "height": 10, "license": 4},
        {"id": 4, "file_name": "a.png", "width": 16, "height": 24},
        {"id": 25, "file_name": "b.jpg", "width": 12, "height": 12},
    ],
    "annotations": [
        {"id": 7, "image_id": 30, "category_id": 90, "bbox": [1, 2, 3.5, 4], "area": 9.25, "iscrowd": 0,
         "segmentation": [[1, 2, 4, 2, 4, 6]]},
        {"id": 0, "image_id": 4, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 80, "iscrowd": 1},
        {"id": 8, "image_id": 30, "category_id": 1, "bbox": [5, 5, 2, 2], "area": 4, "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush", "supercategory": "indoor"}],
}  # fmt: skip


def picture(width: int, height: int, suffix: str = ".jpg") -> bytes:
    smooth = cv2.resize(np.random.default_rng(width).integers(0, 256, (4, 4, 3), np.uint8), (width, height))
    return cv2.imencode(suffix, smooth)[1].tobytes()


def lay_out(root: Path, truth: dict[str, Any]) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(truth))
    (root / "val2017").mkdir()
    for image in TRUTH["images"]:
        data = picture(image["width"], image["height"], Path(image["file_name"]).suffix)
        (root / "val2017" / image["file_name"]).write_bytes(data)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "coco", TRUTH)


def test_images_come_by_ascending_id(root: Path) -> None:
    dataset = load_coco(root)
    assert len(dataset) == 3
    assert dataset.image_ids == (4, 25, 30)
    assert [dataset.size(image_id) for image_id in dataset.image_ids] == [(16, 24), (12, 12), (20, 10)]
    assert dataset.path(25) == root / "val2017" / "b.jpg"


def test_annotations_are_those_of_the_file_in_its_order(root: Path) -> None:
    instances = load_coco(root).instances
    assert instances.annotations[0] == Annotation(7, 30, 90, (1, 2, 3.5, 4), 9.25, iscrowd=0)
    assert [annotation.id for annotation in instances.annotations] == [7, 0, 8]
    assert [category.id for category in instances.categories] == [1, 90]


@pytest.mark.parametrize(("limit", "images", "boxes"), [(1, [4], [0]), (2, [4, 25], [0]), (9, [4, 25, 30], [7, 0, 8])])
def test_limit_takes_the_lowest_ids_and_their_boxes(
    root: Path, limit: int, images: list[int], boxes: list[int]
) -> None:
    dataset = load_coco(root, limit=limit)
    assert list(dataset.image_ids) == images
    assert [annotation.id for annotation in dataset.instances.annotations] == boxes


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one_is_an_error(root: Path, limit: int) -> None:
    with pytest.raises(HarnessError, match=f"{limit} images leave nothing to run") as caught:
        load_coco(root, limit=limit)
    assert caught.value.field == "--limit"


def test_another_split_is_read_from_its_own_files(root: Path) -> None:
    (root / "annotations" / "instances_val2017.json").rename(root / "annotations" / "instances_tiny.json")
    (root / "val2017").rename(root / "tiny")
    assert load_coco(root, split="tiny").path(4) == root / "tiny" / "a.png"


def test_pixels_are_those_of_the_official_reader(root: Path) -> None:
    dataset = load_coco(root)
    for image_id in dataset.image_ids:
        np.testing.assert_array_equal(dataset.read_image(image_id), cv2.imread(str(dataset.path(image_id))))


def test_exif_orientation_is_applied_as_by_the_official_reader(root: Path) -> None:
    """Orientation 6, a quarter turn: the file holds 10 x 20 pixels and shows 20 x 10."""
    tags = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    segment = b"Exif\0\0" + tags
    upright = picture(10, 20)
    path = root / "val2017" / "c.jpg"
    path.write_bytes(upright[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + upright[2:])
    image = load_coco(root).read_image(30)
    np.testing.assert_array_equal(image, cv2.imread(str(path)))
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(image, np.rot90(np.asarray(stored), k=-1))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image_id=st.sampled_from([4, 25, 30]), share=st.floats(0, 1, exclude_max=True))
def test_truncated_image_is_an_error_wherever_it_ends(root: Path, image_id: int, share: float) -> None:
    dataset = load_coco(root)
    path = dataset.path(image_id)
    whole = picture(*dataset.size(image_id), path.suffix)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(HarnessError, match="not a whole image") as caught:
        dataset.read_image(image_id)
    assert caught.value.file == str(path)


def test_large_truncated_jpeg_is_an_error(root: Path) -> None:
    """The file has several decoder buffers, as a photograph; the reader of the official code returns it half grey."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    path = root / "val2017" / "b.jpg"
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    for end in (len(data) // 2, len(data) - 2):
        path.write_bytes(data[:end])
        with pytest.raises(HarnessError, match=r"b\.jpg: not a whole image"):
            load_coco(root).read_image(25)


@pytest.mark.parametrize(
    ("image_id", "name", "content", "message"),
    [
        (25, "b.jpg", b"<html>404 Not Found</html>", r"b\.jpg: not a whole image \(26 bytes\)"),
        (30, "c.jpg", picture(10, 20), r"c\.jpg: the image is 10 x 20 pixels, its annotations are for 20 x 10"),
    ],
    ids=["no image", "another size"],
)
def test_file_of_other_content_is_an_error(root: Path, image_id: int, name: str, content: bytes, message: str) -> None:
    (root / "val2017" / name).write_bytes(content)
    with pytest.raises(HarnessError, match=message):
        load_coco(root).read_image(image_id)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("val2017/a.png", "val2017/c.jpg"), r"val2017: 2 of 3 images are not there: a\.png, c\.jpg\n.*--limit"),
        (("annotations/instances_val2017.json",), r"_val2017\.json: cannot be read: No such file .*\n.*--coco"),
    ],
    ids=["images", "annotations"],
)
def test_missing_files_are_named(root: Path, files: tuple[str, ...], message: str) -> None:
    for file in files:
        (root / file).unlink()
    with pytest.raises(HarnessError, match=message):
        load_coco(root)


def test_images_beyond_the_limit_may_be_missing(root: Path) -> None:
    (root / "val2017" / "c.jpg").unlink()
    assert load_coco(root, limit=2).image_ids == (4, 25)


@pytest.mark.parametrize("end", [0, 1, -1, 200])
def test_truncated_annotations_are_an_error(root: Path, end: int) -> None:
    file = root / "annotations" / "instances_val2017.json"
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(HarnessError, match=r"instances_val2017\.json: truncated or corrupt: .*line 1 column"):
        load_coco(root)


def without(*keys: str) -> Edit:
    return lambda truth: [truth.pop(key) for key in keys]


def put(kind: str, index: int, **values: object) -> Edit:
    return lambda truth: truth[kind][index].update(values)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("annotations"), "not an instances file: no annotations"),
        (without("images", "categories"), "not an instances file: no images, categories"),
        (lambda truth: truth["annotations"][1].pop("bbox"), "annotations.1.bbox: Field required"),
        (lambda truth: [entry.pop("area") for entry in truth["annotations"]], "annotations.0.area: .*; and 2 more"),
        (lambda truth: truth["annotations"][1].pop("iscrowd"), "annotations.1.iscrowd: Field required"),
        (lambda truth: truth["images"][2].pop("file_name"), "images.2.file_name: Field required"),
        (put("images", 0, width=0), "images.0.width: Input should be greater than 0"),
        (put("images", 0, id="30"), "images.0.id: Input should be a valid integer"),
        (put("annotations", 0, bbox=[1, 2, 3]), "annotations.0.bbox.3: Field required"),
        (put("annotations", 0, bbox=[1, 2, 3, float("nan")]), "annotations.0.bbox.3: Input should be a finite number"),
        (put("annotations", 0, iscrowd=2), "annotations.0.iscrowd: Input should be 0 or 1"),
        (put("images", 1, id=30), "images: 1 ids stand more than once: 30"),
        (put("annotations", 1, id=7), "annotations: 1 ids stand more than once: 7"),
        (put("categories", 1, id=1), "categories: 1 ids stand more than once: 1"),
        (put("annotations", 2, image_id=31), "annotations: 1 annotations have a image_id .* the images: ids 8"),
        (put("annotations", 0, category_id=12), "annotations: 1 annotations have a category_id .* categories: ids 7"),
        (lambda truth: truth.update(images=[], annotations=[]), "images: no images"),
        (lambda truth: truth.update(annotations=None), "annotations: Input should be a valid array"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, edit: Edit, message: str) -> None:
    truth = copy.deepcopy(TRUTH)
    edit(truth)
    with pytest.raises(HarnessError, match=r"instances_val2017\.json: " + message) as caught:
        load_coco(lay_out(tmp_path / "coco", truth))
    assert caught.value.remedy


def test_annotations_that_are_no_object_are_named(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text("[1, 2]")
    with pytest.raises(HarnessError, match=r"results\.json: Input should be an object\n.*give a COCO instances file"):
        read_instances(file)


def rewrite(root: Path, edit: Edit) -> None:
    file = root / "annotations" / "instances_val2017.json"
    truth = json.loads(file.read_text())
    edit(truth)
    file.write_text(json.dumps(truth, indent=3))


def backwards(truth: dict[str, Any]) -> None:
    for kind in ("images", "annotations", "categories"):
        truth[kind].reverse()


def rename(root: Path) -> None:
    (root / "val2017" / "b.jpg").rename(root / "val2017" / "z.jpg")
    rewrite(root, put("images", 2, file_name="z.jpg"))


HASH_CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "white space": (lambda root: rewrite(root, lambda truth: None), False),
    "order": (lambda root: rewrite(root, backwards), False),
    "keys that do not matter": (lambda root: rewrite(root, without("info")), False),
    "form of a number": (lambda root: rewrite(root, put("annotations", 1, area=80.0)), False),
    "name of a file": (rename, False),
    "area": (lambda root: rewrite(root, put("annotations", 1, area=80.5)), True),
    "box": (lambda root: rewrite(root, put("annotations", 2, bbox=[5, 5, 2, 2.01])), True),
    "crowd": (lambda root: rewrite(root, put("annotations", 2, iscrowd=1)), True),
    "category": (lambda root: rewrite(root, put("annotations", 2, category_id=90)), True),
    "one box less": (lambda root: rewrite(root, lambda truth: truth["annotations"].pop()), True),
    "pixels": (lambda root: (root / "val2017" / "b.jpg").write_bytes(picture(13, 12)), True),
}


@pytest.mark.parametrize("case", HASH_CHANGES)
def test_content_hash_changes_with_the_data_and_with_nothing_else(root: Path, case: str) -> None:
    change, other = HASH_CHANGES[case]
    before = load_coco(root).content_hash
    change(root)
    assert (load_coco(root).content_hash != before) == other


def test_content_hash_goes_by_the_chosen_images_only(root: Path) -> None:
    before = load_coco(root, limit=2).content_hash
    assert load_coco(root).content_hash != before
    (root / "val2017" / "c.jpg").write_bytes(b"")
    rewrite(root, put("annotations", 0, area=1))
    assert load_coco(root, limit=2).content_hash == before
