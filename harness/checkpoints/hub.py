"""Checkpoints by their name on a hub: ``org/name`` or ``org/name@revision``, pinned to a commit and kept in its cache.

What is there as a path is never looked up. The hub's own client finds it (``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``),
and its cache tells afterwards of what commit a folder is.
"""

from __future__ import annotations

import fnmatch
import logging
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.checkpoints.there import HubName, check_checkpoint, check_config, check_there, hub_name, resembling
from harness.exceptions import CheckpointError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

log = logging.getLogger(__name__)
T = TypeVar("T")
FIELD = "hub"
"""The field of a manifest's checkpoint: id and revision (the commit's 40 hex digits)."""

PATIENCE = 3.0
"""Seconds within which a hub must answer; finding names of hosts is part of it, which no client bounds."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.tiktoken"),
    *("*.codes", "*.tokenizer", "README.md", "LICENSE*"),
)
_TEMPLATES = "additional_chat_templates/*.jinja"
_WEIGHTS, _PICKLES = "*.safetensors", ("*.bin", "*.pt", "*.pth")
CONFIG = "config.json"
_RECORDED = "base of adapter"
_FOUND_BY = (CONFIG, "adapter_config.json")


def located(path: Path, what: str = "checkpoint") -> Path:
    """Return ``path`` where it is there, else the folder of the snapshot that it names on a hub, downloaded if need be.

    Raises :class:`CheckpointError` (within five seconds where no hub can be reached) for what is neither.
    """
    name = None if path.exists() or path.is_symlink() else hub_name(str(path))
    if name is None:
        check_there(path, what)
        return path
    return _snapshot(name, what)


def located_config(path: Path) -> Path:
    """Return ``path``, a file or folder of a ``--config``, or the folder of the snapshot that it names on a hub, of
    which only the configuration is downloaded. Raises :class:`CheckpointError`."""
    name = None if path.exists() else hub_name(str(path))
    if name is None:
        check_config(path)
        return path
    return _snapshot(name, "config", weights=False)


def locate(checkpoint: Path, base: Path | None = None) -> tuple[Path, Path | None]:
    """Return :func:`located` of a checkpoint and of the ``base`` of an adapter, both checked to be there."""
    found, held = located(checkpoint), located_base(base)
    check_checkpoint(found, held)
    return found, held


def located_base(base: Path | None) -> Path | None:
    """Return the ``base`` of an adapter, the folder of its snapshot where it is a name on a hub."""
    return located(base, "--base") if base is not None and hub_name(str(base)) is not None else base


def recorded_on_hub(adapter: Path, named: str, revision: str | None) -> Path | None:
    """Return the folder of the base that the configuration of ``adapter`` names on a hub, at the ``revision`` that it
    records; None where that is no such name, or is there as a path."""
    name = hub_name(named)
    if name is None or (adapter / named).exists():
        return None
    if name.revision is None and revision is not None:
        name = hub_name(f"{name.id}@{revision}")
    return None if name is None else _snapshot(name, f"{_RECORDED} {adapter},")


def hub_of(folder: Path) -> dict[str, str] | None:
    """Return ``id`` and ``revision`` of a folder in the cache of a hub; None for any other folder."""
    parts = folder.absolute().parts
    if len(parts) < 3 or parts[-2] != "snapshots" or not _COMMIT.fullmatch(parts[-1]):
        return None
    kind, *words = parts[-3].split("--")
    return {"id": "/".join(words), "revision": parts[-1]} if kind == "models" and words else None


class _Unreachable(Exception):
    """No hub answered; the text says why."""


def _snapshot(name: HubName, what: str, weights: bool = True) -> Path:
    """The folder of the commit that the name means now; without a hub, the one in the cache. Without ``weights`` its
    configuration alone is asked for."""
    try:
        info = _within(PATIENCE, lambda: _info(name))
    except (_Unreachable, TimeoutError) as error:
        return _cached(name, what, error, weights)
    except Exception as error:  # its client raises what its HTTP library does
        raise _refused(name, what, error) from None
    files = [each.rfilename for each in info.siblings or ()]
    if not weights:
        return _download(name, what, str(info.sha), [CONFIG])
    _check_weights(name, what, files)
    return _download(name, what, str(info.sha), _wanted(files))


def _info(name: HubName) -> ModelInfo:
    """What the hub says of the model."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return HfApi().model_info(name.id, revision=name.revision, timeout=PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        raise
    except OfflineModeIsEnabled:
        raise _Unreachable("HF_HUB_OFFLINE is set") from None
    except Exception as error:
        raise _Unreachable(f"{type(error).__name__}: {error}") from error


def _download(name: HubName, what: str, commit: str, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    log.info("%s %s is taken from the hub at commit %s", what, name.id, commit)
    try:  # by its name, so that the cache knows afterwards what that meant
        folder = Path(snapshot_download(name.id, revision=name.revision, allow_patterns=list(files)))
    except Exception as error:
        raise _refused(name, what, error) from None
    if folder.name != commit:
        raise _refused(name, what, RuntimeError(f"it moved to commit {folder.name} while it was downloaded"))
    return folder


def _cached(name: HubName, what: str, why: Exception, weights: bool = True) -> Path:
    """The snapshot in the cache, with its weights where these are asked for: a configuration may be there alone."""
    from huggingface_hub import try_to_load_from_cache

    for file in _FOUND_BY:
        found = try_to_load_from_cache(name.id, file, revision=name.revision)
        folder = Path(found).parent if isinstance(found, str) else None
        if folder is not None and (not weights or any(folder.glob(_WEIGHTS))):
            log.warning("no hub can be asked: %s %s is the one in its cache, commit %s", what, name.id, folder.name)
            return folder
    near = resembling(Path(name.id))
    give = "--base FOLDER" if what.startswith(_RECORDED) else "FOLDER"
    raise CheckpointError(
        f"{what} {name}",
        f"no such folder; it is not in the cache of the hub either, which cannot be asked ({_short(why)})",
        near or f"connect, or where there is a hub: hf download {name.id} --local-dir FOLDER, and give {give}",
    )


def _wanted(files: Sequence[str]) -> list[str]:
    """The files of a checkpoint that are read: of the folder itself, and its named chat templates."""
    own = [file for file in files if "/" not in file and any(fnmatch.fnmatchcase(file, glob) for glob in _FILES)]
    return own + [file for file in files if fnmatch.fnmatchcase(file, _TEMPLATES)]


def _check_weights(name: HubName, what: str, files: Sequence[str]) -> None:
    """There is something to load before anything is downloaded."""

    def any_of(globs: Sequence[str]) -> str:
        return next((file for file in files for glob in globs if fnmatch.fnmatchcase(file, glob)), "")

    if not any_of([_WEIGHTS]):
        pickle = any_of(_PICKLES)
        why = f"its weights are pickles ({pickle}), which are never loaded" if pickle else "it has no safetensors"
        raise CheckpointError(f"{what} {name} on the hub", why, "name a model or revision with safetensors")


def _refused(name: HubName, what: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{what} {name} on the hub",
        _short(error),
        "check name and revision, and HF_TOKEN where it is not public, or give a folder",
    )


def _short(error: BaseException) -> str:
    """The first sentence of an error, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises; :class:`TimeoutError` where it takes longer, whatever it waits for."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True, name="hub")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"it did not answer within {seconds:g} s")
    result: T = found[0]
    return result
