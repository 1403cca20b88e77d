"""Known mistakes before and in the network."""

from __future__ import annotations

from itertools import product

import numpy as np

from harness.faults.base import Fault, Params, Setting

LEVEL = 1 / 255
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _mean(random: np.random.Generator) -> Params:
    return tuple(random.uniform(0.1, 0.7, 3).round(3).tolist())


def _std(random: np.random.Generator) -> Params:
    return tuple(random.uniform(0.15, 0.6, 3).round(3).tolist())


def _geometry(name: str) -> tuple[object, object]:
    return (lambda p: {"geometry": name}), (lambda s: s.card.input.geometry != name and not s.card.input.keep_res)


def _statistics(setting: Setting) -> bool:
    spec = setting.card.input
    return any(spec.mean) or any(one != 1 for one in spec.std)


def _floating(setting: Setting) -> bool:
    return setting.card.input.dtype == "float32"


def _affine(setting: Setting) -> bool:
    return setting.card.input.geometry == "affine" and not setting.card.input.keep_res


def _fixed(setting: Setting) -> bool:
    return not setting.card.input.keep_res


PREPROCESS = (
    Fault(
        "input-channels-swapped", "preprocess", "the channels of the input are swapped, RGB for BGR or BGR for RGB",
        "sophon-demo CenterNet, centernet_bmcv: RGB planes, BGR constants; Ascend ModelZoo's README (RGB_FP32)",
        lambda p: {"swapped": True},
    ),
    Fault(
        "input-mean", "preprocess", "another mean is subtracted",
        "ImageNet's mean from the template of another network",
        lambda p: {"mean": p}, _floating, _mean,
        (IMAGENET_MEAN, IMAGENET_MEAN[::-1], (0.5,) * 3, (0.0,) * 3), starts=tuple(product((0.2, 0.4, 0.6), repeat=3)),
    ),
    Fault(
        "input-std", "preprocess", "another standard deviation divides the input",
        "ImageNet's deviation from the template of another network",
        lambda p: {"std": p}, _floating, _std, (IMAGENET_STD, IMAGENET_STD[::-1], (0.5,) * 3, (1.0,) * 3),
        starts=tuple(product((0.2, 0.33, 0.5), repeat=3)),
    ),
    Fault(
        "input-statistics-reversed", "preprocess", "mean and standard deviation stand in the other channel order",
        "CenterNet's constants are in BGR order and are read as RGB (sophon-demo CenterNet, centernet_bmcv)",
        lambda p: {"reversed_statistics": True}, _statistics,
    ),
    Fault(
        "input-not-divided", "preprocess", "pixels of 0..255 are fed where 0..1 is wanted",
        "an AIPP configuration without var_reci_chn (Ascend MindX reference application has it folded in)",
        lambda p: {"factor": 255.0}, lambda s: _floating(s) and s.card.input.scale < 0.1,
    ),
    Fault(
        "input-divided-again", "preprocess", "the input is divided by 255 once too often",
        "models that take 0..255 fed by a host that divides (mb3_centernet); AIPP after a host that normalises",
        lambda p: {"factor": LEVEL}, _floating,
    ),
    Fault(
        "input-not-normalised", "preprocess", "mean and standard deviation are not applied",
        "toolchains whose mean and scale options default to 0 and 1 (tpu_mlir model_transform)",
        lambda p: {"normalised": 0}, _statistics,
    ),
    Fault(
        "input-normalised-twice", "preprocess", "mean and standard deviation are applied on the host and on the chip",
        "AIPP or fuse_preprocess in the model, and a host that normalises as well (Ascend ATC, tpu_mlir)",
        lambda p: {"normalised": 2}, _statistics,
    ),
    Fault(
        "input-stretched", "preprocess", "the image is stretched to the input, whatever its aspect ratio",
        "cv2.resize in place of the warp in host code of many detectors", *_geometry("stretch"),  # type: ignore[arg-type]
    ),
    Fault(
        "input-letterboxed", "preprocess", "the image is letterboxed by whole pixels instead of warped",
        "sophon-demo CenterNet: centernet_sail and centernet_bmcv", *_geometry("letterbox"),  # type: ignore[arg-type]
    ),
    Fault(
        "input-warped", "preprocess", "the image is warped about pixel centres instead of resized",
        "CenterNet's get_affine_transform used for a model of others", *_geometry("affine"),  # type: ignore[arg-type]
    ),
    Fault(
        "input-integer-centre", "preprocess", "the image's centre is w // 2, h // 2 instead of w / 2, h / 2",
        "CenterNet's keep_res branch taken for fix_res (Ascend ModelZoo CenterNet_preprocess)",
        lambda p: {"integer_centre": True}, _affine,
    ),
    Fault(
        "input-padded-after", "preprocess", "pixels beside the image are 0 after normalisation, not before",
        "letterbox helpers that paste the normalised image into zeros",
        lambda p: {"pad_normalised": True}, _statistics,
    ),
    Fault(
        "input-pad-value", "preprocess", "pixels beside the image have another grey level",
        "YOLO's grey of 114 in shared host code",
        lambda p: {"pad_value": int(p[0])}, _fixed,
        lambda r: (float(r.choice([114, 127, 128, 255])),), ((114.0,), (127.0,), (128.0,), (255.0,)),
    ),
    Fault(
        "input-half-pixel", "preprocess", "the image lies half a pixel off in the network input",
        "resizers that differ in what the centre of a pixel is (align_corners, half_pixel)",
        lambda p: {"shift": p[0]}, lambda s: True,
        lambda r: (float(r.choice([-0.5, 0.5])),), ((0.5,), (-0.5,)),
    ),
    Fault(
        "input-nearest", "preprocess", "pixels are picked, not interpolated",
        "hardware scalers in their fastest mode",
        lambda p: {"nearest": True},
    ),
    Fault(
        "input-in-the-corner", "preprocess", "the image lies in the upper left corner of the input, not in its middle",
        "letterbox helpers that pad right and below only",
        lambda p: {"corner": True}, lambda s: _fixed(s) and s.card.input.geometry != "stretch",
    ),
    Fault(
        "input-cropped", "preprocess", "the image fills the input and its longer side is cut",
        "ImageNet's resize and centre crop in shared host code",
        lambda p: {"cropped": True}, lambda s: _fixed(s) and s.card.input.geometry != "stretch",
    ),
    Fault(
        "input-layout", "preprocess", "the input's buffer is in the other layout, NHWC for NCHW or NCHW for NHWC",
        "ais_bench 2023: a non-contiguous array is passed by its pointer, so a transpose is lost",
        lambda p: {"interleaved": True},
    ),
    Fault(
        "input-integers", "preprocess", "normalised values are truncated to integers",
        "a buffer of an integer dtype fed by pointer (ais_bench compares bytes, not dtypes)",
        lambda p: {"integers": True}, _statistics,
    ),
)  # fmt: skip


