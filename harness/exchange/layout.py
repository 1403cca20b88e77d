"""Assignment of result files to images by the file names of ais_bench, benchmark.x86_64 and msame.

================ =================== ========================= ===================================================
tool             file of output i    i counts from             name of the image is cut
================ =================== ========================= ===================================================
ais_bench, msit  ``STEM_i.bin``      0, in the om's order      at the first dot; ``device<id>/`` for several devices
benchmark.x86_64 ``STEM_i.bin``      1                         below ``dumpOutput_device<id>/``
msame            ``STEM_output_i.…`` 0                         at the last dot
================ =================== ========================= ===================================================
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.dataset import first_few
from harness.errors import HarnessError
from harness.files import entries, is_file, is_folder

FIELD = "--outputs"
RESULT = re.compile(r"(?P<stem>.+?)(?P<msame>_output)?_(?P<index>\d+)\.(?P<kind>bin|npy|txt)")
BESIDE = re.compile(
    r".*summary\.json|sumary\.json|manifest\.json|perf_vision_.*\.txt|PureInfer_perf_of_.*\.txt|.*\.log"
)
"""Files that the tools write beside results. The forerunner of ais_bench spells its summary "sumary"."""
DEVICE = re.compile(r"(dumpOutput_)?device_?\d+")
BENCHMARK = re.compile(r"dumpOutput_device_?\d+")


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """The result files of a run.

    Attributes:
        tool: The tool that names files in this way.
        folders: Folders of the files; several if several devices ran.
        files: Files of each image by its id, in the order of the tool's indices.
    """

    tool: str
    folders: tuple[Path, ...]
    files: Mapping[int, tuple[Path, ...]]

    @property
    def kind(self) -> str:
        """Suffix of the files: "bin", "npy" or "txt"."""
        return next(iter(self.files.values()))[0].suffix[1:]


@dataclass(frozen=True, slots=True)
class _Named:
    """A file with the parts of its name."""

    path: Path
    stem: str
    index: int
    msame: bool


def find_results(folder: Path, stems: Mapping[int, str], others: Sequence[str] = ()) -> ResultFiles:
    """Find the result files of every image.

    Args:
        folder: The folder of the results, or the folder around it if that holds no other results.
        stems: Stems of the input files of the wanted images, by image id.
        others: Stems of other images whose results may lie in the folder.

    Raises:
        HarnessError: The folder has no results, or those of several runs; a file is missing, doubled, or of no image.
    """
    folders = result_folders(folder)
    images = _Images(stems, others, folder)
    found: dict[int, dict[int, _Named]] = defaultdict(dict)
    foreign = []
    for file in (file for place in folders for file in entries(place, FIELD) if is_file(file)):
        if BESIDE.fullmatch(file.name):
            continue
        named = _parse(file, images)
        if named is None:
            foreign.append(file.name)
        elif (image_id := images.id_of(named.stem)) is not None:
            other = found[image_id].setdefault(named.index, named)
            if other is not named:
                raise HarnessError(
                    f"two results for output {named.index} of one image: {_shown(other.path, folder)} and "
                    f"{_shown(file, folder)}",
                    file=folder,
                    remedy="keep those of one run",
                )
    if foreign:
        raise HarnessError(
            f"{len(foreign)} files are results of no image of the data set: {first_few(foreign)}",
            file=folder,
            remedy="remove them, or give the --coco and --limit that the inputs were made with",
        )
    files = _complete(found, stems, folder)
    first = next(iter(found.values()))
    return ResultFiles(_tool(folders, first), folders, files)


def result_folders(folder: Path) -> tuple[Path, ...]:
    """Find the folders in which the results of one run lie.

    Raises:
        HarnessError: `folder` is missing, holds no results, or those of several runs.
    """
    if not is_folder(folder):
        raise HarnessError("no such folder", file=folder, field=FIELD, remedy="check the path")
    subfolders = [path for path in entries(folder, FIELD) if is_folder(path)]
    holding = [path for path in (folder, *subfolders) if _has_results(path)]
    devices = [path for path in holding if path == folder or DEVICE.fullmatch(path.name)]
    if devices:
        return tuple(devices)
    runs = [path for path in subfolders if path in holding or any(map(_has_results, _devices_in(path)))]
    if len(runs) == 1:
        return result_folders(runs[0])
    if runs:
        raise HarnessError(
            f"results of {len(runs)} runs: {first_few([path.name for path in runs])}",
            file=folder,
            field="--outputs",
            remedy="give the folder of one of them",
        )
    raise HarnessError(
        "no result files: none is named STEM_0.bin, .npy or .txt, or STEM_output_0.bin",
        file=folder,
        field="--outputs",
        remedy="run ais_bench with --output and --output_dirname, and give that folder",
    )


def _devices_in(folder: Path) -> list[Path]:
    return [path for path in entries(folder, FIELD) if is_folder(path) and DEVICE.fullmatch(path.name)]


def _has_results(folder: Path) -> bool:
    return any(RESULT.fullmatch(path.name) and not BESIDE.fullmatch(path.name) for path in entries(folder, FIELD))


class _Images:
    """Lookup of images by the names of their results, which ais_bench cuts at the first dot."""

    def __init__(self, stems: Mapping[int, str], others: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.wanted = {stem: image_id for image_id, stem in stems.items()}
        self.others = {name for stem in others for name in (stem, stem.partition(".")[0])} - set(self.wanted)
        self.cut: dict[str, list[str]] = defaultdict(list)
        for stem in self.wanted:
            self.cut[stem.partition(".")[0]].append(stem)

    def known(self, stem: str) -> bool:
        """Tell whether results may have this name."""
        return stem in self.wanted or stem in self.cut or stem in self.others

    def id_of(self, stem: str) -> int | None:
        """Return the image of a known name; None if it is not wanted.

        Raises:
            HarnessError: Several wanted images share this name, cut at the first dot.
        """
        if stem in self.wanted:
            return self.wanted[stem]
        if stem not in self.cut:
            return None
        of = self.cut[stem]
        if len(of) > 1:
            raise HarnessError(
                f"'{stem}' is what is left of {len(of)} names cut at the first dot, and one result replaced the "
                f"other: {first_few(of)}",
                file=self.folder,
                remedy="rename the images so that they differ before the first dot, and run them again",
            )
        return self.wanted[of[0]]


def _parse(file: Path, images: _Images) -> _Named | None:
    """Split the name of a result; None if it names no image of the data set."""
    match = RESULT.fullmatch(file.name)
    if match is None:
        return None
    stem, msame, index = match["stem"], match["msame"] is not None, int(match["index"])
    if msame and not images.known(stem):  # an image that is itself called so
        stem, msame = f"{stem}_output", False
    return _Named(file, stem, index, msame) if images.known(stem) else None


def _complete(
    found: Mapping[int, Mapping[int, _Named]], stems: Mapping[int, str], folder: Path
) -> dict[int, tuple[Path, ...]]:
    """Return the files of every wanted image, or refuse the folder if one is missing."""
    indices = sorted({index for named in found.values() for index in named})
    kinds = sorted({entry.path.suffix for named in found.values() for entry in named.values()})
    if len(kinds) > 1:
        raise HarnessError(f"results of several kinds: {', '.join(kinds)}", file=folder, remedy="keep those of one run")
    missing = []
    for image_id, stem in stems.items():
        named = found.get(image_id, {})
        lacking = [index for index in indices if index not in named]
        if not named:
            missing.append(f"all of {stem}")
        elif lacking:
            example = next(iter(named.values())).path.name
            missing += [re.sub(r"\d+(?=\.\w+$)", str(index), example) for index in lacking]
    if missing:
        raise HarnessError(
            f"{len(missing)} results are missing for the {len(stems)} images: {first_few(missing)}",
            file=folder,
            remedy="run these images again, copy the folder again, or give the --limit that it was run with",
        )
    if indices[0] not in (0, 1) or indices != list(range(indices[0], indices[0] + len(indices))):
        raise HarnessError(
            f"the outputs are numbered {first_few(indices)}, which no tool does",
            file=folder,
            remedy="give the folder as ais_bench, benchmark.x86_64 or msame wrote it",
        )
    return {image_id: tuple(found[image_id][index].path for index in indices) for image_id in stems}


def _tool(folders: Sequence[Path], first: Mapping[int, _Named]) -> str:
    if any(entry.msame for entry in first.values()):
        return "msame"
    # The place tells as well: a run of benchmark whose folder was renamed still counts from 1.
    return "benchmark.x86_64" if min(first) == 1 or BENCHMARK.fullmatch(folders[0].name) else "ais_bench"


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))
