"""Records of invented runs."""

from harness.report.records import Accuracy, Data, Document, Outcome, Perf, Run, Stage


def accuracy(ap: float, batch_size: int = 1) -> Accuracy:
    return Accuracy(
        batch_size=batch_size, AP=ap, AP50=0.6, AP75=0.4, APs=None, APm=None, APl=None, images=9,
        reference_AP=0.5, allowed_loss=0.0005, floor="none",
    )  # fmt: skip


def stage(outcome: Outcome, name: str = "heads", batch_size: int = 1) -> Stage:
    return Stage(name=name, batch_size=batch_size, outcome=outcome, measured=0.0, allowed=1.0, comparisons=1)


def run(*records: Stage | Accuracy | Perf, device: str = "chip", precision: str = "fp32") -> Run:
    of_run = {"device": device, "execution": "silicon", "precision": precision, "verdict": "conforms"}
    stages = tuple(record for record in records if isinstance(record, Stage))
    accuracies = tuple(record for record in records if isinstance(record, Accuracy))
    speeds = tuple(record for record in records if isinstance(record, Perf))
    return Run(**of_run, stages=stages, accuracy=accuracies, perf=speeds)


def document(*runs: Run, model: str = "tiny", sha256: str = "ab" * 32) -> Document:
    data = Data(name="coco", images=9, sha256=sha256)
    return Document(model=model, data=data, environment={}, verdict="conforms", runs=runs)
