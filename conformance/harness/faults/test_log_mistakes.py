"""Figures read wrongly from a training log: every word of its last line that is no speed is refused, and named."""

import re
from pathlib import Path

import pytest

from conformance.support.training_logs import EVALUATION, Run, every_20
from harness.cards import load_recipe
from harness.checks.training.log import LogScore, score_log
from harness.errors import HarnessError
from harness.exchange.training_log import read_training_log
from harness.exchange.training_record import TrainingLog
from harness.faults.training import LOG_MISTAKES, explain_figure

EARLIER = EVALUATION.replace("43.512", "21.756").replace("60.125", "40.5")
RUN = Run(every_20(999), seconds=lambda i: 2.0 if i % 100 == 99 else 0.65, step_fps=True)
WITHIN_A_NUMBER = re.compile(r"^-?[0-9.]+(e-?\d+)?$")


def scored(folder: Path, *, colour: bool = True) -> tuple[TrainingLog, LogScore]:
    (folder / "log").write_text(EARLIER + RUN.text(colour=colour) + EVALUATION)
    log = read_training_log(folder / "log")
    return log, score_log(log, load_recipe("centernet2_1x"))


@pytest.mark.parametrize("text", ["43.512", "43.51", "43.5", "0.4351", "0.44"])
def test_ap_is_right_to_its_last_digit(tmp_path: Path, text: str) -> None:
    assert explain_figure(*scored(tmp_path), "AP", text).is_right


@pytest.mark.parametrize("colour", [True, False])
def test_every_other_word_of_the_last_line_is_named(tmp_path: Path, colour: bool) -> None:
    log, score = scored(tmp_path, colour=colour)
    assert score.speed is not None
    last = [line for line in (tmp_path / "log").read_text().splitlines() if "step_fps" in line][-1]
    words = [word for word in last.split() if WITHIN_A_NUMBER.match(word)]
    assert len(words) == 10  # iter, five losses, time, data_time, lr, step_fps
    for word in words:
        found = explain_figure(log, score, "images/s", word)
        near = abs(float(word) / score.speed.fps - 1) <= 0.01
        assert found.is_right == near
        assert near or {mistake.figure for mistake, _ in found.explained} == {"images/s"}, word


@pytest.mark.parametrize("mistake", LOG_MISTAKES, ids=lambda mistake: mistake.id)
def test_mistake_is_named_for_every_figure_that_it_gives(tmp_path: Path, mistake: object) -> None:
    [own] = [one for one in LOG_MISTAKES if one is mistake]
    log, score = scored(tmp_path)
    places = [(place, value) for place, value in own.read(log, score) if value == value]
    assert places
    for place, value in places:
        found = explain_figure(log, score, own.figure, f"{value:.6g}")
        assert found.is_right or own in [one for one, _ in found.explained], place
    assert any(not explain_figure(log, score, own.figure, f"{value:.6g}").is_right for _, value in places)


def test_figure_from_nowhere_has_no_name(tmp_path: Path) -> None:
    found = explain_figure(*scored(tmp_path), "AP", "39.99")
    assert (found.is_right, found.explained) == (False, ())


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-1", "101", "1e999999999", "0x10", "1_0e400"])
def test_what_is_no_figure_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(HarnessError, match="is no AP"):
        explain_figure(*scored(tmp_path), "AP", text)