def _dcn(setting: Setting) -> bool:
    return setting.dcn


NETWORK = (
    Fault(
        "dcn-offset-xy", "network", "DCN offsets are read as (x, y)",
        "Ascend DeformableConv2D wants the x block first (Ascend ModelZoo dcn_v2.py; mmcv's NPU path)",
        lambda p: {"offsets": "xy"}, _dcn,
    ),
    Fault(
        "dcn-offset-blocks", "network", "DCN offsets are read as two blocks where they are interleaved",
        "hicann ops-nn tests: golden data made by joining the blocks; TOOD and DEKR patches of the Ascend ModelZoo",
        lambda p: {"offsets": "blocks xy" if p[0] else "blocks"}, _dcn,
        lambda r: (float(r.integers(2)),), ((0.0,), (1.0,)),
    ),
    Fault(
        "dcn-offset-zero", "network", "DCN offsets are not read at all",
        "toolchains that take DCNv2 for a plain convolution where it is unknown",
        lambda p: {"offsets": "none"}, _dcn,
    ),
    Fault(
        "dcn-mask-raw", "network", "the DCN mask comes without its sigmoid",
        "the Ascend operator wants the mask activated, the exporter left it out",
        lambda p: {"mask": "raw"}, _dcn,
    ),
    Fault(
        "dcn-mask-twice", "network", "the DCN mask goes through two sigmoids",
        "a sigmoid in the graph and one in the plug-in",
        lambda p: {"mask": "twice"}, _dcn,
    ),
    Fault(
        "dcn-mask-ones", "network", "the DCN mask is ignored: DCNv1",
        "TVM topi.deformable_conv2d_nchw knows no mask; TensorRT's importer fills in ones where none is found",
        lambda p: {"mask": "ones"}, _dcn,
    ),
    Fault(
        "dcn-int-for-floor", "network", "the corner of a DCN sample is int(x) where floor(x) is right below 0",
        "the formula in the documentation of DeformableOffsets (CANN)",
        lambda p: {"truncated": True}, _dcn,
    ),
    Fault(
        "dcn-border-clamped", "network", "DCN samples outside the map are those of its border, not zero",
        "grid_sample with padding_mode border; clamped coordinates as the workaround for IREE's GridSample",
        lambda p: {"border": "clamped"}, _dcn,
    ),
    Fault(
        "dcn-border-dropped", "network", "DCN samples that are partly outside the map are dropped as a whole",
        "OpenVINO DeformableConvolution-8 with bilinear_interpolation_pad = false",
        lambda p: {"border": "dropped"}, _dcn,
    ),
    Fault(
        "dcn-dilation-dropped", "network", "the DCN's dilation is taken for 1",
        "tpu_mlir's TorchScript front end with a dilation other than 1",
        lambda p: {"dilation_dropped": True}, lambda s: s.dcn and s.dilation > 1,
    ),
    Fault(
        "dcn-groups-ignored", "network", "all channels take the offsets of the DCN's first offset group",
        "pnnx and ncnn: offset_groups = 2 converts, runs and is wrong",
        lambda p: {"first_group": True}, lambda s: s.dcn and s.groups > 1,
    ),
    Fault(
        "dcn-half-coordinates", "network", "DCN coordinates are computed in float16",
        "GridSample in F16: a normalised grid has steps of 0.03 pixels at 128 columns (tpu_mlir)",
        lambda p: {"half_coordinates": True}, lambda s: s.dcn and s.precision == "fp32",
    ),
    Fault(
        "dcn-nearest", "network", "DCN samples are picked, not interpolated",
        "GridSample whose mode string is lost between opsets (bilinear, from 20 on linear)",
        lambda p: {"nearest": True}, _dcn,
    ),
    Fault(
        "dcn-half-pixel", "network", "the DCN's grid is normalised with align_corners and sampled without",
        "GridSample forms of DCNv2: 2 p / (S - 1) - 1 needs align_corners = 1 (tpu_mlir, MNN, TVM)",
        lambda p: {"half_pixel": True}, _dcn,
    ),
    Fault(
        "dcn-kernel-columns", "network", "the DCN's kernel points are counted down the columns",
        "torch_npu deform_conv passes kernel_size as (kw, kh)",
        lambda p: {"columns_first": True}, _dcn,
    ),
    Fault(
        "batch-norm-of-the-batch", "network", "batch norm takes the statistics of the batch",
        "a network exported in training mode",
        lambda p: {"batch_statistics": True}, lambda s: s.batch_norm,
    ),
    Fault(
        "batch-norm-epsilon", "network", "batch norm adds another epsilon",
        "Keras has 1e-3 by default where PyTorch has 1e-5",
        lambda p: {"epsilon": p[0]}, lambda s: s.batch_norm,
        lambda r: (float(r.choice([1e-3, 2e-3, 1e-2])),), ((1e-3,), (2e-3,), (1e-2,)),
    ),
)  # fmt: skip
