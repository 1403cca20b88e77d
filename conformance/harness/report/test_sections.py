"""Figures that stand side by side are of the same thing, or it is said that they are not."""

import pytest

from conformance.support.example_records import accuracy, document, run
from harness.report.records import Breakdown, ClassAP, Curve, Document, Latency, Perf, Published, Run
from harness.report.sections import FIRST_CLASSES, Named, matrix, own_figure, parts, trends

CURVE = Curve(at_50=(0.5,), mean=(0.4,))


def perf(fps: float, size: int = 1, interval: str = "device") -> Perf:
    return Perf(batch_size=size, fps=fps, latency_ms=Latency(p50=1, p90=1, p99=1), interval=interval)


def with_perf(one: Run, *perfs: Perf) -> Run:
    return one.model_copy(update={"perf": perfs})


def broken_down(*losses: float) -> Breakdown:
    classes = [ClassAP(name=str(loss), objects=1, AP=0.5 - loss, reference_AP=0.5) for loss in losses]
    return Breakdown(classes=tuple(classes), reference_sizes=(None, 0.3, 0.4), curve=CURVE, reference_curve=CURVE)


def test_breakdown_is_that_of_the_lowest_ap() -> None:
    high, low = accuracy(0.5, 1), accuracy(0.4, 4)
    high = high.model_copy(update={"breakdown": broken_down(0.0)})
    low = low.model_copy(update={"breakdown": broken_down(0.1, 0.0), "APm": 0.123456})
    found = parts(run(high, low))
    assert found is not None
    assert found.accuracy == low
    assert [(own, golden) for _, own, golden in found.sizes] == [(None, None), (0.1235, 0.3), (None, 0.4)]


@pytest.mark.parametrize("lost", [0, 3, FIRST_CLASSES + 2])
def test_only_classes_that_lost_are_shown_first(lost: int) -> None:
    losses = [0.2] * lost + [0.0, -0.1]
    found = parts(run(accuracy(0.5).model_copy(update={"breakdown": broken_down(*losses)})))
    assert found is not None
    assert len(found.first) == min(lost, FIRST_CLASSES)
    assert len(found.first) + len(found.others) == len(losses)


def test_run_without_breakdown_has_no_parts() -> None:
    assert parts(run(accuracy(0.5))) is None
    assert parts(run()) is None


def published(figure: str, **values: object) -> Published:
    return Published.model_validate({"figure": figure, "value": 0.374, "of": "o", "source": "s", **values})


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (published("AP", images=9), "0.4000 on 9 images"),
        (published("AP", images=5000), "0.4000 on 9 images, which are others"),
        (published("AP", precision="fp16"), "-"),
        (published("AP", precision="fp32", batch_size=1), "0.5000 on 9 images, which are others"),
        (published("fps", precision="fp32", batch_size=1), "20.00 (device)"),
        (published("fps", precision="fp32", batch_size=8), "-"),
        (published("fps", precision="fp16", batch_size=1), "-"),
    ],
)
def test_published_figure_stands_beside_one_of_the_same(figure: Published, expected: str) -> None:
    own = with_perf(run(accuracy(0.5, 1), accuracy(0.4, 4)), perf(10.0, interval="end to end"), perf(20.0))
    assert own_figure(own, figure) == expected


def test_matrix_has_a_row_a_run_and_a_column_a_batch_size() -> None:
    documents = [
        Named("a", document(run(accuracy(0.5, 4)), run(accuracy(0.4, 1), precision="fp16"))),
        Named("b", document(with_perf(run(), perf(10.0, 8), perf(30.0, 8)))),
    ]
    found = matrix(documents)
    assert found.sizes == (1, 4, 8)
    assert [(number, one.name, of.precision) for number, one, of, _ in found.rows] == [
        (1, "a", "fp32"), (1, "a", "fp16"), (2, "b", "fp32")
    ]  # fmt: skip
    aps = [[cell.accuracy and cell.accuracy.AP for cell in cells] for *_, cells in found.rows]
    assert aps == [[None, 0.5, None], [0.4, None, None], [None, None, None]]
    assert found.rows[2][3][2].perf == perf(30.0, 8)


def named(*documents: Document) -> list[Named]:
    return [Named(f"$x^{number}$", one) for number, one in enumerate(documents)]


def test_trend_follows_one_thing_over_the_documents() -> None:
    first, second = (
        document(with_perf(run(accuracy(ap, 1), accuracy(0.1, size)), perf(fps), perf(1.0, interval=interval)))
        for ap, size, fps, interval in ((0.5, 2, 10.0, "a"), (0.4, 4, 11.0, "b"))
    )
    [found] = trends(named(first, document(run(precision="int8")), second))
    assert found.title == "chip, fp32, tiny"
    told = "AP with batch 1 from 0.5000 to 0.4000; images/s with batch 1 from 10.00 to 11.00; images/s are device"
    assert found.told == told
    assert "<svg" in found.chart


def test_other_images_models_and_devices_make_no_trend() -> None:
    one = document(run(accuracy(0.5)))
    others = [
        document(run(accuracy(0.5)), sha256="cd" * 32),
        document(run(accuracy(0.5)), model="other"),
        document(run(accuracy(0.5), device="other")),
        document(run(accuracy(0.5), precision="fp16")),
        document(run(accuracy(0.5, 4))),
    ]
    for other in others:
        assert trends(named(one, other)) == []
    assert len(trends(named(one, one))) == 1
