"""Sections of the page that set figures side by side: by class and size, published, by batch size, over documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from harness.report.charts import Line, trend
from harness.report.pictures import Pictures
from harness.report.reasons import device_name
from harness.report.records import Accuracy, Breakdown, ClassAP, Document, Perf, Published, Run

FIRST_CLASSES = 8
"""Classes that are shown at once; the others are folded up."""
MOST_TRENDS = 8


@dataclass(frozen=True, slots=True)
class Named:
    """A results document, what it is called, and what is drawn of it.

    Attributes:
        name: Such as the stem of its file.
        document: The document.
        pictures: Of its runs; none where the images are not at hand.
    """

    name: str
    document: Document
    pictures: Pictures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parts:
    """The breakdown of the lowest AP of a run.

    Attributes:
        accuracy: The AP.
        breakdown: Its parts.
        sizes: Size of objects, AP, and AP of the reference.
        first: Classes that lost most, if any lost.
        others: The other classes.
    """

    accuracy: Accuracy
    breakdown: Breakdown
    sizes: tuple[tuple[str, float | None, float | None], ...]
    first: tuple[ClassAP, ...]
    others: tuple[ClassAP, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A run at one batch size; None where it was not measured."""

    accuracy: Accuracy | None
    perf: Perf | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Runs of several documents against their batch sizes.

    Attributes:
        sizes: Batch sizes, in order.
        rows: Number of the document from 1, the document, the run, and its cell at each size.
    """

    sizes: tuple[int | None, ...]
    rows: tuple[tuple[int, Named, Run, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """Figures of one device, precision and model over the documents that have them.

    Attributes:
        title: Names all three.
        told: The first and the last figures, in words.
        chart: Drawn.
    """

    title: str
    told: str
    chart: Markup


def parts(run: Run) -> Parts | None:
    """Return the breakdown of the lowest AP of a run; None where its document has none."""
    for accuracy in sorted(run.accuracy, key=lambda one: one.AP):
        if accuracy.breakdown is not None and accuracy.breakdown.classes:
            found = accuracy.breakdown
            values = zip((accuracy.APs, accuracy.APm, accuracy.APl), found.reference_sizes, strict=True)
            named = zip(("small, below 32 x 32 pixels", "medium", "large, above 96 x 96 pixels"), values, strict=True)
            sizes = tuple((name, None if own is None else round(own, 4), golden) for name, (own, golden) in named)
            lost = sum(one.reference_AP > one.AP for one in found.classes[:FIRST_CLASSES])
            return Parts(accuracy, found, sizes, found.classes[:lost], found.classes[lost:])
    return None


def own_figure(run: Run, published: Published) -> str:
    """Return the figure of a run that stands beside a published one, and in what it is another; a dash without any."""
    if published.precision not in (None, run.precision):
        return "-"
    at = [one for one in run.accuracy if published.batch_size in (None, one.batch_size)]
    if published.figure == "AP":
        if not at:
            return "-"
        lowest = min(at, key=lambda one: one.AP)
        other = "" if lowest.images == published.images else ", which are others"
        return f"{lowest.AP:.4f} on {lowest.images} images{other}"
    fastest = max((one for one in run.perf if one.batch_size == published.batch_size), key=_fps, default=None)
    return "-" if fastest is None else f"{fastest.fps:.2f} ({fastest.interval})"


def _fps(perf: Perf) -> float:
    return perf.fps


def matrix(documents: Sequence[Named]) -> Matrix:
    """Sort the runs of documents into rows, and their figures into columns by batch size."""
    runs = [(number, one, run) for number, one in enumerate(documents, start=1) for run in one.document.runs]
    every = {one.batch_size for _, _, run in runs for one in run.accuracy}
    every |= {one.batch_size for _, _, run in runs for one in run.perf}
    sizes = tuple(sorted(every, key=lambda size: size or 0))
    return Matrix(sizes, tuple((*row, tuple(_cell(row[2], size) for size in sizes)) for row in runs))


def _cell(run: Run, size: int | None) -> Cell:
    perf = max((one for one in run.perf if one.batch_size == size), key=_fps, default=None)
    return Cell(next((one for one in run.accuracy if one.batch_size == size), None), perf)


def trends(documents: Sequence[Named]) -> list[Trend]:
    """Draw the figures of each model, images, device and precision that several documents have, in their order."""
    series: dict[tuple[str | None, ...], list[tuple[int, Document, Run]]] = {}
    for number, one in enumerate(documents, start=1):
        data = None if one.document.data is None else one.document.data.sha256
        for run in one.document.runs:
            key = (one.document.model, data, run.device, run.execution, run.precision)
            series.setdefault(key, []).append((number, one.document, run))
    several = [found for found in series.values() if len(found) > 1]
    return [one for one in map(_trend, several[:MOST_TRENDS]) if one is not None]


def _trend(found: Sequence[tuple[int, Document, Run]]) -> Trend | None:
    of_ap = list(_lines([(number, one.batch_size, one.AP) for number, _, run in found for one in run.accuracy]))
    perfs = [(number, one) for number, _, run in found for one in run.perf]
    kinds = sorted({one.interval for _, one in perfs})
    # Speeds of other intervals are other figures; of several kinds the first that most documents have is drawn.
    kind = max(kinds, key=lambda kind: len({number for number, one in perfs if one.interval == kind}), default="")
    of_fps = list(_lines([(number, one.batch_size, one.fps) for number, one in perfs if one.interval == kind]))
    if not of_ap and not of_fps:
        return None
    golden = {number: run.accuracy[0].reference_AP for number, _, run in found if run.accuracy}
    reference = Line("reference", tuple(golden), tuple(golden.values())) if len(golden) > 1 else None
    (_, document, run), told = found[0], []
    for name, digits, lines in (("AP", 4, of_ap), ("images/s", 2, of_fps)):
        for line in lines:
            first, last = (f"{value:.{digits}f}" for value in (line.values[0], line.values[-1]))
            told.append(f"{name} with {line.label} from {first} to {last}")
    told += [f"images/s are {kind}"] if of_fps else []
    title = f"{device_name(run)}, {run.precision}, {document.model}"
    return Trend(title, "; ".join(told), trend(of_ap, reference, of_fps))


def _lines(points: Sequence[tuple[int, int | None, float]]) -> Iterator[Line]:
    """Yield a line for each batch size that several documents have."""
    for size in sorted({size for _, size, _ in points}, key=lambda size: size or 0):
        chosen = {number: value for number, other, value in points if other == size}
        if len(chosen) > 1:
            label = "any batch" if size is None else f"batch {size}"
            yield Line(label, tuple(chosen), tuple(chosen.values()))
