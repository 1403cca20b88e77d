"""The size of an image as its file states it, read before a decoder allocates it."""

from __future__ import annotations

import struct

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
"""Markers of a JPEG whose segment states the size (ITU-T T.81, table B.1, SOF)."""
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment."""


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) in pixels as a PNG or JPEG states it; None for other formats and damaged files."""
    if data.startswith(PNG) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    return _of_jpeg(data) if data.startswith(JPEG) else None


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # a byte that fills
            place += 1
        elif marker in ALONE:
            place += 2
        elif marker in FRAMES:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        else:
            place += 2 + int(struct.unpack(">H", data[place + 2 : place + 4])[0])
    return None
