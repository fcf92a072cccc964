"""Comparisons of one value, or of none: predictions, rates, identical results, formulas."""

from __future__ import annotations

import math

from harness.claims import formulas
from harness.claims.judgements import FALSE, NOT_ESTABLISHED, SINGLE_SEED, SUPPORTED, Numbers, Reading
from harness.claims.model import Comparison, Value
from harness.claims.numbers import ALPHA, Context, counts, value_bounds
from harness.stats.proportion import wilson

RATE_MARGIN = 5.0
"""Points by which the lower bound of a rate may lie below the rate that is claimed."""

FORMULA_TOLERANCE = 0.05


def judge_prediction(context: Context, comparison: Comparison, value: Value) -> Reading:
    """Judge a prediction: false where every interval of the observed value lies clear of what was predicted."""
    assert comparison.claimed is not None
    low, high = comparison.claimed
    bounds = value_bounds(context, value)
    clear = bool(bounds) and all(high < least or low > most for least, most in bounds)
    expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    shown = ", ".join(f"{least:.1f} to {most:.1f}" for least, most in bounds)
    words = f"predicted {expected}, observed {value.value:g} (95 %: {shown})"
    found = Numbers(value.value - (low + high) / 2, comparison.claimed, n=(value.n,), runs=(1,))
    verdict = FALSE if clear else NOT_ESTABLISHED
    return Reading((value.value,), verdict, words if clear else f"{words}: one run does not confirm it", found, clear)


def judge_rate(context: Context, comparison: Comparison, value: Value) -> Reading:
    """Judge a claimed rate (percent): false where the interval lies below it, single-seed where its lower bound is
    near."""
    assert comparison.claimed is not None
    claimed, table = comparison.claimed[0], counts(value)
    found = Numbers(value.value - claimed, comparison.claimed, n=(value.n,), runs=(1,))
    if table is None:
        return Reading((value.value,), NOT_ESTABLISHED, f"{value.value:g} % of an unknown number", found)
    interval = wilson(*table, ALPHA / 2)
    low, high = 100 * interval.low, 100 * interval.high
    words = f"{table[0]} of {table[1]}: {low:.0f} to {high:.0f} %"
    if high < claimed:
        return Reading((value.value,), FALSE, f"{words}, below {claimed:g} %", found, excludes_claimed=True)
    if low >= claimed - RATE_MARGIN:
        return Reading((value.value,), SINGLE_SEED, words, found)
    return Reading((value.value,), NOT_ESTABLISHED, f"{words}: too few to show {claimed:g} %", found)


def judge_identical(context: Context, comparison: Comparison, value: Value) -> Reading:
    """Judge a change said to be too small to see: false where results are bit-identical, since any change alters
    bits."""
    found = Numbers(None, n=(value.n,), runs=(1,))
    whole = f" on {value.n} of {value.n}" if value.n else ""
    if value.value == 100:
        reason = f"results are bit-identical{whole}: nothing was changed, small or not"
        return Reading((value.value,), FALSE, reason, found, excludes_claimed=True)
    return Reading((value.value,), NOT_ESTABLISHED, f"{value.value:g} % identical: something did change", found)


def judge_formula(comparison: Comparison) -> Reading:
    """Judge arithmetic: false where the value is not the claimed one; a value that chance reaches as well shows
    nothing."""
    assert comparison.claimed is not None
    outcome = formulas.evaluate(comparison.formula, comparison.inputs)
    words, claimed = formulas.FORMULAS[comparison.formula].words, comparison.claimed[0]
    found = Numbers(outcome.value - claimed, comparison.claimed, p=outcome.chance)
    text = f"{words}: {outcome.value:,.10g}"
    if not math.isclose(outcome.value, claimed, rel_tol=FORMULA_TOLERANCE):
        return Reading((outcome.value,), FALSE, f"{text}, not {claimed:,.10g}", found, excludes_claimed=True)
    if outcome.chance is not None and outcome.chance > ALPHA:
        reason = f"{text}, as claimed, but {100 * outcome.chance:.0f} % of random choices do as well"
        return Reading((outcome.value,), NOT_ESTABLISHED, reason, found)
    return Reading((outcome.value,), SUPPORTED, f"{text}, as claimed", found)
