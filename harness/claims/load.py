"""Reads a folder of TOML files into a :class:`Registry`, strictly: one clear error for whatever does not fit.

A file holds any of: ``section`` and ``title`` with ``[defaults]``, ``[[experiment]]`` and ``[[evaluation]]`` tables
(more values of experiments of other files), ``[sources]``, ``[[fact]]``, ``[[claim]]``, ``[[theory]]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.claims.model import Experiment, Registry
from harness.claims.parse_claims import check_claim, parse_claim, parse_fact, parse_theory
from harness.claims.parse_experiments import Defaults, parse_defaults, parse_evaluation, parse_experiment
from harness.exceptions import HarnessError
from harness.installed import shipped
from harness.strict import CORRECT, Table, read_toml, unknown_key
from harness.text import nearest

DEFAULT_FOLDER = Path("baselines") / "published"
KEYS = ("section", "title", "defaults", "sources", "experiment", "evaluation", "fact", "claim", "theory")


def default_folder() -> Path:
    """Return ``baselines/published`` of the working directory, else the one that comes with the package."""
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else shipped() / DEFAULT_FOLDER.name


def load_registry(folder: Path | None = None) -> Registry:
    """Return the registry in ``folder`` (default: :func:`default_folder`). Raises :class:`HarnessError`."""
    folder = default_folder() if folder is None else folder
    return build_registry(list(_files(folder)), str(folder))


def build_registry(files: list[tuple[str, Mapping[str, Any]]], where: str = "registry") -> Registry:
    """Return the registry of (name, parsed TOML) pairs; tests change the tables before they come here."""
    sources = _sources(files)
    experiments: dict[str, Experiment] = {}
    for name, table, defaults in _tables(files, "experiment"):
        found = parse_experiment(table, name, defaults, sources)
        if found.id in experiments:
            raise HarnessError(f"{name}: experiment {found.id!r}", "the id is given twice", "give it another id")
        experiments[found.id] = found
    for name, table, defaults in _tables(files, "evaluation"):
        target, values = parse_evaluation(table, name, defaults, sources)
        known(target, experiments, f"{name}: evaluation")
        experiments[target] = replace(experiments[target], values=(*experiments[target].values, *values))
    if not experiments:
        raise HarnessError(f"{where}", "it holds no experiments", "give a folder with [[experiment]] tables")
    facts = tuple(parse_fact(table, name) for name, table, _ in _tables(files, "fact"))
    claims = tuple(parse_claim(table, name, sources) for name, table, _ in _tables(files, "claim"))
    theory = tuple(parse_theory(table, name) for name, table, _ in _tables(files, "theory"))
    for kind, ids in (
        ("fact", [fact.id for fact in facts]),
        ("claim", [claim.id for claim in claims]),
        ("theory arm", [arm.name for arm in theory]),
    ):
        twice = next((entry for index, entry in enumerate(ids) if entry in ids[:index]), None)
        if twice is not None:
            raise HarnessError(f"{where}: {kind} {twice!r}", "the id is given twice", "give it another id")
    for fact in facts:
        for entry in (*fact.experiments, *([fact.of] if fact.of else [])):
            known(entry, experiments, f"fact {fact.id}")
    for arm in theory:
        if arm.experiment is not None:
            known(arm.experiment, experiments, f"theory arm {arm.name}")
    registry = Registry(sources, experiments, facts, claims, theory)
    for claim in claims:
        check_claim(claim, registry)
    return registry


def known(entry: str, experiments: Mapping[str, Experiment], where: str) -> None:
    """Raise :class:`HarnessError` with the nearest id unless ``entry`` is an experiment."""
    if entry not in experiments:
        raise HarnessError(f"{where}: unknown experiment {entry!r}", "no file has it", nearest(entry, experiments))


def _files(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not folder.is_dir():
        raise HarnessError(f"registry {folder}", "no such folder", "give --registry FOLDER")
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise HarnessError(f"registry {folder}", "it holds no .toml file", "give --registry FOLDER")
    for path in paths:
        yield path.name, read_toml(path, "registry file")


def _sources(files: list[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, data in files:
        for key in data:
            if key not in KEYS:
                raise unknown_key(name, key, KEYS)
        table = data.get("sources", {})
        if not isinstance(table, Mapping):
            raise HarnessError(f"{name}: sources", "it must be a table of code = name", CORRECT)
        for code, title in table.items():
            if not isinstance(title, str) or not title.strip():
                raise HarnessError(f"{name}: source {code} = {title!r}", "its name must be a text", CORRECT)
            if code in found:
                raise HarnessError(f"{name}: source {code!r}", "the code is given twice", "keep one")
            found[code] = title
    return found


def _tables(files: list[tuple[str, Mapping[str, Any]]], key: str) -> Iterator[tuple[str, Any, Defaults]]:
    """(file, table, the file's defaults) of every ``[[key]]`` table."""
    for name, data in files:
        tables = data.get(key, [])
        if not isinstance(tables, list):
            raise HarnessError(f"{name}: {key}", f"it must be [[{key}]] tables", CORRECT)
        if not tables:
            continue
        section = Table({"section": data.get("section", "-")}, name).text("section")
        defaults = parse_defaults(data.get("defaults", {}), name, section)
        for table in tables:
            yield name, table, defaults
