"""Charts are elements of the page: readable in light and dark, the same on every machine, without anything beside."""

import re
import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from harness.report.charts import Line, latency, precision_recall, trend
from harness.report.records import Curve, Latency

CURVE = Curve(at_50=tuple(np.linspace(1, 0, 101).round(3)), mean=tuple(np.linspace(0.8, 0, 101).round(3)))
LINES = [Line("batch 1", (1, 2, 3), (0.31, 0.3101, 0.3102)), Line("batch 4", (1, 3), (0.31, 0.31))]
SAMPLES = (50.0, 51.0, 49.5, 80.0)
CHARTS: dict[str, Callable[[], str]] = {
    "precision_recall": lambda: precision_recall(CURVE, CURVE),
    "latency": lambda: latency(SAMPLES, Latency.of(SAMPLES)),
    "one time": lambda: latency((3.0,), Latency(p50=3, p90=3, p99=3)),
    "no time": lambda: latency((0.0, 0.0), Latency(p50=0, p90=0, p99=0)),
    "trend": lambda: trend(LINES, Line("reference", (1, 2, 3), (0.31, 0.31, 0.31)), [Line("batch 1", (1, 2), (9, 10))]),
    "speed alone": lambda: trend([], None, [Line("any batch", (1, 2), (1000.0, 1.0))]),
}
every_chart = pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)


@every_chart
def test_chart_is_one_element_that_needs_nothing(draw: Callable[[], str]) -> None:
    text = str(draw())
    root = ElementTree.fromstring(text.replace("<svg", '<svg xmlns:xlink="x"', 1))
    assert root.tag == "svg"
    tags = {element.tag for element in root.iter()}
    assert tags <= {"svg", "g", "defs", "path", "use", "text", "clipPath", "rect"}
    assert "width" not in root.attrib
    assert "://" not in text
    used, ids = set(re.findall(r"#(\w+)", text)), re.findall(r'\bid="([^"]*)"', text)
    assert used == set(ids)
    assert len(ids) == len(set(ids))


@every_chart
def test_colours_are_those_of_the_style_sheet(draw: Callable[[], str]) -> None:
    text = str(draw())
    assert set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", text)) <= {
        "none", "var(--text)", "var(--line)", "var(--soft)", "var(--reference)", "var(--device)"
    }  # fmt: skip
    assert "var(--text)" in text
    assert "var(--device)" in text


@every_chart
def test_chart_depends_on_nothing_but_its_numbers(draw: Callable[[], str]) -> None:
    first = draw()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "text.usetex": True}):
        assert draw() == first
        assert mpl.rcParams["font.size"] == 30


def test_small_spread_is_not_made_to_look_large() -> None:
    heights = [float(found) for found in re.findall(r">(0\.3\d+)</text>", CHARTS["trend"]())]
    assert max(heights) - min(heights) >= 0.001


def test_drawing_waits_until_there_is_something_to_draw() -> None:
    code = "import sys, harness.run.checking, harness.report.page; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
