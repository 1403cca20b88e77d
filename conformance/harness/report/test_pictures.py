"""Pictures carry what they are made of, small enough for a page."""

import base64

import cv2
import numpy as np
import pytest

from harness.report.pictures import LARGEST_MAP, LONGEST, Maps, RunPictures, heat_maps, photograph
from harness.types import UInt8


def decoded(uri: str, kind: str) -> UInt8:
    head, _, data = uri.partition(",")
    assert head == f"data:image/{kind};base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"), [((2000, 1000), (560, 280)), ((30, 50), (30, 50)), ((1, 5000), (1, 560))]
)
def test_photograph_is_made_small_and_never_large(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    image = np.full((*shape, 3), (10, 120, 240), np.uint8)
    found = decoded(photograph(image), "jpeg")
    assert found.shape[:2] == expected
    assert max(expected) <= LONGEST
    assert np.abs(found.astype(int) - (10, 120, 240)).max() <= 6


def test_maps_share_a_scale_and_the_difference_has_its_own() -> None:
    reference = np.zeros((3, 5), np.float16)
    device = reference.copy()
    reference[1, 2], device[1, 4] = 4, -2
    ours, theirs, apart = heat_maps(reference, device)
    assert [(one.low, one.high) for one in (ours, theirs, apart)] == [(-2, 4), (-2, 4), (0, 4)]
    assert [one.size for one in (ours, theirs, apart)] == [(5, 3)] * 3
    brightness = [decoded(one.source, "png").astype(int).sum(axis=2) for one in (ours, theirs, apart)]
    assert np.unravel_index(brightness[0].argmax(), (3, 5)) == (1, 2)
    assert np.unravel_index(brightness[1].argmin(), (3, 5)) == (1, 4)
    assert sorted(np.argsort(brightness[2].ravel())[-2:]) == [7, 9]
    assert brightness[0][0, 0] == brightness[1][0, 0]  # the same value, the same colour


def test_maps_without_any_difference_are_drawn() -> None:
    same = np.full((600, 2), 1e-8, np.float32)
    maps = heat_maps(same, same)
    assert decoded(maps[2].source, "png").shape[0] == LARGEST_MAP
    assert maps[2].high == 0


def test_size_of_a_run_is_that_of_all_its_pictures() -> None:
    maps = heat_maps(np.zeros((3, 5)), np.ones((3, 5)))
    assert RunPictures(1).bytes == 0
    assert RunPictures(1, maps=Maps("hm", "x", maps)).bytes == sum(len(one.source) for one in maps)
