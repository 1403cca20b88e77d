"""Files: those of a user, read with limits; those written, whole or not at all; those that go with the process."""

from harness.files.reading import (
    entries,
    file_sha256,
    is_file,
    is_folder,
    open_regular,
    read_json,
    read_regular,
    read_text,
)
from harness.files.writing import check_output, check_output_folder, check_replaceable, whole_file, whole_folder

__all__ = [
    "check_output", "check_output_folder", "check_replaceable", "entries", "file_sha256", "is_file", "is_folder",
    "open_regular", "read_json", "read_regular", "read_text", "whole_file", "whole_folder",
]  # fmt: skip
