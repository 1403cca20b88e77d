"""Memory of this machine, and refusal of what it cannot hold before anything is allocated."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from harness.cards import AnyCard, TwoStageCard
from harness.errors import HarnessError

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files in which Linux states the memory that a container may use."""
FLOAT32 = 4


@cache
def machine_memory() -> int | None:
    """Return the bytes that this machine, or the container, has in all; None where it does not say.

    What is free at the moment does not count: the answer would depend on the load.
    """
    found = []
    if "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in LIMITS:
        text = file.read_text().strip() if file.is_file() else ""
        found += [int(text)] if text.isdecimal() else []
    return min(found, default=None)


def require_memory(
    size: int, what: str, *, file: Path | None = None, field: str | None = None, remedy: str | None = None
) -> None:
    """Refuse what is larger than the memory of this machine.

    Args:
        size: Bytes that it takes at least.
        what: What takes them.
        file: The file that asks for it.
        field: The field or option that asks for it.
        remedy: Advice how to ask for less.

    Raises:
        HarnessError: It does not fit.
    """
    held = machine_memory()
    if held is not None and size > held:
        raise HarnessError(
            f"{what} takes {_shown(size)}, and this machine has {_shown(held)} of memory",
            file=file,
            field=field,
            remedy=remedy,
        )


def require_batch_memory(card: AnyCard, batch_size: int) -> None:
    """Refuse a batch whose input and heads alone do not fit; a keep_res or two-stage card has no size of its own.

    Raises:
        HarnessError: They do not fit.
    """
    if isinstance(card, TwoStageCard) or card.input.keep_res:
        return
    height, width = card.input.height, card.input.width
    pixel = 1 if card.input.dtype == "uint8" else FLOAT32
    heads = sum(card.head_channels.values()) * (height // card.decode.stride) * (width // card.decode.stride) * FLOAT32
    require_memory(
        batch_size * (3 * height * width * pixel + heads),
        f"a batch of {batch_size} images of {width} x {height} pixels",
        field="--batch-sizes",
        remedy="give a smaller batch size, or a card with a smaller input",
    )


def _shown(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size < 2**40 else f"{size / 2**40:.1f} TiB"
