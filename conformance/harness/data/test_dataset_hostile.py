"""Data sets of strangers: names that lead elsewhere, numbers that no tool holds, and images that claim to be huge."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness.data.dataset import load_coco, read_instances
from harness.data.detections import read_coco_json
from harness.data.image_size import stated_size
from harness.errors import HarnessError

Edit = Callable[[dict[str, Any]], object]


def lay_out(root: Path, edit: Edit = lambda truth: None, name: str = "a.png") -> Path:
    """Write a data set of one image of 20 x 10 pixels with one object."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    truth: dict[str, Any] = {
        "images": [{"id": 1, "file_name": name, "width": 20, "height": 10}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.0, 1.0, 2.0, 2.0], "area": 4.0, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    edit(truth)
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(truth))
    (root / "val2017" / "a.png").write_bytes(cv2.imencode(".png", np.zeros((10, 20, 3), np.uint8))[1].tobytes())
    return root


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../annotations/x", "a/../../x", "", ".", "n" * 300, "a\0b"], ids=ascii
)
def test_file_name_leads_to_no_other_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(HarnessError, match=r"_val2017\.json: images\.0\.file_name: .*(below the folder|no file)"):
        load_coco(lay_out(tmp_path / "coco", name=name))


def test_file_name_in_a_folder_and_links_of_a_store_are_followed(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "coco", name="inner/b.png")
    (root / "val2017" / "inner").mkdir()
    (root / "val2017" / "inner" / "b.png").symlink_to(root / "val2017" / "a.png")
    assert load_coco(root).read_image(1).shape == (10, 20, 3)


def put(kind: str, **values: object) -> Edit:
    return lambda truth: truth[kind][0].update(values)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put("images", id=2**70), "images.0.id: "),
        (put("images", width=2**40), "images.0.width: .*less than or equal"),
        (put("annotations", id=2**70), "annotations.0.id: "),
        (put("annotations", bbox=[0.0, 0.0, 1e308, 1.0]), "annotations.0.bbox.2: .*less than or equal"),
        (put("annotations", bbox=[0.0, 0.0, float("inf"), 1.0]), "annotations.0.bbox.2: .*finite"),
        (put("annotations", area=-1.0), "annotations.0.area: .*greater than or equal"),
        (put("categories", id=-(2**70)), "categories.0.id: "),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path: Path, edit: Edit, said: str) -> None:
    with pytest.raises(HarnessError, match=rf"instances_val2017\.json: {said}"):
        load_coco(lay_out(tmp_path / "coco", edit))


def png(width: int, height: int) -> bytes:
    """Make a PNG that states a size and has no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """Make a JPEG that states a size other than that of its pixels."""
    data = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("make", [png, jpeg])
def test_image_that_states_a_huge_size_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[int, int], bytes]
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: pytest.fail("decoded"))
    root = lay_out(tmp_path / "coco")
    (root / "val2017" / "a.png").write_bytes(make(60000, 60000))
    with pytest.raises(HarnessError, match=r"a\.png: the image states 60000 x 60000 pixels, and at most 134217728"):
        load_coco(root).read_image(1)


def test_size_is_read_from_what_the_decoder_would_read() -> None:
    for kind in (".png", ".jpg"):
        data = cv2.imencode(kind, np.zeros((37, 53, 3), np.uint8))[1].tobytes()
        assert stated_size(data) == (53, 37)
        assert [stated_size(data[:end]) for end in (0, 2, 9, 20)] == [None] * 4
    assert stated_size(b"BM") is None
    assert stated_size(b"\xff\xd8" + b"\xff" * 30) is None


def test_image_that_the_decoder_refuses_to_allocate_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise cv2.error("pixels <= CV_IO_MAX_IMAGE_PIXELS")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(HarnessError, match=r"a\.png: not a whole image"):
        load_coco(lay_out(tmp_path / "coco")).read_image(1)


def test_named_pipes_do_not_hang(tmp_path: Path) -> None:
    root, pipe = lay_out(tmp_path / "coco"), tmp_path / "x.json"
    os.mkfifo(pipe)
    os.mkfifo(root / "val2017" / "b.png")
    (root / "val2017" / "a.png").unlink()
    (root / "val2017" / "b.png").rename(root / "val2017" / "a.png")
    with pytest.raises(HarnessError, match="1 of 1 images are not there"):
        load_coco(root)
    for read in (read_instances, read_coco_json):
        with pytest.raises(HarnessError, match=r"x\.json: cannot be read: it is a named pipe"):
            read(pipe)


@pytest.mark.parametrize(
    "row",
    [
        {"image_id": 2**70, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1e308, 1], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": float("inf")},
    ],
)
def test_rows_with_numbers_out_of_range_are_named(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    with pytest.raises(HarnessError, match=r"rows\.json: 0\.\S+: not a COCO results file"):
        read_coco_json(tmp_path / "rows.json")
