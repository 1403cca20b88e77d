"""Charts of a report, from plain numbers: SVG that stands within the page and takes its colours from the style sheet.

No text from elsewhere is drawn: names stand beside a chart, where the template escapes them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from harness.report.records import Curve, Latency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (5.2, 2.9)
WIDE = (8.4, 2.6)
COLOURS = {
    "#010101": "var(--text)",
    "#010102": "var(--line)",
    "#010103": "var(--reference)",
    "#010104": "var(--device)",
    "#010105": "var(--soft)",
}
"""Colours that are drawn, and what of the style sheet stands for each in the page."""
TEXT, LINE, REFERENCE, DEVICE, SOFT = COLOURS
STYLE: dict[str, Any] = {
    "svg.hashsalt": "conformance",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 3,
}
BESIDE = re.compile(
    r'<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|\n *(?=<)|(?<=<svg)[^>]*?(?= viewBox)| xmlns="[^"]*"',
    re.DOTALL,
)
"""Parts of an SVG that an element of a page is better without: the size, rules that would hold for all of the page."""
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")
SMALLEST_SPREAD = 0.002
"""Height of the axis of a trend of AP at least: a smaller spread is not made to look large."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a trend.

    Attributes:
        label: In this project's own words.
        places: Documents, from 1.
        values: One a place.
    """

    label: str
    places: tuple[int, ...]
    values: tuple[float, ...]


def precision_recall(device: Curve, reference: Curve) -> Markup:
    """Draw precision against recall of device and reference, at IoU 0.50 and as the mean over the thresholds."""
    recalls = np.linspace(0, 1, len(reference.mean))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for label, of, dashes in (("IoU 0.50", "at_50", "-"), ("mean of 0.50 to 0.95", "mean", "--")):
            axes.plot(recalls, getattr(reference, of), dashes, color=REFERENCE, lw=3.5, label=f"reference, {label}")
            axes.plot(recalls, getattr(device, of), dashes, color=DEVICE, lw=1.6, label=f"device, {label}")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
        axes.legend()

    return _drawn(draw, INCHES)


def latency(course_ms: Sequence[float], percentiles: Latency) -> Markup:
    """Draw the times of batches as a histogram, and in the order of the run.

    Args:
        course_ms: Milliseconds, at least one.
        percentiles: Of all batches, drawn as lines.
    """

    def draw(figure: Figure) -> None:
        histogram, course = figure.subplots(1, 2)
        histogram.hist(course_ms, bins=min(30, max(5, len(course_ms) // 4)), color=DEVICE)
        histogram.set(xlabel="ms a batch", ylabel="batches")
        course.plot(range(1, len(course_ms) + 1), course_ms, color=DEVICE, lw=0.9)
        course.set(xlabel="batch, in the order of the run", ylabel="ms a batch", ylim=(0, 1.1 * max(course_ms) or 1))
        for name, dashes in (("p50", "-"), ("p99", ":")):
            value = getattr(percentiles, name)
            histogram.axvline(value, color=TEXT, ls=dashes, lw=1.3, label=name)
            course.axhline(value, color=TEXT, ls=dashes, lw=1.3, label=name)
        histogram.legend()

    return _drawn(draw, WIDE)


def trend(of_ap: Sequence[Line], reference: Line | None, of_fps: Sequence[Line]) -> Markup:
    """Draw figures over several documents, in the order in which they were given.

    Args:
        of_ap: AP, a line a batch size.
        reference: AP of the reference.
        of_fps: Images a second.
    """
    panels = [(label, lines) for label, lines in (("AP", of_ap), ("images/s", of_fps)) if lines]

    def draw(figure: Figure) -> None:
        for axes, (label, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            if label == "AP" and reference is not None:
                axes.plot(reference.places, reference.values, color=REFERENCE, lw=3.5, label=reference.label)
            for number, line in enumerate(lines):
                dashes, marker = DASHES[number % len(DASHES)], MARKERS[number % len(MARKERS)]
                axes.plot(line.places, line.values, dashes, marker=marker, color=DEVICE, lw=1.6, ms=4, label=line.label)
            axes.set(xlabel="document", ylabel=label, xticks=_ticks(lines))
            _set_height(axes, label)
            axes.legend()

    return _drawn(draw, WIDE)


def _set_height(axes: Axes, label: str) -> None:
    """Begin a speed at 0, and do not make a small spread of an AP look large."""
    low, high = axes.get_ylim()
    if label != "AP":
        axes.set_ylim(0, 1.08 * high)
    elif high - low < SMALLEST_SPREAD:
        middle = (low + high) / 2
        axes.set_ylim(middle - SMALLEST_SPREAD / 2, middle + SMALLEST_SPREAD / 2)
    axes.ticklabel_format(axis="y", useOffset=False)


def _ticks(lines: Sequence[Line]) -> list[int]:
    """Return places of documents for about a dozen ticks."""
    places = sorted({place for line in lines for place in line.places})
    return places[:: -(-len(places) // 12)]


def _drawn(draw: Callable[[Figure], None], inches: tuple[float, float]) -> Markup:
    """Return a figure as an element of the page: no header, no metadata, no ids but those it refers to itself.

    Args:
        draw: Fills the figure.
        inches: Width and height.
    """
    import matplotlib as mpl  # here: a run without a report does without it
    from matplotlib.figure import Figure

    text = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        for name, value in STYLE.items():
            mpl.rcParams[name] = value  # type: ignore[index]
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = BESIDE.sub("", svg[svg.index("<svg") :])
    used = set(re.findall(r"#(\w+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    for drawn, shown in COLOURS.items():
        svg = svg.replace(drawn, shown)
    return Markup(svg)  # made of numbers and of words of this module
