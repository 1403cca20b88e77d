"""One way to read the outputs of a model, and the card that says it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.cards import ModelCard
from harness.cards.model import Decode, OutputHeads
from harness.run.card_draft.port import Port
from harness.run.card_draft.preparation import Preparation
from harness.run.card_draft.roles import Roles
from harness.types import Outputs

Heatmap = Literal["logits", "probability"]
Unit = Literal["grid", "input"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the outputs.

    Attributes:
        roles: Which output is which head.
        hm: What the heatmap holds.
        unit: Of the boxes.
        swapped: Whether height stands before width (top before left), which no card can say.
    """

    roles: Roles
    hm: Heatmap
    unit: Unit = "grid"
    swapped: bool = False

    def oriented(self, outputs: Outputs) -> Outputs:
        """Return the outputs with width before height, as a card reads them."""
        if not self.swapped:
            return outputs
        block = dict(self.roles.blocks)["wh"]
        turned = outputs[block.tensor].copy()
        sizes = block.of(outputs)
        turned[:, block.start : block.stop] = sizes[:, [1, 0, 3, 2] if sizes.shape[1] == 4 else [1, 0]]
        return {**outputs, block.tensor: turned}

    def forms(self) -> list[Reading]:
        """The reading with either unit and either order of the axes, itself first."""
        turned = replace(self, swapped=not self.swapped)
        return [self, *self.others_of(())["unit"], turned, *turned.others_of(())["unit"]]

    def others_of(self, roles: tuple[Roles, ...]) -> dict[str, list[Reading]]:
        """The readings that differ in one answer, by question."""
        unit: Unit = "input" if self.unit == "grid" else "grid"
        return {
            "unit": [replace(self, unit=unit)],
            "axes": [replace(self, swapped=not self.swapped)],
            "roles": [replace(self, roles=other) for other in roles if other != self.roles],
        }


def card_of(port: Port, preparation: Preparation, reading: Reading, category_ids: tuple[int, ...]) -> ModelCard:
    """The card of a model that is prepared and read like this; name and description are still to be given."""
    roles = reading.roles
    heads = OutputHeads.model_validate(
        {
            "names": roles.names,
            "heads": roles.heads,
            "concatenated": roles.concatenated,
            "hm": reading.hm,
            "box": roles.box,
            "box_unit": reading.unit,
        }
    )
    return ModelCard(
        name="draft",
        description="",
        source="",
        category_ids=category_ids,
        input=preparation.input_of(port),
        output=heads,
        decode=Decode(stride=port.stride),
        batch_sizes=(1,) if preparation.keep_res else (port.slots,),
    )
