"""Whether two measurement keys are the same."""

from __future__ import annotations

from harness.record import MeasurementKey

_ABSENT = "(missing)"
_OLDER = "(missing: stored by an older version; evaluate, or accept, anew)"
FEWSHOT, SYSTEM, CHAT_TEMPLATE = "fewshot", "system", "chat_template"
PROMPT_FIELDS = (FEWSHOT, SYSTEM, CHAT_TEMPLATE)
"""What of a key says how the items are asked, each only where it is not the default: see
:mod:`harness.evaluate.prompting`."""
_WAY_OUT = {
    "coverage": _OLDER,
    "scorer_rule": _OLDER,
    FEWSHOT: "none",
    SYSTEM: "none",
    CHAT_TEMPLATE: "applied",
}


def key_differences(candidate: MeasurementKey, baseline: MeasurementKey, across: str | None = None) -> tuple[str, ...]:
    """Return one sentence per field that differs, with both values; a field that one side lacks differs.

    ``across`` is the declared axis: that field may differ where both sides have it, and has to: one value on both sides
    shows nothing of what was to be compared.

    Two empty keys give a sentence too: nothing says that the numbers belong together.
    """
    if not candidate and not baseline:
        return ("no measurement key on either side, so nothing says that the numbers may be compared",)
    fields = sorted(set(candidate) | set(baseline))
    alike: tuple[str, ...] = ()
    if across is not None and candidate.get(across) == baseline.get(across):
        alike = (f"{across} was to differ, and both sides have {_shown(baseline, across)}",)
    return alike + tuple(
        f"measurement keys differ in {field}: candidate {_shown(candidate, field)}, baseline {_shown(baseline, field)}"
        for field in fields
        if field not in candidate or field not in baseline or (candidate[field] != baseline[field] and field != across)
    )


def axis_note(candidate: MeasurementKey, baseline: MeasurementKey, across: str | None) -> tuple[str, ...]:
    """Return what the comparison is across, in one sentence with both values; empty where no axis is declared."""
    if across is None:
        return ()
    return (f"across {across}: candidate {_shown(candidate, across)}, baseline {_shown(baseline, across)}",)


def asked_with(key: MeasurementKey) -> str:
    """Return what of ``key`` says that the items are not asked as they stand, in words; empty where nothing does."""
    return "; ".join(f"{name.replace('_', ' ')} {key[name]}" for name in PROMPT_FIELDS if name in key)


def _shown(key: MeasurementKey, field: str) -> str:
    return repr(key[field]) if field in key else _WAY_OUT.get(field, _ABSENT)
