"""Known mistakes in preprocessing."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from harness.faults.fault import Fault, Params, Setting
from harness.faults.stages.preprocess import PreprocessSpec, Triple

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _draw_mean(random: np.random.Generator) -> Params:
    return tuple(random.uniform(0.1, 0.7, 3).round(3).tolist())


def _draw_std(random: np.random.Generator) -> Params:
    return tuple(random.uniform(0.15, 0.6, 3).round(3).tolist())


def _triple(params: Params) -> Triple:
    return params[0], params[1], params[2]


def _has_statistics(setting: Setting) -> bool:
    spec = setting.card.input
    return any(spec.mean) or any(one != 1 for one in spec.std)


def _takes_floats(setting: Setting) -> bool:
    return setting.card.input.dtype == "float32"


def _is_warped(setting: Setting) -> bool:
    return setting.card.input.geometry == "affine" and not setting.card.input.keep_res


def _has_fixed_sides(setting: Setting) -> bool:
    return not setting.card.input.keep_res


def _has_other_geometry(setting: Setting, name: str) -> bool:
    return setting.card.input.geometry != name and _has_fixed_sides(setting)


PREPROCESS_FAULTS: tuple[Fault[PreprocessSpec], ...] = (
    Fault(
        id="input-channels-swapped",
        spec=PreprocessSpec,
        description="the channels of the input are swapped, RGB for BGR or BGR for RGB",
        seen_in="sophon-demo CenterNet, centernet_bmcv: RGB planes, BGR constants; Ascend ModelZoo's README (RGB_FP32)",
        change=lambda spec, p: replace(spec, swapped=True),
    ),
    Fault(
        id="input-mean",
        spec=PreprocessSpec,
        description="another mean is subtracted",
        seen_in="ImageNet's mean from the template of another network",
        change=lambda spec, p: replace(spec, mean=_triple(p)),
        applies=_takes_floats,
        parameters=("first channel", "second channel", "third channel"),
        draw=_draw_mean,
        guesses=(IMAGENET_MEAN, IMAGENET_MEAN[::-1], (0.5,) * 3, (0.0,) * 3),
        starts=tuple(product((0.2, 0.4, 0.6), repeat=3)),
    ),
    Fault(
        id="input-std",
        spec=PreprocessSpec,
        description="another standard deviation divides the input",
        seen_in="ImageNet's deviation from the template of another network",
        change=lambda spec, p: replace(spec, std=_triple(p)),
        applies=_takes_floats,
        parameters=("first channel", "second channel", "third channel"),
        draw=_draw_std,
        guesses=(IMAGENET_STD, IMAGENET_STD[::-1], (0.5,) * 3, (1.0,) * 3),
        starts=tuple(product((0.2, 0.33, 0.5), repeat=3)),
    ),
    Fault(
        id="input-statistics-reversed",
        spec=PreprocessSpec,
        description="mean and standard deviation stand in the other channel order",
        seen_in="CenterNet's constants are in BGR order and are read as RGB (sophon-demo CenterNet, centernet_bmcv)",
        change=lambda spec, p: replace(spec, reversed_statistics=True),
        applies=_has_statistics,
    ),
    Fault(
        id="input-not-divided",
        spec=PreprocessSpec,
        description="pixels of 0..255 are fed where 0..1 is wanted",
        seen_in="an AIPP configuration without var_reci_chn (Ascend MindX reference application has it folded in)",
        change=lambda spec, p: replace(spec, factor=255.0),
        applies=lambda s: _takes_floats(s) and s.card.input.scale < 0.1,
    ),
    Fault(
        id="input-divided-again",
        spec=PreprocessSpec,
        description="the input is divided by 255 once too often",
        seen_in="models that take 0..255 fed by a host that divides (mb3_centernet); AIPP after a host that normalises",
        change=lambda spec, p: replace(spec, factor=1 / 255),
        applies=_takes_floats,
    ),
    Fault(
        id="input-not-normalised",
        spec=PreprocessSpec,
        description="mean and standard deviation are not applied",
        seen_in="toolchains whose mean and scale options default to 0 and 1 (tpu_mlir model_transform)",
        change=lambda spec, p: replace(spec, normalised=0),
        applies=_has_statistics,
    ),
    Fault(
        id="input-normalised-twice",
        spec=PreprocessSpec,
        description="mean and standard deviation are applied on the host and on the chip",
        seen_in="AIPP or fuse_preprocess in the model, and a host that normalises as well (Ascend ATC, tpu_mlir)",
        change=lambda spec, p: replace(spec, normalised=2),
        applies=_has_statistics,
    ),
    Fault(
        id="input-stretched",
        spec=PreprocessSpec,
        description="the image is stretched to the input, whatever its aspect ratio",
        seen_in="cv2.resize in place of the warp in host code of many detectors",
        change=lambda spec, p: replace(spec, geometry="stretch"),
        applies=lambda s: _has_other_geometry(s, "stretch"),
    ),
    Fault(
        id="input-letterboxed",
        spec=PreprocessSpec,
        description="the image is letterboxed by whole pixels instead of warped",
        seen_in="sophon-demo CenterNet: centernet_sail and centernet_bmcv",
        change=lambda spec, p: replace(spec, geometry="letterbox"),
        applies=lambda s: _has_other_geometry(s, "letterbox"),
    ),
    Fault(
        id="input-warped",
        spec=PreprocessSpec,
        description="the image is warped about pixel centres instead of resized",
        seen_in="CenterNet's get_affine_transform used for a model of others",
        change=lambda spec, p: replace(spec, geometry="affine"),
        applies=lambda s: _has_other_geometry(s, "affine"),
    ),
    Fault(
        id="input-integer-centre",
        spec=PreprocessSpec,
        description="the image's centre is w // 2, h // 2 instead of w / 2, h / 2",
        seen_in="CenterNet's keep_res branch taken for fix_res (Ascend ModelZoo CenterNet_preprocess)",
        change=lambda spec, p: replace(spec, integer_centre=True),
        applies=_is_warped,
    ),
    Fault(
        id="input-padded-after",
        spec=PreprocessSpec,
        description="pixels beside the image are 0 after normalisation, not before",
        seen_in="letterbox helpers that paste the normalised image into zeros",
        change=lambda spec, p: replace(spec, pad_normalised=True),
        applies=_has_statistics,
    ),
    Fault(
        id="input-pad-value",
        spec=PreprocessSpec,
        description="pixels beside the image have another grey level",
        seen_in="YOLO's grey of 114 in shared host code",
        change=lambda spec, p: replace(spec, pad_value=int(p[0])),
        applies=_has_fixed_sides,
        parameters=("grey level",),
        draw=lambda r: (float(r.choice([114, 127, 128, 255])),),
        guesses=((114.0,), (127.0,), (128.0,), (255.0,)),
    ),
    Fault(
        id="input-half-pixel",
        spec=PreprocessSpec,
        description="the image lies half a pixel off in the network input",
        seen_in="resizers that differ in what the centre of a pixel is (align_corners, half_pixel)",
        change=lambda spec, p: replace(spec, shift=p[0]),
        parameters=("pixels of the network input",),
        draw=lambda r: (float(r.choice([-0.5, 0.5])),),
        guesses=((0.5,), (-0.5,)),
    ),
    Fault(
        id="input-nearest",
        spec=PreprocessSpec,
        description="pixels are picked, not interpolated",
        seen_in="hardware scalers in their fastest mode",
        change=lambda spec, p: replace(spec, nearest=True),
    ),
    Fault(
        id="input-in-the-corner",
        spec=PreprocessSpec,
        description="the image lies in the upper left corner of the input, not in its middle",
        seen_in="letterbox helpers that pad right and below only",
        change=lambda spec, p: replace(spec, corner=True),
        applies=lambda s: _has_fixed_sides(s) and s.card.input.geometry != "stretch",
    ),
    Fault(
        id="input-cropped",
        spec=PreprocessSpec,
        description="the image fills the input and its longer side is cut",
        seen_in="ImageNet's resize and centre crop in shared host code",
        change=lambda spec, p: replace(spec, cropped=True),
        applies=lambda s: _has_fixed_sides(s) and s.card.input.geometry != "stretch",
    ),
    Fault(
        id="input-layout",
        spec=PreprocessSpec,
        description="the input's buffer is in the other layout, NHWC for NCHW or NCHW for NHWC",
        seen_in="ais_bench 2023: a non-contiguous array is passed by its pointer, so a transpose is lost",
        change=lambda spec, p: replace(spec, interleaved=True),
    ),
    Fault(
        id="input-integers",
        spec=PreprocessSpec,
        description="normalised values are truncated to integers",
        seen_in="a buffer of an integer dtype fed by pointer (ais_bench compares bytes, not dtypes)",
        change=lambda spec, p: replace(spec, integers=True),
        applies=_has_statistics,
    ),
)
