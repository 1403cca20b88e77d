"""The known mistakes of a training show on the batches that they name, look different, and stay in their own port."""

from itertools import combinations
from typing import Any

import pytest
import torch

from conformance.support.centernet2_golden import golden_figures
from harness.cards import load_recipe
from harness.centernet2.cases import case_model, load_case
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import RATES_AT, idle_changes, learning_rates
from harness.faults.training import TRAINING_FAULTS, TrainingFault

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES, NORMS = 5e-5, 2e-3
"""Relative: what losses and gradient norms of a right step may be off."""
BY_ID = {fault.id: fault for fault in TRAINING_FAULTS}
WRONG, RIGHT = golden_figures("faults.json"), golden_figures("narrow_stages.json")["behaviour"]
SOLVER = golden_figures("faults_solver.json")
OF_STEP = sorted(WRONG.keys() - {"normalised_by_rank", "nms_per_level"})
"""Mistakes that a step of one process shows in its losses."""
ON_BASE = [fault for fault in OF_STEP if "base" in BY_ID[fault].shown_on]


def apart(one: Any, other: Any) -> bool:  # noqa: ANN401 - figures by names
    """Tell whether no step can come near enough to both: what differs is beyond twice the tolerance."""
    return any(
        abs(one[kind][name] - other[kind][name]) > 2 * allowed * max(abs(one[kind][name]), abs(other[kind][name]))
        for kind, allowed in (("losses", LOSSES), ("gradient_norms", NORMS))
        for name in one[kind]
    )


def port_with(fault: TrainingFault | None, loss_scale: float = 1.0) -> TrainingPort:
    port = TrainingPort(case_model("narrow"), load_recipe("centernet2_1x").solver, loss_scale=loss_scale)
    if fault is not None:
        fault.change(port)
    return port


@pytest.mark.parametrize("fault", OF_STEP)
def test_mistake_shows_on_the_batches_that_it_names(fault: str) -> None:
    for case in BY_ID[fault].shown_on:
        assert apart(WRONG[fault][case], RIGHT[case])


def test_mistakes_that_do_not_name_base_do_not_show_on_it() -> None:
    hidden = [fault for fault in WRONG if "base" in WRONG[fault] and "base" not in BY_ID[fault].shown_on]
    assert sorted(hidden) == ["empty_boxes_kept", "high_fp_not_ignored", "nms_per_level"]
    assert not any(apart(WRONG[fault]["base"], RIGHT["base"]) for fault in hidden)


def test_no_two_mistakes_of_a_step_look_alike() -> None:
    assert len(ON_BASE) == 29
    alike = [(a, b) for a, b in combinations(ON_BASE, 2) if not apart(WRONG[a]["base"], WRONG[b]["base"])]
    assert alike == []


def test_no_two_mistakes_of_the_solver_look_alike() -> None:
    found = {fault: figures["losses"][2] for fault, figures in SOLVER.items()}
    found["right"] = golden_figures("narrow_train.json")["short_6"]["steps"][2]["losses"]
    alike = [pair for pair in combinations(found, 2) if found[pair[0]] == pytest.approx(found[pair[1]], rel=2e-4)]
    # Three steps do not decay enough; a step without gradients shows it.
    assert alike == [("decay_of_groupnorm", "right")]


@pytest.mark.parametrize(
    ("fault", "decays"), [(None, set()), ("decay_of_groupnorm", {"norm"}), ("frozen_layers_decayed", {"frozen"})]
)
def test_a_step_without_gradients_shows_what_decays(fault: str | None, decays: set[str]) -> None:
    port = port_with(BY_ID[fault] if fault else None)
    changed = {name for name, change in idle_changes(port).items() if bool(change.any())}
    frozen = {name for name, parameter in port.model.named_parameters() if not parameter.requires_grad}
    norm = {
        f"{name}.{own}"
        for name, module in port.model.named_modules()
        if isinstance(module, torch.nn.GroupNorm)
        for own in ("weight", "bias")
    }
    assert {kind for kind, names in (("norm", norm), ("frozen", frozen)) if changed & names} == decays


def test_learning_rates_show_the_mistakes_of_the_schedule() -> None:
    right, late, unscaled = (
        learning_rates(port, port.solver)
        for port in (port_with(None), port_with(BY_ID["schedule_from_1"]), port_with(BY_ID["unscaled_lr"]))
    )
    wrong_at = [iteration for iteration, same in zip(RATES_AT, (late == right)[0], strict=True) if not same]
    # In the warm-up, on its last iteration, and on those before each drop.
    assert wrong_at == [0, 1, 100, 1999, 3999, 59999, 79999]
    assert bool((unscaled[0] == right[0]).all())
    assert bool((unscaled[1:] == right[0]).all())
    assert not bool((right[1:] == right[0]).all(dim=1).any())


@pytest.mark.parametrize(("fault", "factor"), [(None, 1.0), ("loss_scale_kept", 128.0)])
def test_gradients_show_the_loss_scale(fault: str | None, factor: float) -> None:
    port = port_with(BY_ID[fault] if fault else None, loss_scale=128.0)
    weight = port.model.proposal_generator.centernet_head.agn_hm.weight
    found = port.gradients({"sum": weight.sum()})["proposal_generator.centernet_head.agn_hm.weight"]
    assert bool((found == factor).all())


def test_mistakes_stay_in_their_own_port() -> None:
    for fault in TRAINING_FAULTS:
        port_with(fault)
    port = port_with(None)
    losses = port.step(load_case("base")).losses
    found = {name: float(loss.detach()) for name, loss in losses.items()}
    assert found == pytest.approx(RIGHT["base"]["losses"], rel=LOSSES)
    assert learning_rates(port, port.solver)[0][0] == pytest.approx(5e-6, rel=1e-12)
    assert port.shares_counts
    assert port.unscales
