"""A training is judged rung by rung: a planted mistake is caught where it is made, and named."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.centernet2.cases import case_model
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import RUNGS, Rung
from harness.errors import HarnessError
from harness.faults.training import TRAINING_FAULTS
from harness.run.training import stages
from harness.run.training.diagnose import diagnose_rung
from harness.run.training.options import TrainingOptions, parse_training_options
from harness.run.training.session import TrainingSession

BY_ID = {fault.id: fault for fault in TRAINING_FAULTS}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> TrainingSession:
    return TrainingSession(parse_training_options(), tmp_path_factory.mktemp("training"), lambda text: None)


def judged(session: TrainingSession, rung: Rung) -> bool:
    if rung in ("clipped", "parameters"):
        return (stages.clipped if rung == "clipped" else stages.parameters)(session, "cpu").is_green
    return stages.rung(session, "cpu", rung).is_green


@pytest.mark.parametrize("fault", ["p7_without_relu", "giou_plus_one_lost", "empty_boxes_kept", "decay_of_groupnorm"])
def test_mistake_is_caught_at_its_rung_and_named(session: TrainingSession, fault: str) -> None:
    known = BY_ID[fault]
    assert known.rung != "processes"
    session.replace("cpu", session.faulty(known.change))
    before = [rung for rung in RUNGS[: RUNGS.index(known.rung)] if rung != "gradients"]
    assert all(judged(session, rung) for rung in before)
    assert not judged(session, known.rung)
    found = diagnose_rung(session, "cpu", known.rung)
    assert [one.faults for one in found] == [(fault,)]
    assert found[0].stage == f"training-{known.rung}"


def test_mistake_that_nobody_knows_has_no_name(session: TrainingSession) -> None:
    def change(port: TrainingPort) -> None:
        port.model.backbone.top_block.p7.weight.data *= 1.01

    session.replace("cpu", session.faulty(change))
    assert not judged(session, "features")
    assert [one.faults for one in diagnose_rung(session, "cpu", "features")] == [()]


def test_two_mistakes_are_named_one_a_rung(session: TrainingSession) -> None:
    def change(port: TrainingPort) -> None:
        BY_ID["reg_weight_2"].change(port)
        BY_ID["sampling_ratio_2"].change(port)

    session.replace("cpu", session.faulty(change))
    for rung, fault in (("first-losses", "reg_weight_2"), ("pooled", "sampling_ratio_2")):
        assert [one.faults for one in diagnose_rung(session, "cpu", rung)] == [(fault,)]  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", [stages.reference, stages.own_step, stages.loss_scale, stages.overflow])
def test_right_training_passes_what_concerns_the_whole_step(
    session: TrainingSession, stage: stages.TrainingCheck
) -> None:
    session.replace("cpu", session.faulty(lambda port: None))
    result = stage(session, "cpu")
    assert result.is_green, result.stage.detail
    assert result.stage.comparisons > 0


def test_loss_scale_that_stays_in_the_gradients_fails(session: TrainingSession) -> None:
    session.replace("cpu", session.faulty(BY_ID["loss_scale_kept"].change))
    assert not stages.loss_scale(session, "cpu").is_green


def test_scaler_that_takes_the_step_in_spite_of_an_overflow_fails(
    session: TrainingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(torch.amp.GradScaler):
        def step(self, optimizer: torch.optim.Optimizer, *args: object, **kwargs: object) -> None:
            self.unscale_(optimizer)
            optimizer.step()

    port = session.faulty(lambda port: None)
    monkeypatch.setattr(type(port.device), "make_scaler", lambda self, scale: Blind("cpu", init_scale=scale))
    session.replace("cpu", port)
    result = stages.overflow(session, "cpu")
    assert not result.is_green
    assert "a step with an overflow moves" in (result.stage.detail or "")


@pytest.mark.catalogue  # half a minute
def test_weights_of_the_user_are_checked_and_the_official_step_is_not_known_of_them(tmp_path: Path) -> None:
    weights = tmp_path / "own.pth"
    torch.save({"model": case_model("narrow", "own").state_dict()}, weights)
    session = TrainingSession(parse_training_options(weights=weights), tmp_path, lambda text: None)
    session.check()
    assert stages.reference(session, "cpu").stage.outcome == "not-applicable"
    assert stages.rung(session, "cpu", "gradients").is_green


def options(**given: object) -> Callable[[], TrainingOptions]:
    return lambda: parse_training_options(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (options(device="onnxruntime"), "--device: no training device named 'onnxruntime'"),
        (options(device="cpu,cpu"), "no list of different device names"),
        (options(device="cdua"), "did you mean 'cuda'"),
        (options(model="dla_34"), "--model: 'dla_34' is no model whose training can be checked"),
        (options(precision="int8"), "--precision: device 'cpu' cannot train in 'int8'"),
        (options(processes=0), "--processes: 0 processes"),
        (options(without_meaning={"batch_sizes": "1,2"}), "--batch-sizes: it has no meaning for a training"),
    ],
)
def test_wrong_options_are_errors_with_a_remedy(make: Callable[[], TrainingOptions], said: str) -> None:
    with pytest.raises(HarnessError) as raised:
        make()
    assert said in str(raised.value)
    assert raised.value.remedy


@pytest.mark.parametrize("device", ["cuda", "npu"])
def test_device_that_is_not_there_is_an_error_that_says_what_is_missing(device: str, tmp_path: Path) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    session = TrainingSession(parse_training_options(device=device), tmp_path, lambda text: None)
    with pytest.raises(HarnessError, match=f"device '{device}' is not there"):
        session.check()
