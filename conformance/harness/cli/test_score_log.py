"""`score-log`: figures and limits of a log, line by line, and errors for what is none."""

import re
from pathlib import Path

import pytest

from conformance.support.command_line import run
from conformance.support.training_logs import EVALUATION, SUMMARY, Run, every_20


def test_figures_and_limits_are_printed(tmp_path: Path) -> None:
    training = Run(every_20(399), lambda i: 0.02 * (0.00025 + 0.99975 * i / 4000))
    (tmp_path / "log.txt").write_text(training.text() + EVALUATION + "[11/08 12")
    status, out, err = run("score-log", tmp_path / "log.txt", "--warm-up", 100)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "detectron2 log, 20 records of iterations 19 to 399, batch size 16, 8 processes",
        "AP        0.4351 after iteration 399; AP50 0.6012, AP75 0.4625, APs 0.2500, APm 0.4650, APl nan",
        "losses    total_loss 0.025, loss_centernet_loc 0.0025, loss_centernet_agn_pos 0.005, loss_centernet_agn_neg "
        "0.0075, loss_cls_stage0 0.01",
        "lr        0.0019995 at iteration 399",
        "images/s  24.62, median of 15 parts (24.62 to 24.62) of iterations 100 to 399; 0.65 s an iteration; 24.15 "
        "where 0.0125 s of waiting for images are not within",
        "note: line 28, the last, does not end and is left out",
        "cannot support AP: 400 iterations have no AP of the recipe: batches of 16 x 400 iterations are 0.0546 epochs; "
        "centernet2_1x is 16 x 90000, 12.3 epochs, all of them within its warm-up of 4000",
    ]


def test_figures_that_are_not_there_are_dashes(tmp_path: Path) -> None:
    (tmp_path / "CenterNet2_bs64_8p_acc.log").write_text(SUMMARY)
    status, out, _ = run("score-log", tmp_path / "CenterNet2_bs64_8p_acc.log")
    assert status == 0
    assert re.findall(r"^(AP|losses|lr|images/s) +(.*)$", out, re.MULTILINE) == [
        ("AP", "-"),
        ("losses", "ActualLoss 1.234"),
        ("lr", "-"),
        ("images/s", "-"),
    ]


def test_figures_that_were_read_wrongly_are_named_and_end_with_1(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(Run(every_20(399)).text() + EVALUATION)
    status, out, err = run("score-log", tmp_path / "log.txt", "--ap", "60.1", "--fps", "24.6")
    assert (status, err) == (1, "")
    assert out.splitlines()[-3:] == [
        "given AP 60.1: not what the log says: the log says 0.4351",
        "  diagnosis: AP is read from another column of the table of the evaluation: AP50, line 24 "
        "(ap_of_another_column)",
        "given images/s 24.6: right, the log says 24.62",
    ]
    assert run("score-log", tmp_path / "log.txt", "--ap", "43.5")[0] == 0


def test_summary_of_the_port_is_held_to_the_log_that_it_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(Run(every_20(399)).text() + EVALUATION)
    (tmp_path / "acc.log").write_text(SUMMARY.replace("18.7", "0.0125"))
    status, out, _ = run("score-log", tmp_path / "log.txt", "--summary", tmp_path / "acc.log")
    assert status == 1
    assert "given images/s 0.0125: not what the log says: the log says 24.62\n  diagnosis: the speed is read" in out
    assert "data_time, line 23 (fps_of_another_column)" in out
    status, _, err = run("score-log", tmp_path / "log.txt", "--summary", tmp_path / "log.txt")
    assert (status, "it is no summary of the port" in err) == (4, True)


def test_summary_of_an_evaluation_has_its_ap_in_percent(tmp_path: Path) -> None:
    kept = [line for line in SUMMARY.splitlines() if not line.startswith(("Actual", "TrainingTime"))]
    (tmp_path / "eval.log").write_text("\n".join([*kept, ""]).replace("Accuracy = 0.0", "Accuracy = 43.512"))
    assert "\nAP        0.4351\n" in run("score-log", tmp_path / "eval.log")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.txt"], "none.txt: cannot be read: No such file or directory"),
        (["log.txt", "--recipe", "centernet2_2x"], "--recipe: no recipe card named 'centernet2_2x'"),
        (["log.txt", "--batch-size", "8"], "log.txt: --batch-size: 8 images, and the log says 16"),
        (["empty.txt"], "empty.txt: the file is empty"),
        (["escape.txt"], r"escape.txt: BatchSize: '\x1b]2J' is no count"),
    ],
)
def test_what_is_wrong_is_said_and_ends_with_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.txt").write_text(Run(every_20(99)).text())
    Path("empty.txt").write_text("")
    Path("escape.txt").write_text(SUMMARY.replace("= 64", "= \x1b]2J"))
    status, out, err = run("score-log", *arguments)
    assert (status, out) == (4, "")
    assert said in err
    assert "remedy: " in err
    assert "Traceback" not in err
