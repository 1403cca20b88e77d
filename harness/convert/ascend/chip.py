"""Options of Ascend's compiler on a device card."""

from __future__ import annotations

from pydantic import Field

from harness.cards.schema import Name, Record

TOOLCHAIN = "cann"
"""Name of CANN on a device card."""


class AscendChip(Record):
    """Table ``[vendor]`` of a device card whose toolchain is CANN."""

    socs: tuple[Name, ...] = Field(min_length=1)
    """Values of ``atc --soc_version``; figures were published for the first."""
