"""The model card: the contract of one CenterNet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from harness.cards.schema import FiniteRecord, Name, card_names

COCO_CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""The 80 category ids of COCO, in the order of CenterNet's heatmap channels."""

CARDS = Path(__file__).parent / "models"

LARGEST_SIDE = 16384
"""Pixels of a side of the network input; the largest CenterNet in use has 2,048."""
LARGEST_BATCH = 4096
LARGEST_PIXEL = 1e6
"""Largest size of a normalised pixel, and 1 / the least difference of black and white that the network may see."""
LARGEST_ID = 2**53
"""Ids beyond are not whole numbers in JSON as most languages read it."""


class Network(FiniteRecord):
    """The PyTorch network; absent on cards of models that exist only as ONNX."""

    arch: str
    width: float = Field(default=1.0, ge=1 / 16, le=16)
    """At the least width, the narrowest layer has one channel."""
    head_conv: int | None = Field(default=None, ge=0, le=4096)
    weights: str | None = None
    """Default weights, relative to `fixtures/`; only on cards of models that ship with this project."""


class Input(FiniteRecord):
    """The network input and the preprocessing of an image into it."""

    name: str = "input"
    height: int = Field(gt=0, le=LARGEST_SIDE, multiple_of=32)
    width: int = Field(gt=0, le=LARGEST_SIDE, multiple_of=32)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["float32", "uint8"] = "float32"
    channel_order: Literal["BGR", "RGB"]
    scale: float = Field(gt=0)
    """Factor on the 0..255 pixel before mean and std, 1/255 in the official code."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    geometry: Literal["affine", "letterbox", "stretch"]
    keep_res: bool = False
    """True if the image keeps its resolution: sides grow to ``(side | 31) + 1``; `height`, `width` do not apply."""
    pad_value: int = Field(default=0, ge=0, le=255)
    """Grey level beside the image, before normalisation."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be positive")
        for mean, std in zip(self.mean, self.std, strict=True):
            black, white = -mean / std, (255 * self.scale - mean) / std
            # NaN, of an overflow, is not within the limits either.
            if not (max(abs(black), abs(white)) <= LARGEST_PIXEL and white - black >= 1 / LARGEST_PIXEL):
                raise ValueError(
                    f"scale, mean and std make {black:g} of black and {white:g} of white: no network learns from that"
                )
        if self.keep_res and self.geometry != "affine":
            raise ValueError("keep_res goes with geometry 'affine' only")
        if self.dtype == "uint8" and (self.scale != 1 or any(self.mean) or any(s != 1 for s in self.std)):
            raise ValueError("a uint8 input takes the pixels as they are: scale 1, mean 0, std 1")
        return self


class OutputHeads(FiniteRecord):
    """The output tensors and their meaning."""

    names: tuple[str, ...] = Field(min_length=1)
    """Tensor names in the order `heads`; one name where the heads are concatenated along the channels."""
    heads: tuple[Literal["hm", "wh", "reg"], ...] = ("hm", "wh", "reg")
    concatenated: bool = False
    hm: Literal["logits", "probability"]
    """`probability`: the sigmoid is part of the network."""
    box: Literal["wh+reg", "ltrb"] = "wh+reg"
    box_unit: Literal["grid", "input"] = "grid"
    """Unit of wh (or of left, top, right, bottom): cells of the output grid, or pixels of the network input."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.heads)) != len(self.heads) or not {"hm", "wh"} <= set(self.heads):
            raise ValueError("heads must hold hm and wh, each once")
        expected = 1 if self.concatenated else len(self.heads)
        if len(self.names) != expected:
            raise ValueError(f"expected {expected} output name(s) for heads {', '.join(self.heads)}")
        return self

    def channels(self, head: str, classes: int) -> int:
        """Return the number of channels of one head."""
        return {"hm": classes, "wh": 4 if self.box == "ltrb" else 2, "reg": 2}[head]


class Decode(FiniteRecord):
    """Parameters of decoding heads to detections."""

    stride: int = Field(default=4, gt=0, le=128)
    top_k: int = Field(default=100, gt=0, le=10_000)
    score_threshold: float = Field(default=0.0, ge=0, lt=1)


class Int8(FiniteRecord):
    """Settings of post-training quantisation for this model."""

    ranges: Literal["kl", "mse", "max"] = "kl"
    """Method by which Sophon's calibration chooses the range of a tensor.

    kl takes the least divergence, tuned, and is the tool's default. mse takes the least squared error. max takes the
    largest value. On the embedded model the heads are off by 0.043 (hm), 0.105 (wh) and 0.060 (reg) of their size with
    kl, by 0.042, 0.106, 0.057 with mse, and by 0.041, 0.098, 0.063 with max, which takes a third of the time. Where
    single values are far out, as in MobileNetV3, max is the worst by far.
    """
    keep_float: tuple[str, ...] = ()
    """Tensors of the ONNX whose operators stay in float, by the names in the report of an int8 run.

    The suite always keeps deformable convolutions and heads in float.
    """


class Published(FiniteRecord):
    """A published AP with its source."""

    ap: float = Field(gt=0, lt=1)
    images: int = Field(gt=0)
    resolution: Literal["fix_res", "keep_res"]
    source: str
    floor: bool = False
    """Marks the figure that a run on exactly these images must reach."""


class ModelCard(FiniteRecord):
    """The contract of one CenterNet: its input, its outputs and their meaning."""

    name: Name
    family: Literal["centernet"] = "centernet"
    """The package of `harness/` that implements this kind of model."""
    description: str
    source: str
    network: Network | None = None
    category_ids: tuple[int, ...] = COCO_CATEGORY_IDS
    """Data-set category of each heatmap channel."""
    input: Input
    output: OutputHeads
    decode: Decode = Decode()
    int8: Int8 = Int8()
    batch_sizes: tuple[int, ...] = (1,)
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.category_ids or len(set(self.category_ids)) != len(self.category_ids):
            raise ValueError("category_ids must be distinct and not empty")
        if not all(0 <= category <= LARGEST_ID for category in self.category_ids):
            raise ValueError(f"category_ids must lie in 0..{LARGEST_ID}")
        if not self.batch_sizes or not all(1 <= size <= LARGEST_BATCH for size in self.batch_sizes):
            raise ValueError(f"batch_sizes must be positive, and at most {LARGEST_BATCH}")
        if self.input.height % self.decode.stride or self.input.width % self.decode.stride:
            raise ValueError("input height and width must be multiples of decode.stride")
        if sum(published.floor for published in self.published) > 1:
            raise ValueError("only one published figure can be the floor")
        geometry = "keep_res" if self.input.keep_res else "fix_res"
        if any(published.floor and published.resolution != geometry for published in self.published):
            raise ValueError(f"the floor of a {geometry} card cannot be a figure of the other resolution")
        if self.input.keep_res and self.batch_sizes != (1,):
            raise ValueError("keep_res images differ in shape: batch_sizes must be [1]")
        return self

    @property
    def classes(self) -> int:
        """Number of heatmap channels."""
        return len(self.category_ids)

    @property
    def head_channels(self) -> dict[str, int]:
        """Channels of every head, in the order of the outputs."""
        return {head: self.output.channels(head, self.classes) for head in self.output.heads}

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the output grid at the fixed input size."""
        return self.input.height // self.decode.stride, self.input.width // self.decode.stride


def model_card_names() -> list[str]:
    """List the names of the cards that ship with the suite."""
    return card_names(CARDS)
