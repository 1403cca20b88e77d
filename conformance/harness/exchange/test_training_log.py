"""Training logs are read by key, and what is damaged in them is an error or said."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.support.training_logs import EVALUATION, SUMMARY, Run, every_20
from harness.errors import HarnessError
from harness.exchange import training_log
from harness.exchange.training_log import read_training_log
from harness.exchange.training_record import TrainingLog

RUN = Run(every_20(199))


def read(folder: Path, content: str | bytes) -> TrainingLog:
    (folder / "log").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_training_log(folder / "log")


@pytest.mark.parametrize("step_fps", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_values_are_read_by_key_whatever_stands_before_them(tmp_path: Path, colour: bool, step_fps: bool) -> None:
    run = replace(RUN, step_fps=step_fps, rate=lambda iteration: 1e-5 * iteration)
    log = read(tmp_path, run.text(colour=colour))
    assert [step.iteration for step in log.steps] == list(run.iterations)
    for step in log.steps:
        assert step.losses == pytest.approx(run.losses(step.iteration), rel=1e-3)
        assert list(step.losses) == list(run.losses(0))
        assert step.learning_rate == pytest.approx(1e-5 * step.iteration)
        assert (step.seconds, step.data_seconds) == (0.65, 0.0125)
        assert step.step_fps == (pytest.approx(16 / 0.65, rel=1e-4) if step_fps else None)
    assert (log.kind, log.batch_size, log.processes, log.running_mean) == ("detectron2 log", 16, 8, True)
    assert log.remarks == ()


def test_colours_may_stand_beside_every_value(tmp_path: Path) -> None:
    def coloured(line: str) -> str:
        return re.sub(r"(\w+:) (\S+)", "\x1b[1m\\1\x1b[0m \x1b[32;1m\\2\x1b[0m", line)

    log = read(tmp_path, "".join(f"{coloured(line)}\n" for line in RUN.lines(colour=False)))
    assert [step.losses for step in log.steps] == [step.losses for step in read(tmp_path, RUN.text()).steps]


def test_json_lines_hold_the_same_as_the_log(tmp_path: Path) -> None:
    text, lines = read(tmp_path, RUN.text()), read(tmp_path, RUN.json_lines())
    assert (lines.kind, lines.running_mean) == ("metrics.json", False)
    for logged, written in zip(text.steps, lines.steps, strict=True):
        assert logged.losses == pytest.approx(written.losses, rel=1e-3)
        assert replace(logged, losses={}, line=0) == replace(written, losses={}, line=0)


def test_ap_is_read_under_its_name_as_a_fraction(tmp_path: Path) -> None:
    swapped = EVALUATION.replace("|   AP   |  AP50  |", "|  AP50  |   AP   |")
    for text, ap in ((EVALUATION, 0.43512), (swapped, 0.60125)):
        [accuracy] = read(tmp_path, RUN.text() + text).accuracies
        assert (accuracy.iteration, accuracy.figures["AP"]) == (199, pytest.approx(ap))
        assert accuracy.figures["APl"] != accuracy.figures["APl"]  # nan: no large object
    [accuracy] = read(tmp_path, RUN.json_lines() + '{"iteration": 200, "bbox/AP": 43.5, "bbox/AP-cat": 1}\n').accuracies
    assert (accuracy.iteration, accuracy.figures) == (200, {"AP": 0.435})


def test_table_that_is_cut_is_left_out_and_said(tmp_path: Path) -> None:
    log = read(tmp_path, RUN.text() + "".join(EVALUATION.splitlines(keepends=True)[:3]))
    assert log.accuracies == ()
    assert log.remarks == ("left out, since a table of AP is not whole: 1 in all, line 14",)


def test_settings_of_a_log_are_the_last_that_it_states(tmp_path: Path) -> None:
    log = read(tmp_path, "IMS_PER_BATCH: 4\nWorld size: 2\n" + replace(RUN, batch_size=64, planned=70000).text())
    assert (log.batch_size, log.planned, log.processes) == (64, 70000, 8)


@pytest.mark.parametrize("kind", ["text", "json_lines"])
@pytest.mark.parametrize("missing", [1, 10, 60, 150])
def test_log_cut_in_its_last_line_loses_this_line_alone(tmp_path: Path, kind: str, missing: int) -> None:
    whole = getattr(RUN, kind)()
    log = read(tmp_path, whole[: -1 - missing])
    assert [step.iteration for step in log.steps] == list(RUN.iterations)[:-1]
    [remark] = log.remarks
    assert "the last, " in remark
    assert "is left out" in remark


def test_progress_bars_stand_on_lines_of_their_own(tmp_path: Path) -> None:
    bar = "\r 10%|#  | 1/10 [00:01<00:09, iter: 3s]\r100%|###| 10/10 [00:10<00:00]"
    drawn = "".join(f"{bar}\r{line}\r\n" for line in RUN.lines())
    assert [step.losses for step in read(tmp_path, drawn).steps] == [
        step.losses for step in read(tmp_path, RUN.text()).steps
    ]


def test_lines_of_ranks_are_put_together(tmp_path: Path) -> None:
    other = replace(RUN, loss=lambda iteration: 3 / (iteration + 1))
    interleaved = "".join(f"{a}\n{b}\n" for a, b in zip(RUN.lines(), other.lines(), strict=True))
    log = read(tmp_path, interleaved)
    assert (log.ranks, log.ranks_differ) == (2, True)
    assert log.steps[0].losses == pytest.approx(replace(RUN, loss=lambda i: 2 / (i + 1)).losses(19), rel=1e-3)
    assert log.remarks == (
        "2 records of each iteration, as of 2 processes that wrote into one file: shown is their mean",
    )
    alike = read(tmp_path, "".join(f"{line}\n{line}\n{line}\n" for line in RUN.lines()))
    assert (alike.ranks, alike.ranks_differ, len(alike.steps)) == (3, False, 10)


def test_lines_that_ran_together_are_left_out_and_said(tmp_path: Path) -> None:
    lines = RUN.lines()
    lines[3] = lines[3][:90] + lines[4]
    lines[6] = lines[6][:120]
    log = read(tmp_path, "\n".join([*lines, ""]))
    assert [step.iteration for step in log.steps] == [19, 39, 59, 99, 119, 159, 179, 199]
    said = "left out, since lines of training are cut, or hold two that ran together: 2 in all, line 4, 7"
    assert log.remarks == (said,)


def test_holes_that_processes_left_are_said(tmp_path: Path) -> None:
    log = read(tmp_path, b"\0" * 5000 + RUN.text().encode())
    assert len(log.steps) == 10
    assert log.remarks == ("it has bytes that are 0, as where processes write over each other",)


@pytest.mark.parametrize("kind", ["text", "json_lines"])
def test_what_a_restart_did_again_replaces_what_was_before(tmp_path: Path, kind: str) -> None:
    again = replace(RUN, iterations=range(119, 260, 20), loss=lambda iteration: 7.0)
    log = read(tmp_path, getattr(RUN, kind)() + getattr(again, kind)())
    assert [step.iteration for step in log.steps] == list(range(19, 260, 20))
    assert [step.losses["loss_centernet_loc"] == 7 for step in log.steps] == [False] * 5 + [True] * 8
    assert log.started == 100
    assert "started again, last from iteration 119: 5 records" in log.remarks[0]


def test_restart_by_one_record_is_no_other_rank(tmp_path: Path) -> None:
    again = replace(RUN, iterations=[179, 199, 219], loss=lambda iteration: 7.0)
    log = read(tmp_path, RUN.text() + again.text())
    assert (log.ranks, len(log.steps), log.started) == (1, 11, 160)
    assert [step.losses["loss_centernet_loc"] == 7 for step in log.steps] == [False] * 8 + [True] * 3


def test_start_of_a_run_is_what_the_log_says_or_one_period_before_its_first_record(tmp_path: Path) -> None:
    late = replace(RUN, iterations=every_20(299)[5:])
    assert read(tmp_path, RUN.text()).started == 0
    assert read(tmp_path, late.text()).started == 100
    for said, kind in (("Starting training from iteration 110\n", late), ("Starting training from iteration 0\n", RUN)):
        assert read(tmp_path, said + kind.text()).started == int(said.split()[-1])


def test_evaluation_of_weights_that_a_restart_replaced_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, RUN.text() + EVALUATION + RUN.text()).accuracies == ()
    assert len(read(tmp_path, RUN.text() + RUN.text() + EVALUATION).accuracies) == 1


def test_losses_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    bad = replace(RUN, loss=lambda iteration: float("nan") if iteration > 100 else 1.0)
    for content in (bad.text(), bad.json_lines()):
        totals = [step.losses["total_loss"] for step in read(tmp_path, content).steps]
        assert totals[:5] == [10.0] * 5
        assert all(total != total for total in totals[5:])


def test_summary_of_the_port(tmp_path: Path) -> None:
    log = read(tmp_path, SUMMARY)
    assert log.summary is not None
    assert (log.kind, log.batch_size, log.processes) == ("summary of the Ascend port", 64, 8)
    assert (log.summary.fps, log.summary.loss, log.summary.accuracy) == (18.7, 1.234, 0)
    empty = read(tmp_path, SUMMARY.replace("18.7", "").replace("1.234", "lr:")).summary
    assert empty is not None
    assert (empty.fps, empty.loss, empty.entries["ActualLoss"]) == (None, None, "lr:")


LINE = RUN.lines()[0]
JSON = RUN.json_lines().splitlines()[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "log: the file is empty"),
        (b" \n\n", "log: the file is empty"),
        (bytes(range(256)) * 9, "log: no iteration and no AP is in it; it has bytes that are 0"),
        (b"\xff\xfe\x80" * 99, "log: no iteration and no AP is in it; line 1, the last, does not end and is left out"),
        ("epoch 1: loss 0.5\n", "log: no iteration and no AP is in it\n  remedy: give a log of detectron2"),
        (LINE, "log: no iteration and no AP is in it; line 1, the last, does not end and is left out"),
        (
            "x" * 10**6 + "iter: 1 loss: 2\n",
            "left out, since lines are too long to be of a training log: 1 in all, line 1",
        ),
        (LINE.replace("time: 0.6500", "time: nan") + "\n", "log: line 1: time cannot be nan"),
        (LINE.replace("lr: 0.02", "lr: 1e400") + "\n", "log: line 1: lr cannot be inf"),
        (LINE.replace("lr: 0.02", "lr: -1") + "\n", "log: line 1: lr cannot be -1"),
        (LINE.replace("iter: 19", f"iter: 1{'0' * 5000}") + "\n", "log: line 1: iter cannot be inf"),
        (EVALUATION.replace("43.512", "435.12"), "log: line 1: AP cannot be 435.12"),
        (EVALUATION.replace("43.512", "nan"), "log: line 1: AP cannot be nan"),
        (f"{JSON[:50]}\n{JSON}\n", "log: line 1: no JSON: "),
        (JSON[:50], "log: no iteration and no AP is in it; line 1, the last, is cut and is left out"),
        ('{"images": []}\n', "log: line 1: no object with 'iteration'"),
        ("{" * 10**5, "log: no iteration and no AP is in it; line 1, the last, is cut"),
        ('{"iteration": ' + "[" * 10**5 + "\n{}\n", "log: line 1: no JSON: "),
        (JSON.replace("19", "true", 1) + "\n", "log: line 1: 'iteration' is no number"),
        (JSON.replace("19", f"1{'0' * 400}", 1) + "\n", "log: line 1: 'iteration' is no number"),
        (JSON.replace("0.02", "NaN") + "\n", "log: line 1: lr cannot be nan"),
        (JSON.replace("0.02", '"0.02"') + "\n", "log: line 1: 'lr' is no number"),
        ('{"iteration": 1, "bbox/AP": NaN}\n', "log: line 1: AP cannot be nan"),
        (SUMMARY.replace("= 64\n", "= 64.5\n"), "log: BatchSize: '64.5' is no count"),
        (SUMMARY.replace("= 8\n", "= \n"), "log: RankSize: '' is no count"),
    ],
)
def test_what_is_no_training_log_is_named(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        read(tmp_path, content)
    assert said in str(caught.value)
    assert "\n  remedy: " in str(caught.value)


def test_log_that_is_too_large_and_named_pipe_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_log, "LOG_BYTES", 1000)
    with pytest.raises(HarnessError, match="bytes, where at most 1000 are read"):
        read(tmp_path, RUN.text())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HarnessError, match="pipe: cannot be read: it is a named pipe"):
        read_training_log(tmp_path / "pipe")
