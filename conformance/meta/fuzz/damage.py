"""Damage to files of any format: to their bytes, and to what stands in their place."""

import os
import re
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

Damage = Callable[[Random, Path, Path], str]
"""From a real file (second) to a mutant at a new path (third); returns a few words on what was done."""

Change = Callable[[Random, bytes], bytes]


def flip_bits(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(random: Random, data: bytes) -> bytes:
    return data[: random.choice((0, 1, 4, 8, random.randrange(len(data)), len(data) // 2, len(data) - 1))]


def behead(random: Random, data: bytes) -> bytes:
    return data[random.choice((1, 2, 8, random.randrange(len(data)))) :]


def double(random: Random, data: bytes) -> bytes:
    start, end = _range(random, data)
    return random.choice((data + data, data[:end] + data[start:]))


def splice(random: Random, data: bytes) -> bytes:
    (start, end), at = _range(random, data), random.randrange(len(data))
    return data[:at] + data[start:end] + data[at + end - start :]


def leave_out(random: Random, data: bytes) -> bytes:
    start, end = _range(random, data)
    return data[:start] + data[end:]


def overwrite(random: Random, data: bytes) -> bytes:
    start, end = _range(random, data)
    return data[:start] + bytes([random.choice((0, 0, 0xFF, 0x20, 0x80))]) * (end - start) + data[end:]


def insert_noise(random: Random, data: bytes) -> bytes:
    at, noise = (
        random.randrange(len(data)),
        random.choice((b"\0", b"\xff\xfe", b"\x1b[31m", b"\r\n", random.randbytes(9))),
    )
    return data[:at] + noise + data[at:]


def insert_length(random: Random, data: bytes) -> bytes:
    """Overwrite 4 or 8 bytes by a huge or a negative number, as a length or an offset may be."""
    at, size = random.randrange(len(data)), random.choice((4, 8))
    value = random.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 2), 10**8))
    return data[:at] + value.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]


def append_noise(random: Random, data: bytes) -> bytes:
    return data + random.choice((b"\0", b"\n", b"}", random.randbytes(100), b"\0" * 100_000))


def byte_order_mark(random: Random, data: bytes) -> bytes:
    return random.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0")) + data


def other_encoding(random: Random, data: bytes) -> bytes:
    encoding = random.choice(("utf-16", "utf-16-le", "utf-32", "cp500"))
    return data.decode("latin-1").encode(encoding, "replace")


def long_line(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + random.choice((b"x", b"9", b"\xc3\xa9", b" ", b"[")) * 100_000 + data[at:]


def something_else(random: Random, data: bytes) -> bytes:
    """Replace the content by that of another kind of file, as a wrong path or a failed download does."""
    del data
    kinds = (
        b"", b"\n", b"null", b"[]", b"{}", b"0", b'"text"', b"\0" * 4096, b"<!DOCTYPE html><html>", b"PK\x03\x04",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", b"PK\x05\x06" + b"\0" * 18,
        b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\0", b"\x80\x02.", b"%PDF-1.7", b"#!/bin/sh\ntouch canary\n",
    )  # fmt: skip
    return random.choice((*kinds, random.randbytes(random.choice((1, 16, 300, 5000)))))


def _range(random: Random, data: bytes) -> tuple[int, int]:
    """A part of the data, mostly a small one."""
    start = random.randrange(len(data))
    return start, min(len(data), start + random.choice((1, 2, 4, 8, 100, len(data) // 4 + 1)))


CHANGES: tuple[Change, ...] = (
    flip_bits, cut, overwrite, splice, flip_bits, leave_out, double, behead, insert_noise, insert_length, append_noise,
    something_else, byte_order_mark, other_encoding, long_line,
)  # fmt: skip


def change_bytes(random: Random, source: Path, target: Path) -> str:
    """Damage the bytes of a file, once or a few times."""
    data, done = source.read_bytes(), []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        change = random.choice(CHANGES)
        data = change(random, data) if data else data
        done.append(change.__name__)
    target.write_bytes(data)
    return ", ".join(done)


def a_folder(source: Path, target: Path) -> None:
    target.mkdir()


def a_named_pipe(source: Path, target: Path) -> None:
    os.mkfifo(target)


def a_socket(source: Path, target: Path) -> None:
    here = Path.cwd()
    os.chdir(target.parent)  # the address of a socket is short
    try:
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(target.name)
    finally:
        os.chdir(here)


def a_link_to_nothing(source: Path, target: Path) -> None:
    target.symlink_to("nothing")


def a_link_to_itself(source: Path, target: Path) -> None:
    target.symlink_to(target.name)


def a_link_to_the_file(source: Path, target: Path) -> None:
    target.symlink_to(source)


def a_link_to_a_folder(source: Path, target: Path) -> None:
    target.symlink_to(source.parent)


def an_endless_device(source: Path, target: Path) -> None:
    target.symlink_to("/dev/zero")


def an_empty_device(source: Path, target: Path) -> None:
    target.symlink_to("/dev/null")


def a_file_of_proc(source: Path, target: Path) -> None:
    target.symlink_to("/proc/self/mem")


def a_huge_hole(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    os.truncate(target, 2**42)


def nothing(source: Path, target: Path) -> None:
    """Leave the place empty."""


PLACES: tuple[Callable[[Path, Path], None], ...] = (
    a_folder, a_named_pipe, a_socket, a_link_to_nothing, a_link_to_itself, a_link_to_the_file, a_link_to_a_folder,
    an_endless_device, an_empty_device, a_file_of_proc, a_huge_hole, nothing,
)  # fmt: skip


def replace_file(random: Random, source: Path, target: Path) -> str:
    """Put something in the place of a file that is no file, or none that has an end."""
    place = random.choice(PLACES)
    place(source, target)
    return f"{place.__name__.replace('_', ' ')} in its place"


NUMBERS: tuple[bytes, ...] = (
    b"nan", b"inf", b"-inf", b"1e400", b"-1", b"0", b"0.0", b"1" * 5000, b"18446744073709551616", b"1e-400", b"",
    b"0x10", b"1_000", b"1,5", b"--1", b"\xd9\xa3", b"NaN ", b"1e308", b"1e9",
)  # fmt: skip


def change_numbers(random: Random, source: Path, target: Path) -> str:
    """Replace numbers of a text by odd ones."""
    data = source.read_bytes()
    places = [match.span() for match in re.finditer(rb"\d+(\.\d+)?(e[-+]?\d+)?", data)]
    said = []
    for start, end in sorted(random.sample(places, min(len(places), random.choice((1, 1, 2, 5)))), reverse=True):
        token = random.choice(NUMBERS)
        data = data[:start] + token + data[end:]
        said.append(f"{token[:20]!r} at byte {start}")
    target.write_bytes(data)
    return ", ".join(said)
