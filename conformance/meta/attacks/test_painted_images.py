"""Images that were changed in the cache are not taken for those that the stated hash is of."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from conformance.harness.data.test_synthetic_materialise import of_three
from harness.data.synthetic import Spec, materialise
from harness.data.synthetic.materialise import SEAL

pytestmark = pytest.mark.attacks


@pytest.fixture(scope="module")
def spec() -> Spec:
    return of_three()


@pytest.fixture
def cache(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with three embedded images in it."""
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path))
    materialise(spec, "val", tmp_path)
    return tmp_path


def black(file: Path) -> None:
    image = cv2.imread(str(file))
    assert image is not None
    cv2.imwrite(str(file), np.zeros_like(image))


def pixels(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((folder / "val2017").iterdir())]


@pytest.mark.parametrize("seal", ["kept", "removed"])
def test_image_painted_black_is_made_anew_and_said(
    spec: Spec, cache: Path, caplog: pytest.LogCaptureFixture, seal: str
) -> None:
    folder = materialise(spec, "val", cache)
    before = pixels(folder)
    black(sorted((folder / "val2017").iterdir())[1])
    if seal == "removed":
        (folder / SEAL).unlink()
    with caplog.at_level(logging.WARNING):
        assert materialise(spec, "val", cache) == folder
    assert pixels(folder) == before
    assert f"{folder}: a file was changed since it was written; it is made anew" in caplog.text


def test_annotation_that_was_moved_is_made_anew(spec: Spec, cache: Path) -> None:
    folder = materialise(spec, "val", cache)
    file = folder / "annotations" / "instances_val2017.json"
    before = file.read_bytes()
    file.write_bytes(before.replace(b'"iscrowd":0', b'"iscrowd":1'))
    materialise(spec, "val", cache)
    assert file.read_bytes() == before


@pytest.mark.parametrize("change", ["gone", "empty", "two exchanged"])
def test_image_that_is_gone_or_another_is_made_anew(spec: Spec, cache: Path, change: str) -> None:
    folder = materialise(spec, "val", cache)
    before = pixels(folder)
    one, other, _ = sorted((folder / "val2017").iterdir())
    if change == "gone":
        one.unlink()
    else:
        one.write_bytes(b"" if change == "empty" else other.read_bytes())
    materialise(spec, "val", cache)
    assert pixels(folder) == before


def test_same_pixels_in_other_files_are_the_same_images(
    spec: Spec, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = materialise(spec, "val", cache)
    file = next(iter(sorted((folder / "val2017").iterdir())))
    image = cv2.imread(str(file))
    assert image is not None
    cv2.imwrite(str(file), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    again = file.read_bytes()
    materialise(spec, "val", cache)
    assert file.read_bytes() == again
    assert not caplog.text
