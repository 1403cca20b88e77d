"""What an image shows: size, distractors, crowd and objects, drawn by lot."""

from __future__ import annotations

from harness.data.synthetic.layout import Layout, Object, Thing
from harness.data.synthetic.portable_random import Words
from harness.data.synthetic.shapes import box_sides, coverage, crowd_coverage
from harness.data.synthetic.spec import Shape, Spec
from harness.types import UInt8

SCENE_STREAM = 0


def lay_out(spec: Spec, split: str, index: int) -> Layout:
    """The layout of one image, a function of the specification, the split and the index alone.

    Raises:
        HarnessError: There is no such split.
        IndexError: The split has no image `index`.
    """
    part = spec.part(split)
    if not 0 <= index < part.images:
        raise IndexError(f"split '{split}' has images 0..{part.images - 1}, not {index}")
    words = Words(spec.seed, part.number, index, SCENE_STREAM)
    width, height, _ = spec.sizes[words.weighted(tuple(weight for _, _, weight in spec.sizes))]
    layout = Layout(width, height)
    for _ in range(words.between(*spec.ground.distractors)):
        layout.distractors.append(_distractor(words, spec, layout))
    if words.chance(spec.crowd.percent):
        _try(words, spec, layout, crowd=True)
    low, high = spec.objects.count
    half = (high - low + 1) // 2
    for _ in range(low + words.between(0, half) + words.between(0, high - low - half)):
        _try(words, spec, layout, crowd=False)
    return layout


def _try(words: Words, spec: Spec, layout: Layout, *, crowd: bool) -> None:
    for _ in range(spec.objects.attempts):
        if layout.add(_object(words, spec, layout, crowd=crowd), spec.objects.visible_percent):
            return


def _object(words: Words, spec: Spec, layout: Layout, *, crowd: bool) -> Object:
    drawn = spec.classes[words.below(len(spec.classes))]
    shape = spec.shape[drawn.shape]
    cover = crowd_coverage(words, shape, spec.crowd) if crowd else _single(words, spec, shape)
    over_border = not crowd and words.chance(spec.objects.border_percent)
    left, top = _corner(words, layout, cover, over_border=over_border)
    shade = words.between(*spec.objects.shade_percent)
    blue, green, red = (value * shade // 100 for value in spec.colour[drawn.colour])
    return Object(left, top, cover, (blue, green, red), drawn, crowd)


def _distractor(words: Words, spec: Spec, layout: Layout) -> Thing:
    shapes = tuple(spec.shape.values())
    cover = _single(words, spec, shapes[words.below(len(shapes))])
    left, top = _corner(words, layout, cover, over_border=True)
    grey = words.between(40, 215)
    return Thing(left, top, cover, (grey, grey, grey))


def _single(words: Words, spec: Spec, shape: Shape) -> UInt8:
    objects = spec.objects
    small, large = objects.small_percent, objects.large_percent
    sides = (objects.small_side, objects.medium_side, objects.large_side)
    side = words.between(*sides[words.weighted((small, 100 - small - large, large))])
    return coverage(shape.outline, *box_sides(words, shape, side, objects.least_side))


def _corner(words: Words, layout: Layout, cover: UInt8, *, over_border: bool) -> tuple[int, int]:
    height, width = cover.shape
    # What hangs over is at most half of a side, so that something of every thing is in the image.
    slack_x, slack_y = (width // 2, height // 2) if over_border else (0, 0)
    return (
        _offset(words, layout.width - width, slack_x),
        _offset(words, layout.height - height, slack_y),
    )


def _offset(words: Words, room: int, slack: int) -> int:
    # Room is negative for a thing longer than the image, which then hangs over at one end or both.
    return words.between(min(-slack, room), max(room + slack, 0))
