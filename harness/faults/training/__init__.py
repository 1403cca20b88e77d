"""Known mistakes of those who port the training of CenterNet2."""

from harness.faults.training.cascade import CASCADE_FAULTS
from harness.faults.training.fault import TrainingFault
from harness.faults.training.heads import HEAD_FAULTS
from harness.faults.training.log import LOG_MISTAKES, LogMistake, explain_figure
from harness.faults.training.matching import MATCHING_FAULTS
from harness.faults.training.network import NETWORK_FAULTS
from harness.faults.training.proposals import PROPOSAL_FAULTS
from harness.faults.training.solver import SOLVER_FAULTS
from harness.faults.training.targets import TARGET_FAULTS
from harness.faults.training.truth import TRUTH_FAULTS

TRAINING_FAULTS: tuple[TrainingFault, ...] = (
    *NETWORK_FAULTS,
    *HEAD_FAULTS,
    *TRUTH_FAULTS,
    *TARGET_FAULTS,
    *PROPOSAL_FAULTS,
    *MATCHING_FAULTS,
    *CASCADE_FAULTS,
    *SOLVER_FAULTS,
)
"""In the order of a step."""

__all__ = ["LOG_MISTAKES", "TRAINING_FAULTS", "LogMistake", "TrainingFault", "explain_figure"]
