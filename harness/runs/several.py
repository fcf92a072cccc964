"""The folder of several runs: one run folder for each task of one checkpoint, and a file that lists them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.exceptions import StoreError
from harness.runs.folder import MANIFEST, guarded, write_atomically
from harness.runs.manifest import checksum
from harness.strict import Table

TASKS_FILE = "tasks.json"
VERSION = 1
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_ANOTHER = "use another --out"


def is_tasks(path: Path) -> bool:
    """Return True where ``path`` is the folder of the runs of several tasks."""
    return (path / TASKS_FILE).is_file()


def run_folders(out: Path, tasks: Sequence[str]) -> dict[str, Path]:
    """Return task -> its run folder in ``out``: of the same name, as far as a file system takes it."""
    found = {task: out / (_OTHER.sub("_", task).strip(".") or "_") for task in tasks}
    if len(set(found.values())) < len(found):
        raise StoreError(f"tasks {', '.join(tasks)}", "two of them would have the same folder", "evaluate them apart")
    return found


def check_tasks(out: Path, tasks: Sequence[str]) -> None:
    """Raise :class:`StoreError` where ``out`` cannot hold the runs of ``tasks``: it is a run itself, holds those of
    other tasks, or someone else's files."""
    if (out / MANIFEST).exists():
        raise StoreError(f"output folder {out}", "it is the run of one task", _ANOTHER)
    if is_tasks(out):
        there = tuple(read_tasks(out))
        if set(there) != set(tasks):
            rule = f"it holds the runs of {', '.join(there)}, not of {', '.join(tasks)}"
            raise StoreError(f"output folder {out}", rule, _ANOTHER)
        return
    if out.exists() and not out.is_dir():
        raise StoreError(f"output folder {out}", "it is a file", _ANOTHER)
    strangers = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    if any(not name.startswith(f".{TASKS_FILE}.") for name in strangers):
        raise StoreError(f"output folder {out}", f"it holds files ({strangers[0]})", "use an empty one")


def begin_tasks(out: Path, tasks: Sequence[str]) -> dict[str, Path]:
    """Write which tasks ``out`` holds the runs of, unless it says so already, and return their folders.

    Raises :class:`StoreError` as :func:`check_tasks` does, and where nothing can be written.
    """
    check_tasks(out, tasks)
    if not is_tasks(out):
        content = {"schema_version": VERSION, "tasks": list(tasks)}
        with guarded(out):
            out.mkdir(parents=True, exist_ok=True)
            text = json.dumps({**content, "sha256": checksum(content)}, indent=2, sort_keys=True)
            write_atomically(out / TASKS_FILE, f"{text}\n")
    return run_folders(out, tasks)


def read_tasks(out: Path) -> Mapping[str, Path]:
    """Return task -> run folder, in the order in which the tasks were named; a folder need not be there yet.

    Raises :class:`StoreError` where the list is missing, unreadable or edited.
    """
    where = f"folder {out}, {TASKS_FILE}"
    try:
        data = json.loads((out / TASKS_FILE).read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(where, f"it is unreadable ({error})", "evaluate again into another folder") from None
    table = Table(data, where, "evaluate again into another folder", StoreError, stored=True)
    version, tasks, stored = table.whole("schema_version"), table.texts("tasks"), table.text("sha256")
    table.done()
    if version != VERSION:
        raise table.fail(f"schema_version = {version}", f"this harness reads {VERSION}")
    if stored != checksum(data):
        raise table.fail(f"sha256 = {stored!r}", "it does not fit the content: edited, or copied in part")
    return run_folders(out, tasks)
