"""What is said and kept of an error that nobody foresaw: one line, and a log file with its traceback."""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from harness.text import brief

LONGEST_REASON = 200
PACKAGES = ("robustness-harness", "torch", "transformers", "vllm", "ray", "peft", "numpy")
"""What a report names the versions of, where they are installed."""


def error_line(error: BaseException) -> str:
    """Return kind and text of ``error`` on one line, shortened."""
    if isinstance(error, SystemExit):
        return f"a library ended the program with exit code {error.code!r}"
    return brief(error, LONGEST_REASON)


def traceback_of(error: BaseException) -> str:
    """Return the traceback of ``error``; as much of it as can be had."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception as other:  # as RecursionError in the error's own text
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{error_line(error)} (its text cannot be shown: {type(other).__name__})\n"


def keep_log(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write versions, command line and traceback to a new file and return it; None where no folder takes it.

    The file lies under ``robustness-harness/errors`` of ``$XDG_CACHE_HOME`` (default ``~/.cache``), else in the folder
    of temporary files.
    """
    text = "\n".join(
        (
            f"harness {' '.join(arguments)}",
            f"{datetime.datetime.now(datetime.UTC).isoformat()}, in {_working_folder()}",
            f"Python {platform.python_version()}, {platform.platform()}, {_versions()}",
            "",
            traceback_of(error),
        )
    )
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, prefix=f"harness-{datetime.date.today()}-", suffix=".log")
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return Path(name)
    return None


def _folders() -> list[Path]:
    found = []
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        found.append((Path(cache) if cache else Path.home() / ".cache") / "robustness-harness" / "errors")
        found.append(Path(tempfile.gettempdir()))
    except (OSError, RuntimeError):  # no home, no folder for temporary files
        pass
    return found


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it may be gone
        return "a folder that is gone"


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
