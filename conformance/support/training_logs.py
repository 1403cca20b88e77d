"""Training logs as detectron2 and the Ascend port write them, made from figures that a test knows."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LOSSES = ("loss_centernet_loc", "loss_centernet_agn_pos", "loss_centernet_agn_neg", "loss_cls_stage0")
EVALUATION = """\
[11/08 12:00:00 d2.evaluation.coco_evaluation]: Evaluation results for bbox:
|   AP   |  AP50  |  AP75  |  APs   |  APm   |  APl   |
|:------:|:------:|:------:|:------:|:------:|:------:|
| 43.512 | 60.125 | 46.250 | 25.000 | 46.500 |  nan   |
"""
SUMMARY = """\
Network = CenterNet2
RankSize = 8
BatchSize = 64
DeviceType = aarch64
CaseName = CenterNet2_bs64_8p_acc
ActualFPS = 18.7
TrainingTime = 3422.46
TrainAccuracy = 0.0
ActualLoss = 1.234
E2ETrainingTime = 239400
"""


@dataclass
class Run:
    """A training of which logs are written.

    Attributes:
        iterations: Iterations after which a record is written, by their number in the log.
        rate: Learning rate of an iteration, from 0.
        seconds: Time of an iteration, from 0.
        loss: First loss of an iteration, by its number; the others are 2, 3 ... times as large.
        batch_size: Images of an iteration; None if the log shall not say.
        planned: Iterations that the settings ask for, likewise.
        step_fps: Whether the speed of an iteration is logged, as the port does.
        counted_from: Number of the first iteration.
        eta: Estimates of the time that is left, in turn.
    """

    iterations: Sequence[int]
    rate: Callable[[int], float] = lambda iteration: 0.02
    seconds: Callable[[int], float] = lambda iteration: 0.65
    loss: Callable[[int], float] = lambda iteration: 1 / (iteration + 1)
    batch_size: int | None = 16
    planned: int | None = None
    step_fps: bool = False
    counted_from: int = 0
    eta: Sequence[str] = field(default=("1 day, 2:03:04", "0:12:31", "N/A"))

    def losses(self, iteration: int) -> dict[str, float]:
        """Return the losses of an iteration by name, their sum first."""
        parts = {name: place * self.loss(iteration) for place, name in enumerate(LOSSES, 1)}
        return {"total_loss": sum(parts.values()), **parts}

    def lines(self, *, colour: bool = True) -> list[str]:
        """Return the lines of training in a detectron2 log; ``time`` is the mean since the start."""
        before, after = ("\x1b[32m", "\x1b[0m") if colour else ("", "")
        logged, total, done = [], 0.0, 0
        for number, iteration in enumerate(self.iterations):
            index = iteration - self.counted_from
            total += sum(map(self.seconds, range(done, index + 1)))
            done = index + 1
            losses = "  ".join(f"{name}: {value:.4g}" for name, value in self.losses(iteration).items())
            fps = f"step_fps: {(self.batch_size or 1) / self.seconds(index):.5g} " if self.step_fps else ""
            logged.append(
                f"{before}[11/08 12:{number % 60:02}:00 d2.utils.events]: {after} eta: "
                f"{self.eta[number % len(self.eta)]}  iter: {iteration}  {losses}  time: {total / done:.4f}  "
                f"data_time: 0.0125  lr: {self.rate(index):.5g}  {fps}max_mem: 5937M"
            )
        return logged

    def text(self, *, colour: bool = True) -> str:
        """Return the whole log: settings, then the lines of training."""
        settings = ["Command line arguments: Namespace(num_gpus=8)"]
        settings += [] if self.batch_size is None else ["  IMS_PER_BATCH: 2", f"  IMS_PER_BATCH: {self.batch_size}"]
        settings += [] if self.planned is None else [f"opts=['SOLVER.MAX_ITER', '{self.planned}']"]
        return "".join(f"{line}\n" for line in [*settings, *self.lines(colour=colour)])

    def json_lines(self) -> str:
        """Return metrics.json; ``time`` is that of the iterations since the record before."""
        return "".join(
            json.dumps(
                {
                    "iteration": iteration,
                    **self.losses(iteration),
                    "lr": self.rate(iteration - self.counted_from),
                    "time": self.seconds(iteration - self.counted_from),
                    "data_time": 0.0125,
                    "eta_seconds": 12.5,
                }
            )
            + "\n"
            for iteration in self.iterations
        )


def every_20(last: int) -> range:
    """Return the iterations after which detectron2 logs, up to `last`."""
    return range(19, last + 1, 20)
