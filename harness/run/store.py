"""Store of outputs, so that a run that was killed goes on where it was and the reference is computed once.

An entry holds the outputs of one batch. It is filed under everything that they depend on (`harness.run.ingredients`)
and the bytes of its images, and is written whole or not at all. Only what this project itself computes as the reference
is served to every run. What a device that is judged gave is served to the run that made it, where that was interrupted,
and to one that asks for it with ``--reuse``.
"""

from __future__ import annotations

import datetime
import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from harness.cache import content_key
from harness.errors import HarnessError
from harness.exchange.npz import read_npz
from harness.files import is_file, whole_file
from harness.paths import STORE, cache_path

logger = logging.getLogger(__name__)

RUNS = "runs"
ABOUT, ARRAY = "about", "array "
SCHEMA = 1
MOST_BYTES = 2**33
"""Of an entry."""
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Entry:
    """Stored outputs of one batch.

    Attributes:
        arrays: By name.
        made: Date and time (ISO 8601, UTC) at which they were computed.
    """

    arrays: Arrays
    made: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Part of the store that a run is served.

    Attributes:
        reuse: Outputs of judged devices, whichever run made them.
        fresh: Nothing at all.
    """

    reuse: bool = False
    fresh: bool = False


@dataclass
class Store:
    """The store of one run.

    Args:
        policy: What the run is served.
        folder: Where the entries are; by default in the cache.
        run: Number of the run, where another process has begun it.
        extra: Gives further ingredients, of all outputs.
        asked: Of a run, beside its identity: which tests were selected.
    """

    policy: Policy = field(default_factory=Policy)
    folder: Path = field(default_factory=lambda: cache_path() / STORE)
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    extra: Callable[[], Mapping[str, object]] = dict
    asked: Mapping[str, object] = field(default_factory=dict)
    _marker: Path | None = None
    _lock: FileLock | None = None
    _told: bool = False

    def begin(self, identity: Mapping[str, object]) -> str | None:
        """Begin a run, or go on with one that was interrupted.

        Args:
            identity: What is asked for; a run that asks for the same is the same run.

        Returns:
            When the interrupted run began; None of a new one.
        """
        marker = self.folder / RUNS / f"{content_key({**identity, **self.asked})}.json"
        lock = FileLock(marker.with_suffix(".lock"))
        try:
            marker.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:  # the same run is under way beside this one, which cannot be gone on with
            return None
        except OSError as error:
            self._cannot_write(error.strerror or str(error))
            return None
        self._lock, self._marker = lock, marker
        earlier = None if self.policy.fresh else _read_marker(marker)
        if earlier is not None:
            self.run = earlier["run"]
            return earlier["since"]
        self._write(marker, lambda file: file.write_text(json.dumps({"run": self.run, "since": _now()}) + "\n"))
        return None

    def finish(self) -> None:
        """Note that the run came to its end: nothing of it is gone on with."""
        if self._marker is not None:
            with suppress(OSError):
                self._marker.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others begin the same run; more than once is allowed."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def shelf(self, ingredients: Mapping[str, object], *, judged: bool) -> Shelf:
        """Return the place of all outputs that depend on the same things.

        Args:
            ingredients: Everything but the images.
            judged: Whether they are a judged device's.
        """
        parts = {**ingredients, **self.extra(), "schema": SCHEMA}
        return Shelf(self, self.folder / content_key(parts), judged, parts)

    def _write(self, file: Path, write: Callable[[Path], object]) -> None:
        """Write a file whole; where that cannot be done, say so once, and store nothing."""
        if self._told:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as partial:
                write(partial)
        except HarnessError as error:
            self._cannot_write(error.cause)
        except OSError as error:
            self._cannot_write(error.strerror or str(error))

    def _cannot_write(self, reason: str) -> None:
        if not self._told:
            logger.warning("%s: %s: nothing more is stored, and a run that is killed begins anew", self.folder, reason)
        self._told = True


@dataclass(frozen=True)
class Shelf:
    """Outputs that depend on the same things but for their images, from `Store.shelf`."""

    store: Store
    folder: Path
    judged: bool
    parts: Mapping[str, object]

    def load(self, of: Sequence[str]) -> Entry | None:
        """Return the outputs of a batch; None where there are none that this run is served.

        Args:
            of: Hashes of its images, in order, or whatever else tells the entry from its neighbours.
        """
        if self.store.policy.fresh:
            return None
        file = self._file(of)
        if not is_file(file):
            return None
        try:
            arrays = read_npz(file, MOST_BYTES, remedy="")
            about = json.loads(arrays.pop(ABOUT).tobytes())
            if [about["schema"], about["of"], about["shelf"]] != [SCHEMA, list(of), self.folder.name]:
                raise ValueError("it is of something else")
            run, made = str(about["run"]), str(about["made"])
        except (HarnessError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: it is damaged (%s), and is made anew", file, getattr(error, "cause", error))
            return None
        arrays = {name.removeprefix(ARRAY): array for name, array in arrays.items()}
        served = not self.judged or self.store.policy.reuse or run == self.store.run
        return Entry(arrays, made) if served else None

    def save(self, of: Sequence[str], arrays: Arrays) -> None:
        """Keep the outputs of a batch, whole or not at all; a store that cannot be written is said once.

        Args:
            of: As `load` takes it.
            arrays: By name.
        """
        file = self._file(of)
        about = {"schema": SCHEMA, "shelf": self.folder.name, "of": list(of), "run": self.store.run, "made": _now()}
        named: dict[str, Any] = {ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)}
        named |= {f"{ARRAY}{name}": array for name, array in arrays.items()}  # no name is an argument of NumPy's

        def write(partial: Path) -> None:
            with partial.open("wb") as opened:
                np.savez(opened, **named)

        described = self.folder / "ingredients.json"
        if not described.exists():
            text = json.dumps(self.parts, indent=1, sort_keys=True)
            self.store._write(described, lambda partial: partial.write_text(text + "\n", encoding="utf-8"))
        self.store._write(file, write)

    def remembered(self, what: str, run: Callable[[NDArray[Any]], Arrays]) -> Callable[[NDArray[Any]], dict[str, Any]]:
        """Return `run` with its results stored by the bytes of its argument.

        Args:
            what: Name of the function.
            run: From one batch to arrays or numbers by name.
        """

        def stored(images: NDArray[Any]) -> dict[str, Any]:
            of = [what, content_key({"shape": images.shape, "type": str(images.dtype), "bytes": _sha256(images)})]
            entry = self.load(of)
            if entry is not None:
                return dict(entry.arrays)
            found = dict(run(images))
            self.save(of, {name: np.asarray(value) for name, value in found.items()})
            return found

        return stored

    def _file(self, of: Sequence[str]) -> Path:
        key = content_key({"of": list(of)})
        return self.folder / key[:2] / f"{key}.npz"  # a folder of all would take long to look through


def _read_marker(file: Path) -> dict[str, str] | None:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return {"run": str(told["run"]), "since": str(told["since"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sha256(array: NDArray[Any]) -> str:
    return sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
