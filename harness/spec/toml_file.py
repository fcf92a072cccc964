"""Specifications in a TOML file: one ``[[noise]]`` table each, with the names of the one-line form.

[[noise]]
error = "spike"
rate = 0.001
op = ["linear", "matmul"]
layers = "0,14-17"
key = "shared"
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.exceptions import NoiseSpecError
from harness.spec.errors import ErrorModel, make_error
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import distinct, spec_of
from harness.spec.selectors import SELECTORS, selector_values
from harness.strict import read_toml, unknown_key
from harness.text import number_text

TABLE = "noise"
MODEL = "error"


def load_noises(path: str | Path) -> tuple[NoiseSpec, ...]:
    """Return the specifications of the file ``path``, at least one, none twice.

    Raises :class:`NoiseSpecError`, which names the file and the table, for what cannot be read or is no
    specification.
    """
    data = read_toml(Path(path), "noise file", NoiseSpecError)
    for key in data:
        if key != TABLE:
            raise unknown_key(f"noise file {path}", key, [TABLE], NoiseSpecError)
    tables = data.get(TABLE)
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise NoiseSpecError(f"noise file {path}", "it holds one or more [[noise]] tables", "start one with [[noise]]")
    found = []
    for number, table in enumerate(tables, 1):
        try:
            found.append(_from_table(table))
        except NoiseSpecError as error:
            raise NoiseSpecError(f"noise file {path}, table {number}: {error}") from None
    try:
        return distinct(found)
    except NoiseSpecError as error:
        raise NoiseSpecError(f"noise file {path}: {error}") from None


def dump_noises(specs: Iterable[NoiseSpec]) -> str:
    """Return TOML text that :func:`load_noises` reads back as equal specifications.

    Raises :class:`NoiseSpecError` for none at all and for one given twice, which no file may hold.
    """
    found = distinct(specs)
    if not found:
        raise NoiseSpecError("no noise specification", "a file holds at least one", "give one")
    return "\n".join(_table_text(spec) for spec in found)


def _from_table(table: Mapping[str, Any]) -> NoiseSpec:
    name = table.get(MODEL)
    if not isinstance(name, str):
        rule = "it names the error model" if MODEL in table else "the error model is missing"
        raise NoiseSpecError(f"error {name!r}" if MODEL in table else "no error", rule, 'add error = "NAME"')
    fields = _field_names(make_error(name, {}))
    for key in table:
        if key not in (MODEL, *fields, *SELECTORS):
            raise unknown_key("", key, (MODEL, *fields, *SELECTORS), NoiseSpecError)
    error = make_error(name, {key: table[key] for key in fields if key in table})
    return spec_of(error, {key: table[key] for key in SELECTORS if key in table})


def _table_text(spec: NoiseSpec) -> str:
    values: dict[str, Any] = {MODEL: spec.error.name}
    for field in dataclasses.fields(spec.error):
        value = getattr(spec.error, field.name)
        if value != field.default:
            values[field.name] = value
    values |= selector_values(spec)
    return f"[[{TABLE}]]\n" + "".join(f"{key} = {_value_text(value)}\n" for key, value in values.items())


def _value_text(value: Any) -> str:
    """A JSON string, or a list of them, is TOML as well; names and patterns are ASCII."""
    return number_text(value) if isinstance(value, float) else json.dumps(value)


def _field_names(error: ErrorModel) -> list[str]:
    return [field.name for field in dataclasses.fields(error)]
