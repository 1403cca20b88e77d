"""Random choice of the contents of an image: size, distractors, crowd and objects."""

from __future__ import annotations

from harness.data.synthetic.layout import Object, SceneLayout, Thing
from harness.data.synthetic.portable_random import PortableRandom
from harness.data.synthetic.shapes import box_sides, coverage, crowd_coverage
from harness.data.synthetic.spec import Shape, Spec
from harness.types import UInt8

SCENE_STREAM = 0


def lay_out(spec: Spec, split: str, index: int) -> SceneLayout:
    """Choose the layout of one image, a function of the specification, the split and the index alone.

    Raises:
        HarnessError: There is no such split.
        IndexError: The split has no image `index`.
    """
    part = spec.part(split)
    if not 0 <= index < part.images:
        raise IndexError(f"split '{split}' has images 0..{part.images - 1}, not {index}")
    random = PortableRandom(spec.seed, part.number, index, SCENE_STREAM)
    width, height, _ = spec.sizes[random.weighted(tuple(weight for _, _, weight in spec.sizes))]
    layout = SceneLayout(width, height)
    for _ in range(random.between(*spec.ground.distractors)):
        layout.distractors.append(_distractor(random, spec, layout))
    if random.chance(spec.crowd.percent):
        _try(random, spec, layout, crowd=True)
    low, high = spec.objects.count
    half = (high - low + 1) // 2
    for _ in range(low + random.between(0, half) + random.between(0, high - low - half)):
        _try(random, spec, layout, crowd=False)
    return layout


def _try(random: PortableRandom, spec: Spec, layout: SceneLayout, *, crowd: bool) -> None:
    for _ in range(spec.objects.attempts):
        if layout.add(_object(random, spec, layout, crowd=crowd), spec.objects.visible_percent):
            return


def _object(random: PortableRandom, spec: Spec, layout: SceneLayout, *, crowd: bool) -> Object:
    drawn = spec.classes[random.below(len(spec.classes))]
    shape = spec.shape[drawn.shape]
    cover = crowd_coverage(random, shape, spec.crowd) if crowd else _single(random, spec, shape)
    over_border = not crowd and random.chance(spec.objects.border_percent)
    left, top = _corner(random, layout, cover, over_border=over_border)
    shade = random.between(*spec.objects.shade_percent)
    blue, green, red = (value * shade // 100 for value in spec.colour[drawn.colour])
    return Object(left, top, cover, (blue, green, red), drawn, crowd)


def _distractor(random: PortableRandom, spec: Spec, layout: SceneLayout) -> Thing:
    shapes = tuple(spec.shape.values())
    cover = _single(random, spec, shapes[random.below(len(shapes))])
    left, top = _corner(random, layout, cover, over_border=True)
    grey = random.between(40, 215)
    return Thing(left, top, cover, (grey, grey, grey))


def _single(random: PortableRandom, spec: Spec, shape: Shape) -> UInt8:
    objects = spec.objects
    small, large = objects.small_percent, objects.large_percent
    sides = (objects.small_side, objects.medium_side, objects.large_side)
    side = random.between(*sides[random.weighted((small, 100 - small - large, large))])
    return coverage(shape.outline, *box_sides(random, shape, side, objects.least_side))


def _corner(random: PortableRandom, layout: SceneLayout, cover: UInt8, *, over_border: bool) -> tuple[int, int]:
    height, width = cover.shape
    # At most half of a side hangs over, so that a part of every thing is in the image.
    slack_x, slack_y = (width // 2, height // 2) if over_border else (0, 0)
    return (
        _offset(random, layout.width - width, slack_x),
        _offset(random, layout.height - height, slack_y),
    )


def _offset(random: PortableRandom, room: int, slack: int) -> int:
    # Room is negative for a thing longer than the image, which then hangs over at one end or both.
    return random.between(min(-slack, room), max(room + slack, 0))
