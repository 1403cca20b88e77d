"""Figures that a training log supports: each against the training that it was made from, each limit by its case."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.support.training_logs import EVALUATION, SUMMARY, Run, every_20
from harness.cards import RecipeCard, load_recipe
from harness.checks.training.log import LogScore, score_log
from harness.errors import HarnessError
from harness.exchange.training_log import read_training_log

RECIPE = load_recipe("centernet2_1x")


def official_rate(iteration: int) -> float:
    """Rate of the official schedule, in its own form."""
    if iteration < 4000:
        return 0.02 * (0.00025 + (1 - 0.00025) * iteration / 4000)
    return 0.02 if iteration < 60000 else 0.002 if iteration < 80000 else 0.0002


WHOLE = Run(range(19, 90000, 20), official_rate, planned=90000)


def scored(
    folder: Path, content: str, batch_size: int | None = None, warm_up: int = 50, recipe: RecipeCard = RECIPE
) -> LogScore:
    (folder / "log").write_text(content)
    return score_log(read_training_log(folder / "log"), recipe, batch_size=batch_size, warm_up=warm_up)


def about(score: LogScore, what: str) -> str:
    """Return the one limit of a figure."""
    [found] = [text for text in score.unsupported if text.startswith(f"{what}: ")]
    return found.removeprefix(f"{what}: ")


def test_log_of_the_official_training_supports_everything(tmp_path: Path) -> None:
    score = scored(tmp_path, WHOLE.text() + EVALUATION)
    assert score.unsupported == ()
    assert score.accuracy is not None
    assert score.last is not None
    assert score.speed is not None
    assert score.accuracy.figures["AP"] == pytest.approx(0.43512)
    assert score.last.iteration == 89999
    assert score.speed.fps == pytest.approx(16 / 0.65, rel=0.005)
    assert (score.speed.first, score.speed.last, score.speed.parts) == (60, 89999, 20)


@pytest.mark.parametrize("kind", ["text", "json_lines"])
@pytest.mark.parametrize(("numbers", "counted_from"), [(range(20, 2001, 20), 1), (range(1, 201), 1), (range(200), 0)])
def test_rates_are_those_of_the_iteration_whatever_number_it_has(
    tmp_path: Path, kind: str, numbers: range, counted_from: int
) -> None:
    run = Run(numbers, official_rate, counted_from=counted_from)
    score = scored(tmp_path, getattr(run, kind)(), 16)
    assert not any(text.startswith("lr") for text in score.unsupported)
    assert score.speed is not None
    assert (score.speed.first, score.speed.last) == (61 if numbers.step == 20 else 50 + counted_from, numbers[-1])
    ahead = replace(run, rate=lambda i: official_rate(i + 1))
    assert about(scored(tmp_path, getattr(ahead, kind)(), 16), "lr").endswith("the schedule is counted from 1")


def test_training_of_101_iterations_has_no_ap(tmp_path: Path) -> None:
    """The port's "full" training on one card: batches of 8 at the rate for 64, which it does not scale down."""
    run = Run(range(20, 101, 20), lambda i: 4 * official_rate(i), batch_size=8, planned=101, counted_from=1)
    score = scored(tmp_path, run.text())
    assert score.unsupported[:2] == (
        "AP: the log has no evaluation",
        "AP: 101 iterations have no AP of the recipe: batches of 8 x 101 iterations are 0.00689 epochs; "
        "centernet2_1x is 16 x 90000, 12.3 epochs, all of them within its warm-up of 8000",
    )
    assert about(score, "lr").endswith("it is that of batches of 64, with the warm-up and the steps of 16")


def test_training_of_64_x_70000_images_is_38_epochs_and_no_1x(tmp_path: Path) -> None:
    run = Run(range(20, 70000, 20), lambda i: 4 * official_rate(i), batch_size=64, planned=70000, step_fps=True)
    run = replace(run, counted_from=1)
    score = scored(tmp_path, run.text() + EVALUATION)
    assert about(score, "AP") == (
        "it is not comparable with the published 0.429: batches of 64 x 70000 iterations are 38.2 epochs; "
        "centernet2_1x is 16 x 90000, 12.3 epochs"
    )
    assert about(score, "lr").endswith("it is scaled to batches of 64, and the warm-up and the steps are not")
    assert about(score, "losses").startswith("of one rank of 8")
    assert "one iteration is no fps" in about(score, "images a second")


