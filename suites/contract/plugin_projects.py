"""Other people's projects for the tests of the plugin: the wheel they install, how they call pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OTHERS = ("hypothesispytest", "benchmark", "hydra_pytest", "anyio", "platformdirs")
"""Plugins of this environment that other people need not have; two of them take seconds to load."""

SOURCES = ("harness", "baselines", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def build_wheel(work: Path) -> Path:
    """Builds the wheel from a copy of the sources and installs it, alone, into the folder that is returned."""
    source, target = work / "source", work / "installed"
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", *alone, "-w", str(work), str(source)], check=True)
    (wheel,) = work.glob("*.whl")
    subprocess.run([*pip, "install", "--no-compile", *alone, "--target", str(target), str(wheel)], check=True)
    return target


def outside(installed: Path | None, **more: str) -> dict[str, str]:
    """The environment of somebody who installed ``installed`` (None: this checkout)."""
    left = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    path = str(REPOSITORY if installed is None else installed)
    return left | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | more


def call(folder: Path, *command: str, installed: Path | None, **more: str) -> subprocess.CompletedProcess[str]:
    """``python -m COMMAND`` in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=outside(installed, **more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_pytest_in(folder: Path, *options: str, installed: Path | None, **more: str) -> subprocess.CompletedProcess[str]:
    """``pytest OPTIONS`` in ``folder``, with this plugin and xdist alone."""
    without = [word for name in OTHERS for word in ("-p", f"no:{name}")]
    return call(folder, "pytest", *without, *options, installed=installed, **more)


def write(folder: Path, **files: str) -> Path:
    """Writes ``name_ext="text"`` as ``name.ext`` into ``folder``, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / f"{stem}.{ending}").write_text(text)
    return folder
