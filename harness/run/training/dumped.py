"""A training step that was run elsewhere, rung by rung, from the arrays that came back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from harness.centernet2.cases import duplicated_heads
from harness.centernet2.head import FirstStage
from harness.centernet2.port import Gradients, TrainingPort
from harness.centernet2.proposals import Proposed
from harness.centernet2.rungs import Rung, Values, idle_changes, later_losses, moved, own_values, short_schedule
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, not_applicable
from harness.checks.training.rungs import compare_rung
from harness.checks.training.sets import compare_proposals, with_remarks
from harness.exchange.training_case.read import DUPLICATED, IDLE, Dumped
from harness.run.training.options import BATCH
from harness.run.training.session import CASES, REFERENCE, TrainingSession
from harness.training.devices import autocast

KIND_OF: dict[Rung, tuple[str, ...]] = {
    "features": ("features",),
    "heads": ("logits", "sides"),
    "proposals": ("proposals",),
    "first-losses": ("loss",),
    "stage-losses": ("loss",),
    "gradients": ("gradient",),
}
"""What a dump must hold for a rung to be judged."""
NOT_DUMPED = "a dump does not hold it; what follows from it is judged in the rungs after it"


def rung(session: TrainingSession, which: Rung) -> StageResult:
    """Hold a rung of a dump to what the reference makes of the dump's own upstream.

    Where a dump holds no upstream, the reference's own stands in its place.
    """
    stage, kinds = f"training-{which}", _kinds(which, session.options.precision)
    if not kinds:
        return not_applicable(stage, BATCH, NOT_DUMPED)
    comparisons, remarks = list[Comparison](), list[str]()
    for case in CASES:
        dumps = session.dumps.get(case, [])
        if dumps and all(dumps[0].of(kind) for kind in kinds):
            expected = expected_values(session, which, case, dumps[0])
            found = compare_rung(which, session.basis(which, case), _dumped(which, dumps[0], expected), expected)
            comparisons += found.comparisons
            remarks += found.close
    if which == "proposals":
        comparisons += _duplicated(session, session.reference)
    if not comparisons:
        return not_applicable(stage, BATCH, f"the dump has no {' or '.join(kinds)}")
    result = judge(stage, BATCH, comparisons)
    return StageResult(with_remarks(result.stage, remarks), result.comparisons)


def _kinds(which: Rung, precision: str) -> tuple[str, ...]:
    """Return what a dump must hold for a rung; below float32, losses count where what leads to them is held, too."""
    kinds = KIND_OF.get(which, ())
    if precision == "fp32" or kinds != ("loss",):
        return kinds
    return ("loss", "logits", "sides") if which == "first-losses" else ()


def _dumped(which: Rung, dump: Dumped, expected: Values) -> Values:
    if which in ("features", "heads"):
        return {
            f"{kind} p{level}": value
            for kind in KIND_OF[which]
            for level, value in enumerate(dump.listed(kind) or [], 3)
        }
    if which == "proposals":
        return _named_proposals(_proposals(dump) or [])
    losses = {name: value for name, value in dump.of("loss").items() if name in expected}
    if which != "gradients":
        return losses
    # PyTorch keeps no gradient where none comes back.
    none = {name: torch.zeros_like(value) for name, value in expected.items() if not name.startswith("loss")}
    return {**none, **dump.of("gradient"), **losses}


def expected_values(session: TrainingSession, which: Rung, case: str, dump: Dumped) -> Values:
    """Return what the reference gives for a rung when it is fed the dump's own upstream."""
    if which == "gradients":
        values = session.values(REFERENCE, "fp32", "gradients", case)
        return {name: value for name, value in values.items() if not name.startswith("loss") or dump.of("loss")}
    if which == "features":
        return own_values(session.upstream(case), "features")
    return predicted_values(session, session.reference, which, case, dump)


def predicted_values(session: TrainingSession, port: TrainingPort, which: Rung, case: str, dump: Dumped) -> Values:
    """Return what a port gives for a rung before the gradients when it is fed the dump's own upstream."""
    model, upstream, truth = port.model, session.upstream(case), port.truth(session.case(case))
    with torch.no_grad(), autocast(port.device.device(), port.precision):
        if which == "features":
            features = model.features(model.batch(session.case(case).images)[0])
            return own_values(upstream._replace(features=features), "features")
        features = dump.listed("features") or upstream.features
        heads = model.heads(features) if which == "heads" else _heads(dump) or model.heads(features)
        if which == "heads":
            return own_values(upstream._replace(heads=heads), "heads")
        if which == "first-losses":
            return dict(model.first_losses(heads, model.targets(features, truth)))
        if which == "proposals":
            return _named_proposals(model.proposals(heads))
        given = model.first_boxes(_proposals(dump) or model.proposals(heads), truth, all_proposals=True)
        return dict(model.roi_heads.step(features, given, truth, upstream.sizes)[1])


def _heads(dump: Dumped) -> FirstStage | None:
    logits, sides = dump.listed("logits"), dump.listed("sides")
    return None if logits is None or sides is None else FirstStage(logits, sides)


def _proposals(dump: Dumped) -> list[Proposed] | None:
    found = dump.listed("proposals")
    return None if found is None else [Proposed(one[:, :4], one[:, 4]) for one in found]


def _named_proposals(found: Sequence[Proposed]) -> Values:
    return {
        f"proposals image {image} {part}": getattr(one, part) for image, one in enumerate(found) for part in one._fields
    }