def test_log_that_ends_early_is_said(tmp_path: Path) -> None:
    score = scored(tmp_path, replace(WHOLE, iterations=every_20(50000)).text())
    assert about(score, "the end") == "the log ends after 50000 iterations of 90000"


@pytest.mark.parametrize("told", [None, 16])
def test_batch_size_is_that_of_the_log_or_of_the_option(tmp_path: Path, told: int | None) -> None:
    score = scored(tmp_path, replace(WHOLE, batch_size=None).text() + EVALUATION, told)
    assert score.batch_size == told
    assert (score.speed is None) == (told is None)
    limits = {text.partition(": ")[0] for text in score.unsupported}
    assert limits == (set() if told else {"the schedule", "images a second"})


def test_batch_size_that_contradicts_the_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="log: --batch-size: 8 images, and the log says 16"):
        scored(tmp_path, WHOLE.text(), 8)


@pytest.mark.parametrize(
    ("images", "rate", "named"),
    [
        (16, lambda i: official_rate(i + 1), "the schedule is counted from 1"),
        (64, official_rate, "it is that of batches of 16, not scaled to 64"),
        (64, lambda i: 4 * official_rate(i), "it is scaled to batches of 64, and the warm-up and the steps are not"),
        (64, lambda i: 2 * official_rate(4 * i), "it is 0.5 times the schedule's throughout"),
        (16, lambda i: 0.02, "where batches of 16 have 9.9976e-05"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "json_lines"])
def test_rate_that_is_not_the_schedules_is_named(
    tmp_path: Path, images: int, rate: Callable[[int], float], named: str, kind: str
) -> None:
    run = Run(every_20(9999), rate, batch_size=images)
    score = scored(tmp_path, getattr(run, kind)(), images)
    assert about(score, "lr").endswith(named)
    right = replace(run, rate=lambda i: images / 16 * official_rate(i * images // 16))
    assert not any(text.startswith("lr") for text in scored(tmp_path, getattr(right, kind)(), images).unsupported)


def test_rate_of_six_decimals_is_that_of_the_schedule(tmp_path: Path) -> None:
    text = "".join(
        line.replace(f"lr: {official_rate(i):.5g}", f"lr: {official_rate(i):.6f}") + "\n"
        for i, line in zip(WHOLE.iterations, WHOLE.lines(), strict=True)
    )
    assert not any(text.startswith("lr") for text in scored(tmp_path, text, 16).unsupported)


@pytest.mark.parametrize("kind", ["text", "json_lines"])
def test_speed_leaves_the_warm_up_out(tmp_path: Path, kind: str) -> None:
    """The first 40 iterations take ten times as long, and every tenth record half as long again."""

    def seconds(iteration: int) -> float:
        return 6.5 if iteration < 40 else 0.975 if iteration // 20 % 10 == 9 else 0.65

    run = Run(every_20(799), official_rate, seconds)
    speed = scored(tmp_path, getattr(run, kind)(), 16).speed
    assert speed is not None
    assert (speed.first, speed.last) == (60, 799)
    assert speed.fps == pytest.approx(16 / 0.65, rel=0.005)
    assert speed.slowest < 16 / 0.8
    assert speed.data_seconds == 0.0125
    late = scored(tmp_path, getattr(run, kind)(), 16, warm_up=0).speed
    assert late is not None
    assert late.first < 40
    assert late.slowest < 16 / 3


def test_wait_for_images_leaves_the_warm_up_out(tmp_path: Path) -> None:
    run = Run(every_20(799), official_rate)
    speed = scored(tmp_path, run.json_lines().replace("0.0125", "5.5", 25), 16, warm_up=600).speed
    assert speed is not None
    assert speed.data_seconds == 0.0125


def test_speed_of_a_resumed_run_is_that_since_it_was_resumed(tmp_path: Path) -> None:
    before, after = Run(every_20(199), official_rate), Run(every_20(399), official_rate, lambda iteration: 0.25)
    resumed = after.json_lines().splitlines(keepends=True)[5:]
    speed = scored(tmp_path, before.json_lines() + "".join(resumed), 16).speed
    assert speed is not None
    assert (speed.first, speed.last, speed.fps) == (160, 399, 64)


def test_speed_of_a_log_that_begins_late_takes_its_mean_from_there(tmp_path: Path) -> None:
    """A resumed run whose own mean began at iteration 200, of which the first 20 were slow."""
    run = Run(range(19, 400, 20), official_rate, lambda iteration: 3.0 if iteration < 20 else 0.5)
    text = run.text()
    for iteration in reversed(run.iterations):
        text = text.replace(f"iter: {iteration} ", f"iter: {iteration + 200} ")
    for said in ("", "Starting training from iteration 200\n"):
        speed = scored(tmp_path, said + text).speed
        assert speed is not None
        assert (speed.first, speed.last, speed.fps) == (260, 599, pytest.approx(32, rel=0.002))


@pytest.mark.parametrize("huge", [10**6, 10**9])
def test_batch_to_which_no_schedule_scales_is_an_error_of_the_log(tmp_path: Path, huge: int) -> None:
    with pytest.raises(HarnessError, match="log: batch size: the schedule of 90000 iterations cannot be scaled"):
        scored(tmp_path, replace(WHOLE, iterations=every_20(99), batch_size=huge).text())


@pytest.mark.parametrize(("last", "supported"), [(19, False), (59, False), (79, True)])
def test_speed_of_a_few_iterations_is_none(tmp_path: Path, last: int, supported: bool) -> None:
    score = scored(tmp_path, Run(every_20(last), official_rate).json_lines(), 16)
    assert (score.speed is not None) == supported
    if not supported:
        said = f"of {last + 1} iterations, too few are left after a warm-up of 50"
        assert about(score, "images a second") == said


def test_losses_of_single_ranks_and_losses_that_diverged_are_said(tmp_path: Path) -> None:
    one, other = Run(every_20(99)), Run(every_20(99), loss=lambda iteration: 2.0)
    text = "".join(f"{a}\n{b}\n" for a, b in zip(one.lines(), other.lines(), strict=True))
    said = "each of 2 processes logs its own, and none the losses of the whole batch"
    assert about(scored(tmp_path, text), "losses") == said
    bad = Run(every_20(99), loss=lambda iteration: float("inf") if iteration > 50 else 1.0)
    said = "total_loss is not finite at iteration 59: the training has diverged"
    assert about(scored(tmp_path, bad.text()), "losses") == said


def test_evaluation_alone_does_not_say_of_what(tmp_path: Path) -> None:
    score = scored(tmp_path, EVALUATION)
    assert score.unsupported == ("AP: no training is in the log, and it does not say which weights were evaluated",)


@pytest.mark.parametrize(
    ("old", "new", "what", "said"),
    [
        ("x", "x", "AP", "TrainAccuracy 0.0 is a constant of the scripts that train"),
        ("Accuracy = 0.0", "Accuracy = |", "AP", "TrainAccuracy '|' is none: the column holds something else"),
        ("x", "x", "images a second", "ActualFPS 18.7 is a column of one line, and so of one iteration"),
        ("FPS = 18.7", "FPS = ", "images a second", "ActualFPS '' is none: the column holds something else"),
        ("x", "x", "losses", "ActualLoss is of one rank of 8"),
        ("1.234", "total_loss:", "losses", "ActualLoss 'total_loss:' is no number: the column holds something else"),
    ],
)
def test_summary_of_the_port_supports_little(tmp_path: Path, old: str, new: str, what: str, said: str) -> None:
    assert about(scored(tmp_path, SUMMARY.replace(old, new)), what) == said


@pytest.mark.parametrize("stated", ["0.12", "", "nan"])
def test_summary_that_contradicts_itself_is_named(tmp_path: Path, stated: str) -> None:
    found = scored(tmp_path, SUMMARY.replace("3422.46", stated)).unsupported
    said = f"images a second: TrainingTime {stated or 'is empty'} is not 1000 x 64 / 18.7"
    assert said in found
