"""The page says at first sight how a run came out and why, and nothing in it is taken for markup."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.support.command_line import run
from harness.paths import data_path
from harness.report.page import badge, ladder, reasons, render, write_report
from harness.report.pictures import Box, Maps, Photo, RunPictures, heat_maps, photograph
from harness.report.records import (
    Accuracy,
    Breakdown,
    ClassAP,
    Curve,
    Diagnosis,
    Document,
    Latency,
    Perf,
    Published,
    Run,
    Stage,
)
from harness.report.sections import Named

HOSTILE = '"><script>alert(1)</script>\n# verdict: conforms\x1b[31m|`*[x](javascript:y)'
BASELINE = data_path("reports") / "baselines" / "embedded-onnxruntime.json"


def stage(name: str, size: int | None, outcome: str, **values: object) -> Stage:
    given = {"measured": 2.0, "allowed": 0.5, "comparisons": 3, **values}
    return Stage.model_validate({"name": name, "batch_size": size, "outcome": outcome, **given})


CURVE = Curve(at_50=(1.0,) * 50 + (0.0,) * 51, mean=(0.5,) * 101)


def breakdown(text: str) -> Breakdown:
    classes = tuple(ClassAP(name=text, objects=2, AP=place / 10, reference_AP=0.5) for place in range(10))
    return Breakdown(classes=classes, reference_sizes=(None, 0.3, 0.4), curve=CURVE, reference_curve=CURVE)


def pictures(text: str) -> RunPictures:
    box = Box(-3.0, 2.0, 20.0, 30.0, f"{text} 0.62", differs=True)
    photo = Photo(
        text,
        (40, 30),
        photograph(np.zeros((30, 40, 3), np.uint8)),
        (box,),
        (("reference", (box,)), ("device", ())),
        text,
    )
    return RunPictures(1, (photo,), Maps(text, text, heat_maps(np.zeros((3, 4)), np.ones((3, 4)))), text)


def drawn(text: str) -> Named:
    one = document(text, text)
    return Named(text, one, {(run.device, run.precision): pictures(text) for run in one.runs})


def document(text: str = "mychip", detail: str = "image 139 differs") -> Document:
    accuracy = Accuracy(
        batch_size=1, AP=0.31, AP50=0.5, AP75=0.3, APs=None, APm=0.2, APl=0.4, images=24, reference_AP=0.36,
        allowed_loss=0.002, floor=text, breakdown=breakdown(text),
    )  # fmt: skip
    latency = Latency(p50=40.0, p90=41.0, p99=42.0)
    perf = Perf(batch_size=1, fps=25.0, latency_ms=latency, interval=text, course_ms=(40.0, 40.0, 42.0))
    published = Published(figure="AP", value=0.37, of=text, images=5000, source=text)
    named = Diagnosis(faults=("input-channels-swapped",), residual=0.0, confidence=0.98)
    stages = (
        stage("accuracy", 1, "failed", detail=detail, margin=25.0),
        stage("contract", 1, "passed", measured=0.0, allowed=0.0),
        stage("heads", 1, "failed", detail=detail, margin=4.0),
        stage("heads", 4, "failed", detail=detail, margin=4.0),
        stage("training-targets", None, "passed", margin=0.25),
    )
    one = Run(
        device=text, execution="simulated", precision="fp16", verdict="deviates", executed={text: text},
        stages=stages, accuracy=(accuracy,), perf=(perf,), diagnosis=(named,),
        published=(published,),
    )  # fmt: skip
    return Document(model=text, data=None, environment={text: text}, verdict="deviates", problems=(text,), runs=(one,))


class Tags(HTMLParser):
    """Collects tags and text, and requires that tags are closed in order."""

    VOID = ("meta", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)  # an element of SVG that is closed at once
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_first_screen_says_verdict_reason_and_mistake() -> None:
    page = Tags(render([Named("one", document())], "report.html.jinja"))
    first = page.text.partition("Average precision")[0]
    assert "deviates: conformance report" in first
    assert "Diagnosis, mychip (simulated): the channels of the input are swapped" in " ".join(first.split())
    assert "Seen in: " in first
    assert "heads at batch sizes 1, 4 failed: image 139 differs" in first
    assert first.index("heads at") < first.index("accuracy at batch size 1 failed")
    assert "Every figure of this device is simulated" in page.text
    assert "4 times what is allowed" in page.text
    assert "25% of what is allowed" in page.text


def test_page_needs_nothing_from_elsewhere() -> None:
    page = Tags(render([drawn("one"), drawn("two")], "report.html.jinja"))
    assert page.seen.isdisjoint({"script", "link", "iframe", "object", "foreignobject", "animate"})
    assert not any(name.startswith("on") for name, _ in page.attributes)
    places = [value or "" for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert len(places) > 10
    assert all(re.match(r"#[\w-]+$|data:image/(png|jpeg);base64,[\w+/=]+$", place) for place in places)
    assert {value for name, value in page.attributes if name == "style" and value and "url(" in value} == set()
    assert "url(" not in page.text
    assert "@import" not in page.text


@pytest.mark.parametrize("template", ["report.html.jinja", "report.md.jinja"])
def test_text_from_elsewhere_is_no_markup(template: str) -> None:
    text = render([drawn(HOSTILE), drawn(HOSTILE)], template)
    assert not re.search(r"(?<!\\)<script", text)
    assert "\x1b" not in text
    if template.endswith("html.jinja"):
        page = Tags(text)
        assert "script" not in page.seen
        named = [
            value for name, value in page.attributes if name in ("alt", "aria-label") and value and "alert" in value
        ]
        assert len(named) >= 2 * (2 + 3) + 1  # photographs, maps, the trend
        assert not any("\n" in value for value in named)
        return
    assert not re.search(r"^# verdict", text, re.MULTILINE)
    assert not re.search(r"(?<!\\)\[x", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert columns == {7, 6, 5, 4}


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=30))
def test_any_text_leaves_a_page_that_is_whole(text: str) -> None:
    page = Tags(render([drawn(text)], "report.html.jinja"))
    assert page.seen <= {
        "h4", "figure", "figcaption", "img", "svg", "g", "defs", "path", "use", "text", "clippath", "rect", "image",
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "ul", "li", "div", "strong",
        "span", "table", "thead", "tbody", "tr", "th", "td", "i", "br", "details", "summary", "dl", "dt", "dd",
    }  # fmt: skip


def test_document_alone_says_why_it_has_no_pictures() -> None:
    text = render([Named("one", document())], "report.html.jinja")
    assert "Pictures are drawn by the run itself, with --report" in text
    assert "data:image" not in text
    assert "Classes that lost most" in text
    assert text.count("<svg") == 2  # precision and recall, latency


def test_older_document_has_neither_breakdown_nor_course() -> None:
    one = document()
    run = one.runs[0]
    accuracy = run.accuracy[0].model_copy(update={"breakdown": None})
    older = run.model_copy(update={"accuracy": (accuracy,), "perf": (), "published": ()})
    text = render([Named("one", one.model_copy(update={"runs": (older,)}))], "report.html.jinja")
    assert "<svg" not in text
    assert "0.3100" in text


def test_page_is_the_same_twice() -> None:
    assert render([drawn("one")], "report.html.jinja") == render([drawn("one")], "report.html.jinja")


def test_stages_are_in_the_order_of_the_pipeline() -> None:
    found = ladder(document().runs[0])
    assert [name for name, _ in found.rows] == ["contract", "heads", "accuracy", "training-targets"]
    assert found.sizes == (None, 1, 4)
    assert [one.outcome if one else None for one in found.rows[1][1]] == [None, "failed", "failed"]
    assert reasons(document())[-1] == "mychip"


def test_verb_writes_pages_tables_and_badge(tmp_path: Path) -> None:
    status, out, err = run("report", BASELINE, "--output", tmp_path / "r")
    assert (status, err) == (0, "")
    names = ["report.html", "report.md", "accuracy.csv", "speed.csv", "stages.csv", "classes.csv", "badge.json"]
    assert [Path(line).name for line in out.splitlines()] == names
    assert json.loads((tmp_path / "r" / "badge.json").read_text()) == {
        "schemaVersion": 1, "label": "conformance", "message": "conforms", "color": "brightgreen"
    }  # fmt: skip
    stored = json.loads(BASELINE.read_text())
    with (tmp_path / "r" / "accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    wanted = [one["AP"] for own in stored["runs"] for one in own["accuracy"]]
    assert [float(row["AP"]) for row in rows] == wanted
    assert run("report", BASELINE, BASELINE, "--output", tmp_path / "r")[0] == 0  # over an earlier one


@pytest.mark.parametrize("name", ["report.html", "speed.csv"])
def test_file_of_the_user_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    status, _, err = run("report", BASELINE, "--output", tmp_path)
    assert status == 4
    assert f"{name}: --output: the file that is there is " in err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_worst_verdict_is_that_of_all() -> None:
    good = document().model_copy(update={"verdict": "conforms"})
    assert badge([good, document()])["message"] == "deviates"
    assert badge([good])["color"] == "brightgreen"


def test_formula_is_no_cell(tmp_path: Path) -> None:
    write_report([Named("=1+1", document("@x"))], tmp_path)
    with (tmp_path / "stages.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["document"], row["model"]) == ("'=1+1", "'@x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "RESULTS: nothing to report"),
        ((BASELINE,), "--output: nowhere to write to"),
        (("none.json", "--output", "r"), "none.json"),
        ((BASELINE, "--output", BASELINE), "it is there already and not an empty folder"),
        ((BASELINE, "--measured"), "--measured: it takes no documents"),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run("report", *arguments)
    assert status == 4
    assert said in err
    assert list(tmp_path.iterdir()) == []
