"""The page ``docs/noise-reference.md``, built from the tables of error models, operators, profiles and scopes.

``python -m harness.reports.noise_reference > docs/noise-reference.md`` writes it anew; a test holds the page to this.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence

from harness.reports.render.markdown import table_lines
from harness.spec.error_base import ErrorModel
from harness.spec.errors import ERROR_MODELS
from harness.spec.noise import DIRECTIONS, KEY_MODES, PHASES, POINTS, SOFTMAXES
from harness.spec.operators import OPS, PROFILES, SCOPES, Operator
from harness.text import number_text


def noise_reference() -> str:
    """Return the page as Markdown: error models, operators, groups, and the words of a specification."""
    models = (_model_row(model) for model in ERROR_MODELS.values())
    operators = (_operator_row(operator) for operator in OPS.values())
    groups = [
        *((f"`profile:{name}`", _code(names)) for name, names in PROFILES.items()),
        *((f"`scope:{name}`", _code(names)) for name, names in SCOPES.items()),
    ]
    words = (("at", POINTS), ("when", DIRECTIONS), ("phase", PHASES), ("softmax", SOFTMAXES), ("key", KEY_MODES))
    return "\n\n".join(
        (
            "# Noise: reference\n\nBuilt from the tables in the code by `python -m harness.reports.noise_reference`."
            " What the words mean is explained in [What the noise is](noise.md).",
            "## Error models\n\ny is an element, `row` the elements of its token, z a standard normal draw, u a uniform"
            " draw in [0, 1). The strength is the field that a noise level sets; without one a model is on or off.\n\n"
            + _joined(
                ("model", "result", "strength (unit)", "other fields (default)", "expected relative error"), models
            ),
            "## Operators\n\n"
            + _joined(("op:NAME", "also stands for", "classes of modules", "spellings of torch", "note"), operators),
            "## Groups of operators and modules\n\n" + _joined(("group", "stands for"), groups),
            "## Words with a fixed set of values\n\nThe first value of each is the default, but for phases: without one"
            " noise acts at any time.\n\n"
            + _joined(("word", "values"), ((f"`{word}:`", _code(values)) for word, values in words)),
        )
    )


def _joined(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(table_lines(header, ([cell.replace("|", "\\|") for cell in row] for row in rows)))


def _model_row(model: type[ErrorModel]) -> Sequence[str]:
    fields = [
        f"{field.name} ({number_text(field.default) if isinstance(field.default, int | float) else field.default})"
        for field in dataclasses.fields(model)
        if field.name != model.strength
    ]
    strength = "on or off" if model.strength is None else f"{model.strength} ({_UNITS[model.unit]})"
    return f"`{model.name}`", f"`{model.formula}`", strength, ", ".join(fields) or "-", f"`{model.expected}`"


_UNITS = {"fraction": "fraction", "value": "unit of y"}


def _operator_row(operator: Operator) -> Sequence[str]:
    return (
        f"`{operator.name}`",
        _code(operator.selects),
        _code(operator.modules),
        str(len(operator.functions)) if operator.functions else "-",
        operator.note or "-",
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


if __name__ == "__main__":
    sys.stdout.write(noise_reference() + "\n")