def _duplicated(session: TrainingSession, port: TrainingPort) -> list[Comparison]:
    """Compare the proposals of the heads that predict one box from several levels."""
    dumps = session.dumps.get(DUPLICATED, [])
    found = _proposals(dumps[0]) if dumps else None
    if found is None:
        return []
    model = port.model
    got, expected = _named_proposals(found), _named_proposals(model.proposals(duplicated_heads()))
    if got.keys() != expected.keys():
        problem = f"expected proposals of 1 image, got those of {len(found)}"
        return [Comparison(DUPLICATED, 1, 0, 1, problem)]
    return compare_proposals(DUPLICATED, model.settings, got, expected, 1).comparisons


def parameters(session: TrainingSession) -> StageResult:
    """Hold the parameters after each step to what the reference's solver makes of the dump's own gradients."""
    comparisons = _parameters(session, session.reference)
    if not comparisons:
        return not_applicable("training-parameters", BATCH, "the dump has no gradient and parameter of the same step")
    return judge("training-parameters", BATCH, comparisons)


def _parameters(session: TrainingSession, port: TrainingPort) -> list[Comparison]:
    """Compare the parameters after each step with what the solver of a port makes of the dump's own gradients."""
    dumps = [one for one in session.dumps.get(CASES[0], []) if one.of("parameter") and one.of("gradient")]
    got, expected = dict[str, Tensor](), dict[str, Tensor]()
    for number, (dump, one) in enumerate(zip(dumps, stepped(port, dumps), strict=True)):
        got |= {f"step {number} {name}": value for name, value in _changes(session, dump).items()}
        expected |= {f"step {number} {name}": value for name, value in one.items()}
    for dump in session.dumps.get(IDLE, [])[:1]:
        got |= {f"decay of {name}": value for name, value in _changes(session, dump).items()}
        expected |= {f"decay of {name}": value for name, value in idle_changes(port).items()}
    expected = {name: value for name, value in expected.items() if name in got}
    return compare_rung("parameters", session.basis("parameters", CASES[0]), got, expected).comparisons


def predictions(session: TrainingSession, which: Rung) -> Callable[[TrainingPort], Iterator[Comparison]]:
    """Return a function from a port to the comparisons of the dumps with what the port gives by itself."""
    cases = [case for case in CASES if session.dumps.get(case)]
    if which != "parameters":
        cases.sort(key=lambda case: not _deviates(session, which, case))

    def compared(port: TrainingPort) -> Iterator[Comparison]:
        if which == "parameters":
            yield from _parameters(session, port)
            return
        if which == "proposals" and session.dumps.get(DUPLICATED):
            yield from _duplicated(session, port)
        for case in cases:
            dump = session.dumps[case][0]
            if which != "gradients" and port.shares_counts:
                if all(dump.of(kind) for kind in _kinds(which, session.options.precision)):
                    expected = predicted_values(session, port, which, case, dump)
                    got = _dumped(which, dump, expected)
                    yield from compare_rung(which, session.basis(which, case), got, expected).comparisons
                continue
            losses, gradients = port.losses_and_gradients(session.case(case))
            values = moved({**losses, **gradients}, torch.device("cpu"))
            expected = {name: value for name, value in values.items() if name.startswith("loss") or dump.of("gradient")}
            got = _dumped("gradients", dump, expected)
            yield from compare_rung("gradients", session.basis("gradients", case), got, expected).comparisons

    return compared


def _deviates(session: TrainingSession, which: Rung, case: str) -> bool:
    dump = session.dumps[case][0]
    expected = expected_values(session, which, case, dump)
    found = compare_rung(which, session.basis(which, case), _dumped(which, dump, expected), expected)
    return any(one.problem is not None for one in found.comparisons)


def stepped(port: TrainingPort, dumps: Sequence[Dumped]) -> list[Gradients]:
    """Return the change of each parameter after each step, by a port's solver with the dump's gradients."""
    with short_schedule(port) as before:
        optimizer = port.optimizer()
        found = []
        for iteration, dump in enumerate(dumps):
            zeros = {name: torch.zeros_like(value) for name, value in before.items()}
            given = {name: dump.of("gradient").get(name, zero) for name, zero in zeros.items()}
            port.update(optimizer, iteration, port.clipped(given))
            found.append({name: p.detach() - before[name] for name, p in port.model.named_parameters()})
        return found


def _changes(session: TrainingSession, dump: Dumped) -> Gradients:
    own = dict(session.subject.model.named_parameters())
    return {name: value - own[name].detach() for name, value in dump.of("parameter").items()}


def later(session: TrainingSession) -> StageResult:
    """Hold the losses of the steps on one batch to the reference's."""
    stage, dumps = "training-later-losses", session.dumps.get(CASES[0], [])
    if session.options.precision != "fp32":
        return not_applicable(stage, BATCH, "below float32, steps from random weights drift apart")
    if len(dumps) < 2 or not all(dump.of("loss") for dump in dumps):
        return not_applicable(stage, BATCH, "the dump has no losses of a second iteration")
    expected = later_losses(session.reference, session.case(CASES[0]), len(dumps))
    got = {f"step {k + 1} {name}": value for k, dump in enumerate(dumps) for name, value in dump.of("loss").items()}
    found = compare_rung("gradients", session.basis("gradients", CASES[0]), got, expected)
    return judge(stage, BATCH, found.comparisons)
