"""Preprocessing: the network input is the one the official code computes, and boxes find their way back."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conformance.support.golden_inputs import photo
from conformance.support.small_model import small_card
from harness.cards import ModelCard
from harness.centernet.preprocess import input_shape, make_batch, place, preprocess, preprocess_into
from harness.errors import HarnessError
from harness.paths import data_path
from harness.types import Float32, Float64, Placement, UInt8

PHOTOS = [(480, 640), (427, 640), (640, 426), (333, 500), (120, 1000)]
GEOMETRIES = ["affine", "letterbox", "stretch"]
WITH_KEEP_RES = st.sampled_from([*GEOMETRIES, "keep_res"])
SIDES, LONG_SIDES = st.integers(1, 90), st.integers(1, 2000)


def card_with(**changes: object) -> ModelCard:
    """Make a card with the input of the official COCO models, 512x512, and changes."""
    mean, std = (0.40789654, 0.44719302, 0.47026115), (0.28863828, 0.27408164, 0.27809835)
    official = {"height": 512, "width": 512, "scale": 1 / 255, "mean": mean, "std": std}
    return small_card(image={**official, **changes})


def raw_card(**changes: object) -> ModelCard:
    """Make a card with a small input of raw pixels."""
    raw = {"height": 64, "width": 96, "dtype": "uint8", "scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return card_with(**{**raw, **changes})


def three_points(image_size: tuple[int, int], input_size: tuple[int, int], keep_res: bool) -> tuple[Float32, Float32]:
    """Return three points of the image and their targets: the centre, above it, and a right angle to the left."""
    (width, height), (input_width, input_height) = image_size, input_size
    centre = (width // 2, height // 2) if keep_res else (width / 2, height / 2)
    half = input_width / 2 if keep_res else max(width, height) / 2
    to, half_to = (input_width / 2, input_height / 2), input_width / 2
    source = [centre, (centre[0], centre[1] - half), (centre[0] - half, centre[1] - half)]
    target = [to, (to[0], to[1] - half_to), (to[0] - half_to, to[1] - half_to)]
    return np.float32(source), np.float32(target)


def weights(card: ModelCard, placement: Placement, axis: int) -> Float64:
    """Compute the share (input side, image side) of each image pixel along x (0) or y (1) in each input pixel."""
    size = placement.image_size[axis]
    scale, offset = placement.inverse[axis, axis], placement.inverse[axis, 2]
    pixels, samples = np.arange(placement.input_size[axis])[:, None], np.arange(size)
    if card.input.geometry == "affine":  # maps the centres of pixels; beside the image is the border
        return np.clip(1 - np.abs(pixels * scale + offset - samples), 0, None)
    edges = (pixels + 0.5) * scale + offset  # resizing maps the edges of pixels and repeats the outermost
    inside = (edges > 0) & (edges < size)
    return np.clip(1 - np.abs(np.clip(edges - 0.5, 0, size - 1) - samples), 0, None) * inside


def interpolated(image: UInt8, card: ModelCard) -> Float64:
    """Compute the raw network input by its definition, not rounded to grey levels; (H, W, 3)."""
    placement = place(card, (image.shape[1], image.shape[0]))
    along_x, along_y = weights(card, placement, 0), weights(card, placement, 1)
    covered = np.outer(along_y.sum(axis=1), along_x.sum(axis=1))[..., None]
    return np.einsum("yh,xw,hwc->yxc", along_y, along_x, image, optimize=True) + (1 - covered) * card.input.pad_value


@pytest.mark.parametrize("mode", ["fix_res", "keep_res"])
@pytest.mark.parametrize("index", range(len(PHOTOS)))
def test_network_input_equals_the_official_code(index: int, mode: str) -> None:
    golden = np.load(data_path("fixtures", "golden", "pipeline.npz"))
    card = card_with(keep_res=mode == "keep_res")
    x, _ = preprocess(card, photo(100 + index, *PHOTOS[index]))
    assert x.dtype == np.float32
    assert (1, *x.shape) == tuple(golden[f"pre/{index}/{mode}/shape"])
    np.testing.assert_allclose(x[None, :, ::16, ::16], golden[f"pre/{index}/{mode}/x"], rtol=0, atol=1e-5)
    sums = x.sum(dtype=np.float64), np.abs(x).sum(dtype=np.float64)
    np.testing.assert_allclose(sums, golden[f"pre/{index}/{mode}/sum"], rtol=0, atol=1e-6 * x.size)


@given(width=LONG_SIDES, height=LONG_SIDES, keep_res=st.booleans(), input_width=st.sampled_from([320, 512]))
@settings(deadline=None, max_examples=100)
def test_affine_is_the_official_three_point_map(width: int, height: int, keep_res: bool, input_width: int) -> None:
    card = card_with(keep_res=keep_res, width=input_width)
    placement = place(card, (width, height))
    if keep_res:
        assert placement.input_size == ((width | 31) + 1, (height | 31) + 1)
    source, target = three_points((width, height), placement.input_size, keep_res)
    np.testing.assert_allclose(placement.forward, cv2.getAffineTransform(source, target), rtol=1e-9, atol=1e-7)
    # Post-processing maps the grid, a quarter of the input, by the same three points the other way round.
    grid = cv2.getAffineTransform(target / 4, source)
    np.testing.assert_allclose(placement.inverse @ np.diag([4, 4, 1]), grid, rtol=1e-9, atol=1e-7)


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), geometry=st.sampled_from(GEOMETRIES))
@settings(deadline=None, max_examples=100)
def test_inverse_takes_input_pixels_back_to_the_image(width: int, height: int, geometry: str) -> None:
    placement = place(card_with(geometry=geometry, width=320), (width, height))
    forward, inverse = (np.vstack([part, [0, 0, 1]]) for part in (placement.forward, placement.inverse))
    np.testing.assert_allclose(inverse @ forward, np.eye(3), atol=1e-9)


@given(height=SIDES, width=SIDES, geometry=WITH_KEEP_RES, pad=st.integers(0, 255), seed=st.integers(0, 9))
@example(height=86, width=2, geometry="letterbox", pad=0, seed=0)  # one pixel wide, of a factor that gives 1.49
@settings(deadline=None, max_examples=100)
def test_pixels_are_interpolated_as_placed(height: int, width: int, geometry: str, pad: int, seed: int) -> None:
    keep_res = geometry == "keep_res"
    card = raw_card(geometry="affine" if keep_res else geometry, keep_res=keep_res, pad_value=pad, layout="NHWC")
    image = photo(seed, height, width)
    x, _ = preprocess(card, image)
    # Half a grey level of rounding; OpenCV resizes with weights of 11 bits, which adds some.
    assert np.abs(x - interpolated(image, card)).max() < 1


@given(width=SIDES, height=SIDES)
@example(width=400, height=1)
@settings(deadline=None, max_examples=100)
def test_letterbox_is_centred_and_fills_one_side(width: int, height: int) -> None:
    placement = place(raw_card(geometry="letterbox"), (width, height))
    left, top, right, bottom = (placement.forward @ [[0, width], [0, height], [1, 1]]).T.ravel()
    assert min(left + 96 - right, top + 64 - bottom) == pytest.approx(0)
    scale = min(96 / width, 64 / height)
    assert (right - left, bottom - top) == pytest.approx((width * scale, height * scale))
    for before, size, side in ((left, width, 96), (top, height, 64)):
        assert before == (side - max(1, round(size * scale))) // 2


def test_letterbox_scales_pixels_by_the_factor_of_the_boxes() -> None:
    # 61 x 90: the width becomes 43.4, hence 43 pixels; by whole sides the factor would be 43 / 61 instead of 64 / 90.
    ramp = np.broadcast_to(np.arange(61, dtype=np.uint8)[None, :, None] * 4, (90, 61, 3)).copy()
    x, placement = preprocess(raw_card(geometry="letterbox"), ramp)
    left, scale = int(placement.forward[0, 2]), 64 / 90
    columns = np.arange(2, 41)
    expected = 4 * ((columns + 0.5) / scale - 0.5)
    np.testing.assert_allclose(x[0, 32, left + columns].astype(float), expected, atol=0.75)
    assert np.abs(4 * ((columns + 0.5) / (43 / 61) - 0.5) - expected).max() > 1.5


def test_every_pixel_value_is_normalised_as_the_card_says() -> None:
    card = card_with(geometry="stretch", height=32, width=32, layout="NHWC")
    levels = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    x, _ = preprocess(card, np.stack([levels, levels.T, 255 - levels], axis=2))
    for channel, level in enumerate((levels, levels.T, 255 - levels)):
        mean, std = card.input.mean[channel], card.input.std[channel]
        np.testing.assert_array_equal(x[..., channel], ((level * (1 / 255) - mean) / std).astype(np.float32))


def test_the_border_is_normalised_like_a_pixel_of_the_pad_value() -> None:
    x, _ = preprocess(card_with(pad_value=114), photo(1, 20, 40))
    expected = (114 / 255 - np.array([0.40789654, 0.44719302, 0.47026115])) / [0.28863828, 0.27408164, 0.27809835]
    np.testing.assert_allclose(x[:, :100], np.broadcast_to(expected[:, None, None], (3, 100, 512)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_layout_and_channel_order_only_move_values(dtype: str) -> None:
    image = photo(1, 40, 50)
    card = card_with if dtype == "float32" else raw_card
    mean, std = card().input.mean, card().input.std
    bgr, _ = preprocess(card(), image)
    nhwc, _ = preprocess(card(layout="NHWC"), image)
    rgb, _ = preprocess(card(channel_order="RGB", mean=mean[::-1], std=std[::-1]), image)
    assert bgr.dtype == nhwc.dtype == rgb.dtype == dtype
    assert not np.array_equal(bgr[0], bgr[2])
    np.testing.assert_array_equal(nhwc, bgr.transpose(1, 2, 0))
    np.testing.assert_array_equal(rgb, bgr[::-1])


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_batch_holds_each_image_in_its_slot_and_zeros_beyond(layout: str, dtype: str) -> None:
    card = raw_card(layout=layout, dtype=dtype, geometry="letterbox", pad_value=7)
    images = [(42, photo(1, 30, 50)), (7, photo(2, 80, 20))]
    batch = make_batch(card, images, slots=4)
    assert batch.image_ids == (42, 7)
    assert batch.images.flags.c_contiguous
    assert batch.images.shape == (4, *input_shape(card, batch.placements[0]))
    for (_, image), placement, slot in zip(images, batch.placements, batch.images, strict=False):
        alone, expected = preprocess(card, image)
        np.testing.assert_array_equal(slot, alone)
        np.testing.assert_array_equal(placement.forward, expected.forward)
    assert not batch.images[2:].any()
    assert batch.images[:2].any(axis=(1, 2, 3)).all()


def test_threads_fill_the_slots_of_one_batch() -> None:
    card = card_with(height=128, width=128)
    images = [photo(seed, 60 + seed, 90) for seed in range(16)]
    slots = np.empty((16, 3, 128, 128), np.float32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda image, slot: preprocess_into(card, image, slot), images, slots))
    np.testing.assert_array_equal(slots, make_batch(card, list(enumerate(images))).images)


def test_views_are_images_too_and_stay_as_they_are() -> None:
    image = photo(3, 60, 80)
    flipped = image[::-1, ::-1]
    before = image.copy()
    x, _ = preprocess(card_with(), flipped)
    np.testing.assert_array_equal(x, preprocess(card_with(), np.ascontiguousarray(flipped))[0])
    np.testing.assert_array_equal(image, before)


def test_images_of_different_size_make_no_keep_res_batch() -> None:
    with pytest.raises(HarnessError, match=r"one input shape.*\(3, 64, 64\).*\(3, 64, 96\)"):
        make_batch(card_with(keep_res=True), [(1, photo(1, 40, 50)), (2, photo(1, 40, 70))])


@pytest.mark.parametrize(("count", "slots"), [(0, None), (0, 4), (3, 2)])
def test_a_batch_has_at_least_one_image_and_no_more_than_slots(count: int, slots: int | None) -> None:
    with pytest.raises(ValueError, match=f"{count} images"):
        make_batch(raw_card(), [(1, photo(1, 8, 8))] * count, slots=slots)


OF_WRONG_SHAPE = [np.zeros(shape, np.uint8) for shape in ((4, 4), (4, 4, 4), (3, 4, 4), (0, 4, 3), (4, 0, 3))]


@pytest.mark.parametrize("image", [None, np.zeros((4, 4, 3), np.float32), *OF_WRONG_SHAPE])
def test_what_is_no_image_is_an_error(image: UInt8) -> None:
    with pytest.raises(HarnessError, match=r"an image (must be uint8|of \d+x\d+ pixels)"):
        preprocess(card_with(), image)


@pytest.mark.parametrize(
    "out",
    [np.zeros((3, 512, 512)), np.zeros((512, 512, 3), np.float32), np.zeros((3, 512, 1024), np.float32)[:, :, ::2]],
    ids=["dtype", "shape", "strides"],
)
def test_a_slot_that_does_not_fit_is_refused_and_left_alone(out: NDArray[np.floating]) -> None:
    with pytest.raises(ValueError, match="out must be C-contiguous float32"):
        preprocess_into(card_with(), photo(1, 20, 20), out)
    assert not out.any()
