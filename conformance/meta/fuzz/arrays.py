"""Damage to NumPy's files and to images: headers, shapes, types, members of archives."""

import io
import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.meta.fuzz.checkpoints import Payload

HEADERS: tuple[str, ...] = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (80, 16, 16), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<U9', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '|V8', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 3, }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1.5,), }",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (), }",
    "{'descr': 'zz', 'fortran_order': False, 'shape': (), }",
    "{'shape': ()}", "[1]", "(" * 5000, "__import__('os').system('touch canary')", "\0" * 60, "",
)  # fmt: skip


def change_npy(random: Random, source: Path, target: Path) -> str:
    """Change the header, the shape, the type or the values of an array."""
    data, said = _changed_array(random, np.load(source), target.parent / "canary")
    target.write_bytes(data)
    return said


def change_npz(random: Random, source: Path, target: Path) -> str:
    """Change one array of an archive, the archive, or the names in it."""
    with np.load(source) as saved:
        arrays = {name: saved[name] for name in saved.files}
    name = random.choice(list(arrays))
    members = {f"{key}.npy": _npy(array) for key, array in arrays.items()}
    kind = random.choice(("array", "array", "array", "gone", "more", "renamed", "no array", "bomb", "twice"))
    said = kind
    if kind == "array":
        members[f"{name}.npy"], said = _changed_array(random, arrays[name], target.parent / "canary")
    elif kind == "gone":
        del members[f"{name}.npy"]
    elif kind == "renamed":
        other = random.choice(("../../canary.npy", ".npy", f"{name}", "x" * 300, "\x1b[31m.npy", f"{name}.npy/x"))
        members[other] = members.pop(f"{name}.npy")
    elif kind == "bomb":
        members[f"{name}.npy"] = _npy(np.zeros(2**26, np.float32))
    elif kind != "twice":
        members["extra.npy" if kind == "more" else f"{name}.npy"] = b"no array"
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for member, content in [*members.items(), *list(members.items())[: kind == "twice"]]:
            archive.writestr(member, content)
    return f"{name}: {said}"


def _changed_array(random: Random, array: NDArray[Any], canary: Path) -> tuple[bytes, str]:
    kind = random.choice(("header", "header", "type", "values", "values", "shape", "objects", "cut"))
    if kind == "header":
        header = random.choice(HEADERS).encode()
        version = random.choice((b"\x01\0", b"\x01\0", b"\x02\0", b"\x03\0", b"\x09\0"))
        size = struct.pack("<H" if version[0] == 1 else "<I", random.choice((len(header), len(header), 0, 65535)))
        return b"\x93NUMPY" + version + size + header + array.tobytes(), f"header {header[:60]!r}"
    if kind == "type":
        name = random.choice(
            ("float16", "float64", ">f4", "int8", "uint8", "int64", "bool", "complex64", "U8", "longdouble")
        )
        with np.errstate(invalid="ignore"):
            return _npy(array.astype(name)), f"type {name}"
    if kind == "values":
        value = random.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0, 1e6, -1e6))
        # Whole numbers have no infinity: a number of every type takes the value in its own way.
        changed = array.copy() if array.dtype.kind == "f" else array.astype(np.float64)
        changed[random.choice((..., 0, -1))] = value
        with np.errstate(invalid="ignore", over="ignore"):
            return _npy(changed.astype(array.dtype)), f"values {value}"
    if kind == "shape":
        shape = random.choice(((-1,), (1, *array.shape), array.shape[::-1], (*array.shape, 1), (0, 80)))
        return _npy(np.zeros(shape, array.dtype) if 0 in shape else array.reshape(shape)), f"shape {shape}"
    if kind == "objects":
        odd = np.empty(1, object)
        odd[0] = Payload(random.randrange(5), canary)
        head = b"\x93NUMPY\x01\0" + struct.pack("<H", len(HEADERS[5])) + HEADERS[5].encode()
        return random.choice((head + pickle.dumps(odd), pickle.dumps(odd))), "a pickle that runs something"
    data = _npy(array)
    return data[: random.randrange(len(data))], "cut"


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


SIDES = (0, 1, 65, 60_000, 2**31 - 1, 2**32 - 1)


def change_png(random: Random, source: Path, target: Path) -> str:
    """Let a PNG state another size, depth or kind of colour, its checksum right."""
    data = bytearray(source.read_bytes())
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    kind = random.choice(("both", "width", "height", "depth"))
    width = random.choice(SIDES) if kind in ("both", "width") else width
    height = random.choice(SIDES) if kind in ("both", "height") else height
    depth, colour = random.choice(((16, 2), (1, 0), (8, 3), (8, 6), (7, 9))) if kind == "depth" else (depth, colour)
    data[16:26] = struct.pack(">IIBB", width, height, depth, colour)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    target.write_bytes(data)
    return f"{width} x {height}, {depth} bits, colour {colour}"
