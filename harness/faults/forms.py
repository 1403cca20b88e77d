"""How a port computes, link by link. Each form is right as it is made, and a fault is another value of one field.

Forms are frozen and hashable, so that what two mistaken ports have in common need be computed only once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PrepForm:
    """From image to network input.

    Attributes:
        swapped: Channels are fed in the other order.
        mean: Instead of the card's, in the card's channel order.
        std: Instead of the card's.
        reversed_statistics: Mean and std stand in the other channel order.
        factor: On the card's scale: 255 where the division was left out, 1/255 where one is too many.
        normalised: How often mean and std are applied.
        geometry: Instead of the card's.
        integer_centre: The affine's centre is ``w // 2`` instead of ``w / 2``.
        pad_normalised: Pixels beside the image are 0 after normalisation.
        pad_value: Grey level beside the image, instead of the card's.
        shift: The image lies so many pixels of the network input further right and down.
        nearest: Pixels are picked, not interpolated.
        corner: The image lies in the upper left corner, not in the middle.
        cropped: The shorter side fills the input and the longer is cut.
        interleaved: The buffer holds (y, x, channel) where the network reads (channel, y, x), or the other way round.
        integers: Normalised values are truncated to integers.
    """

    swapped: bool = False
    mean: Triple | None = None
    std: Triple | None = None
    reversed_statistics: bool = False
    factor: float = 1.0
    normalised: int = 1
    geometry: Literal["affine", "letterbox", "stretch"] | None = None
    integer_centre: bool = False
    pad_normalised: bool = False
    pad_value: int | None = None
    shift: float = 0.0
    nearest: bool = False
    corner: bool = False
    cropped: bool = False
    interleaved: bool = False
    integers: bool = False


@dataclass(frozen=True, slots=True)
class NetForm:
    """The network.

    Attributes:
        offsets: How the channels of the offsets are read: interleaved (dy, dx), (dx, dy), a block of all dy before
            one of all dx, the blocks the other way round, or not at all.
        mask: The mask's activation: sigmoid, none, sigmoid of the sigmoid, or 1 everywhere.
        truncated: The corner of a sample is ``int(x)`` instead of ``floor(x)``.
        border: What lies outside: zero, the nearest pixel, or nothing of a sample that is partly outside.
        dilation_dropped: Dilation is taken for 1.
        first_group: The offsets of the first group serve for all.
        half_coordinates: Coordinates are float16.
        nearest: Samples are picked, not interpolated.
        half_pixel: Coordinates are normalised for one convention of corners and sampled by the other.
        columns_first: The kernel's points are counted down the columns.
        batch_statistics: Batch norm takes the statistics of the batch.
        epsilon: Of batch norm, instead of 1e-5.
    """

    offsets: Literal["yx", "xy", "blocks", "blocks xy", "none"] = "yx"
    mask: Literal["sigmoid", "raw", "twice", "ones"] = "sigmoid"
    truncated: bool = False
    border: Literal["zero", "clamped", "dropped"] = "zero"
    dilation_dropped: bool = False
    first_group: bool = False
    half_coordinates: bool = False
    nearest: bool = False
    half_pixel: bool = False
    columns_first: bool = False
    batch_statistics: bool = False
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class HeadsForm:
    """What becomes of the network's outputs before anybody reads them.

    Attributes:
        sigmoid: Applied to hm once more (1), or left out where the card says probability (-1).
        swapped: wh is read as reg and reg as wh.
        wh_xy: Width and height are exchanged (of ``ltrb``: left and top, right and bottom).
        reg_xy: The offsets x and y are exchanged.
        wh_factor: Unit of wh over the card's.
        reversed: The outputs come in the other order.
        interleaved: The buffers hold (y, x, channel) where (channel, y, x) is read.
        transposed: Rows are read as columns.
    """

    sigmoid: int = 0
    swapped: bool = False
    wh_xy: bool = False
    reg_xy: bool = False
    wh_factor: float = 1.0
    reversed: bool = False
    interleaved: bool = False
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class NumberForm:
    """What the numbers of the outputs go through.

    Attributes:
        half: Values are float16.
        nan: One value is not a number.
        overflow: Values beyond this share of a head's largest are infinite.
        as_integers: Integers are read as the bits of floats: denormal numbers.
        shared_scale: All heads are int8 with one scale.
        saturated: wh saturates at this share of its largest.
        outlier: Every head is int8 with a range this many times too wide, as one outlier makes it.
        hard_sigmoid: hm's sigmoid is a piecewise linear one.
    """

    half: bool = False
    nan: bool = False
    overflow: float | None = None
    as_integers: bool = False
    shared_scale: bool = False
    saturated: float | None = None
    outlier: float | None = None
    hard_sigmoid: bool = False


@dataclass(frozen=True, slots=True)
class SlotForm:
    """Which sample's outputs come back in each slot.

    Attributes:
        order: Its own; reversed within the batch; the last slot that of the batch before; always the first; or
            everything from the run before.
    """

    order: Literal["own", "reversed", "last stale", "first", "run before"] = "own"


@dataclass(frozen=True, slots=True)
class DecodeForm:
    """From heads to detections.

    Attributes:
        window: Side of the peak test's window; 1 for no test.
        strict: A peak tops its neighbours, equal ones too.
        half: Peaks are found on float16 scores.
        one_class: Only the best class of a place counts.
        top_k: Instead of the card's.
        threshold: Instead of the card's.
        class_shift: Added to the class.
        reg: Added to the centre: the head, nothing, or one half.
        logits: Scores are logits.
        iou_nms: Boxes that overlap a better one of their class by more than this IoU are dropped.
    """

    window: int = 3
    strict: bool = False
    half: bool = False
    one_class: bool = False
    top_k: int | None = None
    threshold: float | None = None
    class_shift: int = 0
    reg: Literal["head", "none", "half"] = "head"
    logits: bool = False
    iou_nms: float | None = None


@dataclass(frozen=True, slots=True)
class WriteForm:
    """From detections on the grid to COCO results.

    Attributes:
        inverse: Of the placement: whole, left out, without its offset, each axis by its own sides' ratio.
        strided: Cells become pixels of the network input.
        truncated: Coordinates are integers.
        box: Corners where a corner and sides are wanted, or centre and sides.
        edited: How often corners are turned into a corner and sides.
        clipped: To the image, or to the size of the network input.
        shift: Added to every coordinate, in image pixels: (x, y).
        rounded: Coordinates and scores have two decimals.
        contiguous: Categories are counted 1, 2, 3 ... without COCO's gaps.
        dropped: Every n-th image is silently left out; 0 for none.
        padding: The slots beyond the last image of the last batch of 4 are written, too, as that image.
    """

    inverse: Literal["whole", "none", "scale", "axes"] = "whole"
    strided: bool = True
    truncated: bool = False
    box: Literal["xywh", "xyxy", "centre"] = "xywh"
    edited: int = 1
    clipped: Literal["no", "image", "input"] = "no"
    shift: tuple[float, float] = (0.0, 0.0)
    rounded: bool = False
    contiguous: bool = False
    dropped: int = 0
    padding: bool = False


@dataclass(frozen=True, slots=True)
class ScoreForm:
    """How the port's own evaluation counts.

    Attributes:
        crowd: Crowds are ordinary objects.
        box_area: Small, medium and large go by the box, not by the outline.
        found_only: Images without detections are left out.
        max_detections: For each image and category, instead of 100.
        loose: The AP at IoU 0.5 is given as AP.
        absent: Categories without objects count, with AP 0.
    """

    crowd: bool = False
    box_area: bool = False
    found_only: bool = False
    max_detections: int = 100
    loose: bool = False
    absent: bool = False


@dataclass(frozen=True, slots=True)
class SpeedForm:
    """How the port's own benchmark counts.

    Attributes:
        padding: Padded slots are images.
        enqueued: The clock stops when the work is given to the device.
        chips: Multiplied by the number of chips.
        mean_of_rates: Rates of the batches are averaged.
        warm_up: Is inside the interval.
        latency_of_batch: The latency of a batch is taken for that of an image.
        batch_size: In the formula, instead of the one that was run.
    """

    padding: bool = False
    enqueued: bool = False
    chips: bool = False
    mean_of_rates: bool = False
    warm_up: bool = False
    latency_of_batch: bool = False
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class Forms:
    """All that a port does between an image and its AP."""

    prep: PrepForm = field(default_factory=PrepForm)
    net: NetForm = field(default_factory=NetForm)
    heads: HeadsForm = field(default_factory=HeadsForm)
    number: NumberForm = field(default_factory=NumberForm)
    slots: SlotForm = field(default_factory=SlotForm)
    decode: DecodeForm = field(default_factory=DecodeForm)
    write: WriteForm = field(default_factory=WriteForm)
    score: ScoreForm = field(default_factory=ScoreForm)
    speed: SpeedForm = field(default_factory=SpeedForm)
