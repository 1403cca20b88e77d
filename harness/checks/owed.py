"""The stages that a run owes, and those of them that did not run.

Tests of devices form groups. As soon as one test of a group is selected, the run owes every test of the group for every
device and batch size, whatever took the others away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.report.records import AGAINST, Message, Perf, Reported, Stage

GROUPS: dict[str, dict[str, str]] = {
    "accuracy": {
        "test_conversion.py::test_artifact_keeps_the_contract_of_the_card": "contract",
        "test_heads.py::test_device_heads_equal_reference": "heads",
        "test_heads.py::test_sample_in_a_batch_equals_the_sample_alone": "batch",
        "test_heads.py::test_device_decides_as_the_reference": "detections",
        "test_accuracy.py::test_ap_equals_reference": "accuracy",
    },
    "training": {
        "test_ladder.py::test_batch_equals_reference": "training-batch",
        "test_ladder.py::test_features_equal_reference": "training-features",
        "test_ladder.py::test_heads_equal_reference": "training-heads",
        "test_ladder.py::test_targets_equal_reference": "training-targets",
        "test_ladder.py::test_losses_of_the_first_stage_equal_reference": "training-first-losses",
        "test_ladder.py::test_proposals_equal_reference": "training-proposals",
        "test_ladder.py::test_matching_equals_reference": "training-matching",
        "test_ladder.py::test_pooled_features_equal_reference": "training-pooled",
        "test_ladder.py::test_predictions_equal_reference": "training-predictions",
        "test_ladder.py::test_losses_of_the_cascade_equal_reference": "training-stage-losses",
        "test_ladder.py::test_gradients_equal_reference": "training-gradients",
        "test_ladder.py::test_clipped_gradients_equal_reference": "training-clipped",
        "test_ladder.py::test_updated_parameters_equal_reference": "training-parameters",
        "test_ladder.py::test_losses_of_later_steps_equal_reference": "training-later-losses",
        "test_run.py::test_two_processes_compute_what_one_does": "training-processes",
        "test_run.py::test_resumed_training_equals_an_undisturbed_one": "training-resume",
        "test_run.py::test_images_per_second": "training-speed",
        "test_static.py::test_static_shapes_compute_what_shapes_of_the_data_do": "training-static-shapes",
        "test_step.py::test_reference_equals_the_official_step": "training-reference",
        "test_step.py::test_own_step_equals_reference": "training-step",
        "test_step.py::test_loss_scale_changes_no_gradient": "training-loss-scale",
        "test_step.py::test_overflow_skips_the_step": "training-overflow",
    },
    "perf": {
        "test_perf.py::test_fps_of_the_device": "perf",
        "test_perf.py::test_compiler_estimates_the_speed": "estimate",
        "test_perf.py::test_tools_elsewhere_state_a_speed_that_the_chip_can_have": "stated speed",
        "test_perf.py::test_suite_is_as_fast_as_a_bare_loop": "harness-overhead",
        "test_perf.py::test_accuracy_run_spends_its_time_in_the_device": "pipeline",
    },
    AGAINST: {"test_slowdown.py::test_model_is_no_slower_than_the_old_one": AGAINST},
}
"""Stage by the test that makes it, ``module.py::test_name``, by group; in the order in which they run: what is known in
seconds before what needs all images."""
AT = " at batch size "


@dataclass(frozen=True, slots=True)
class Owed:
    """A test that must report something about each device.

    Attributes:
        test: ``module.py::test_name``.
        stage: The stage that it makes.
        batch_size: At which it is owed.
    """

    test: str
    stage: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.stage}{AT}{self.batch_size}"


def place_of(test: str) -> int:
    """Return the place of a test, ``module.py::test_name``, in the order in which they run; others come last."""
    order = [name for group in GROUPS.values() for name in group]
    return order.index(test) if test in order else len(order)


def groups_of(tests: Iterable[str]) -> frozenset[str]:
    """Names of the groups to which some of the tests, ``module.py::test_name``, belong."""
    chosen = set(tests)
    return frozenset(group for group, own in GROUPS.items() if not chosen.isdisjoint(own))


def owed_by(groups: Collection[str], batch_sizes: Iterable[int]) -> tuple[Owed, ...]:
    """All that a run owes of each device.

    Args:
        groups: Of which a test was selected.
        batch_sizes: Of the run.
    """
    tests = [pair for group, own in GROUPS.items() if group in groups for pair in own.items()]
    return tuple(Owed(test, stage, size) for size in batch_sizes for test, stage in tests)


def not_run(owed: Iterable[Owed], device: str, messages: Iterable[Message]) -> tuple[str, ...]:
    """Name the owed tests that reported neither a stage nor a speed, as ``STAGE at batch size N``.

    Args:
        owed: From `owed_by`.
        device: Of which something is owed.
        messages: Reported by the checks of all devices.
    """
    ran = {
        (message.test, message.record.batch_size)
        for message in messages
        if isinstance(message, Reported) and message.device == device and isinstance(message.record, Stage | Perf)
    }
    return tuple(str(one) for one in owed if (one.test, one.batch_size) not in ran)


def by_batch_size(names: Iterable[str]) -> str:
    """Join names of the form ``STAGE at batch size N``; stages with the same batch sizes are told together."""
    sizes: dict[str, list[str]] = {}
    for name in names:
        stage, _, size = name.partition(AT)
        sizes.setdefault(stage, []).append(size)
    stages: dict[tuple[str, ...], list[str]] = {}
    for stage, found in sizes.items():
        stages.setdefault(tuple(found), []).append(stage)
    return "; ".join(
        f"{_and(some)} at batch size{'s' if len(found) > 1 else ''} {_and(found)}" for found, some in stages.items()
    )


def _and(words: Collection[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
