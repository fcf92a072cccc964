"""Whether a folder that was named is there: asked first, before torch is imported (standard library only)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.exceptions import CheckpointError

_HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>\w[\w./-]*))?")
GIVE = "give a folder in Hugging Face format"


@dataclass(frozen=True)
class HubName:
    """A model on a hub: ``org/name``, and its revision (a branch, a tag or a commit; None: its main branch)."""

    id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def hub_name(name: str, at: Path = Path()) -> HubName | None:
    """Return what ``name`` says of a model on a hub; None for a path, of which the first folder is there in ``at``."""
    found = _HUB_ID.fullmatch(name)
    if found is None or (at / name).exists() or (at / Path(name).parts[0]).exists():
        return None
    return HubName(found["id"], found["revision"])


def resembling(path: Path) -> str:
    """Return ``did you mean FOLDER?`` for a folder of nearly the same path, with one name in it misspelt; else
    nothing."""
    for depth, word in enumerate(path.parts):
        above, rest = Path(*path.parts[:depth]), path.parts[depth + 1 :]
        if above.joinpath(word).exists():
            continue
        try:
            names = [entry.name for entry in above.iterdir() if entry.joinpath(*rest).is_dir()]
        except OSError:
            return ""
        close = difflib.get_close_matches(word, names, n=1, cutoff=0.7)
        return f"did you mean {above.joinpath(close[0], *rest)}?" if close else ""
    return ""


def check_there(path: Path, what: str = "checkpoint") -> None:
    """Raise :class:`CheckpointError` where there is nothing at ``path``, which errors call ``what``.

    Nothing is looked up on a hub: see :func:`harness.checkpoints.hub.located`.
    """
    if not path.exists() and not path.is_symlink():
        raise CheckpointError(f"{what} {path}", "no such folder", resembling(path) or folder_instead(str(path), GIVE))


def check_config(path: Path) -> None:
    """Raise :class:`CheckpointError` where there is no file or folder of a ``--config`` at ``path``."""
    if not path.exists():
        way_out = folder_instead(str(path), "give a config.json or the folder that holds it")
        raise CheckpointError(f"config {path}", "no such file", way_out)


def check_checkpoint(path: Path, base: Path | None = None) -> None:
    """Raise :class:`CheckpointError` where the checkpoint at ``path``, or the ``base`` of an adapter, is not there."""
    check_there(path)
    if base is not None and not base.is_dir():
        raise CheckpointError(f"--base {base}", "no such folder", folder_instead(str(base), "give the base's folder"))


def folder_instead(name: str, way_out: str, give: str = "FOLDER") -> str:
    """Return ``way_out``, or how a folder is made of what looks like the name of a model on a hub."""
    found = hub_name(name)
    if found is None:
        return way_out
    return f"names on a hub are not looked up here: hf download {found.id} --local-dir FOLDER, and give {give}"
