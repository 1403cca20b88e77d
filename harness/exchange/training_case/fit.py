"""Dumps of a training step held to the model that they are said to be of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from harness.centernet2.model import CenterNet2
from harness.errors import HarnessError
from harness.exchange.training_case.read import Dumped

FIRST_LOSSES = ("loss_centernet_loc", "loss_centernet_agn_pos", "loss_centernet_agn_neg")


def require_fit(dumps: Mapping[str, Sequence[Dumped]], precision: str, model: CenterNet2) -> None:
    """Refuse dumps of another network or another precision.

    Args:
        dumps: By batch.
        precision: Of the run.
        model: That they should be of.

    Raises:
        HarnessError: Names or shapes differ from the model's.
    """
    own = dict(model.named_parameters())
    stages = range(len(model.settings.roi.overlaps))
    losses = {*FIRST_LOSSES, *(f"loss_{kind}_stage{stage}" for stage in stages for kind in ("cls", "box_reg"))}
    for answers in dumps.values():
        for dump in answers:
            if dump.about.precision != precision:
                raise HarnessError(
                    f"it was computed in {dump.about.precision}",
                    file=dump.file,
                    field="--precision",
                    remedy=f"add --precision {dump.about.precision}",
                )
            odd = sorted(dump.of("loss").keys() - losses)
            if odd:
                raise HarnessError(
                    f"no loss of the step is named {', '.join(odd)}",
                    file=dump.file,
                    field=f"loss/{odd[0]}",
                    remedy=f"the losses are {', '.join(sorted(losses))}",
                )
            for kind in ("gradient", "parameter"):
                _require_shapes(dump, kind, own)


def _require_shapes(dump: Dumped, kind: str, own: Mapping[str, Tensor]) -> None:
    for name, value in dump.of(kind).items():
        field = f"{kind}/{name}"
        if name not in own:
            raise HarnessError(
                "the model has no parameter of this name",
                file=dump.file,
                field=field,
                remedy="dump the model that the weights of the case were loaded into, with its own names",
            )
        if value.shape != own[name].shape:
            turned = " (transposed)" if value.shape == own[name].T.shape and value.dim() == 2 else ""
            raise HarnessError(
                f"expected shape {tuple(own[name].shape)}, got {tuple(value.shape)}{turned}",
                file=dump.file,
                field=field,
                remedy="dump it in the layout of PyTorch",
            )
