"""The pages of AQN: its schedule, its targets, the dose of a perturbed copy, and the response to doses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.reports.page import Lines, Page, Table
from harness.reports.tables import bounds_text
from harness.thresholds import ALPHA

PLANNED_HEADER = ("elements", "factor", "sigma", "/std(w)", "/spread")
LAYER_SPARE = ("/spread", "mean", "factor", "elements")
DOSE_HEADER = ("sigma", "std(dw)", "ratio", "changed", "mean")
RESPONSE_SPARE = ("entropy", "/spread", "right", "KL per token (nats)")
RESPONSE_HEADER = ("group", "sigma", "/spread", "KL per token (nats)", "right", "change (points)", "entropy")
RESPONSE_LEGEND = (
    f"In brackets: {bounds_text(ALPHA)} over items and draws (clean accuracy: over items). /spread: sigma in units of"
    " the spread of the weights. Change: accuracy with noise less without, on the same items."
)
BAR = 30
"""Characters of the longest bar of a schedule."""


def schedule_page(stretches: Iterable[tuple[int, int, float]], clean: Iterable[tuple[int, int]]) -> Page:
    """Return sigma by stretches (first step, last step, sigma), with bars, and the ranges of steps without noise."""
    found = list(stretches)
    sigmas = [sigma for *_, sigma in found if sigma]
    rows = [
        (f"{first} to {last}", f"{sigma:.4g}", "#" * _bar(sigma, min(sigmas), max(sigmas)) if sigma else "")
        for first, last, sigma in found
    ]
    words = (f"a validation at steps {first} to {last} is clean by accident: sigma is 0 there" for first, last in clean)
    title = "AQN: sigma at every step"
    return Page.of(title, Table.of(title, ("steps", "sigma", "log sigma"), rows), Lines.of(words))


def plan_page(plan: Mapping[str, Any]) -> Page:
    """Return the targets of a plan as JSON types: what each would get, and how large that is beside its weights."""
    targets = plan["targets"]
    lines = (
        f"{plan['matched']} targets, {plan['elements']:,} elements; sigma {plan['sigma']:g} "
        f"({plan['config']['mode']}) from step {plan['step']} on; settings {plan['effective']}",
        f"kinds: {', '.join(sorted({each['kind'] for each in targets}))}",
    )
    rows = [
        (
            *(f"{each['elements']:,}", f"{each['multiplier']:.3g}"),
            *map(_number, (each["asked"], _ratio(each), each["relative"])),
        )
        for each in targets
    ]
    return Page.of("AQN: targets", Lines(lines), _by_layer("AQN: targets", targets, PLANNED_HEADER, rows))


def copy_page(layers: Sequence[Mapping[str, Any]], text: str, folder: str) -> Page:
    """Return the dose that every layer of a perturbed copy got, the line of its settings, and where the copy is."""
    rows = [
        (
            *(f"{each[name]:.4g}" for name in ("asked", "achieved")),
            *(f"{each['ratio']:.4f}", f"{each['share']:.2%}", f"{each['mean']:.2e}"),
        )
        for each in layers
    ]
    table = _by_layer("AQN: dose of each layer", layers, DOSE_HEADER, rows)
    return Page.of("AQN: a perturbed copy", table, Lines((f"aqn: {text}", f"copy: {folder}")))


def response_page(response: Mapping[str, Any]) -> Page:
    """Return what each sigma did to accuracy, KL and entropy, and the predictions that were held against that."""
    accuracy, cells = response["clean"]["accuracy"], response["cells"]
    estimate, low, high = (100 * value for value in _three(accuracy))
    clean = (
        f"clean: accuracy {estimate:.1f} % [{low:.1f}, {high:.1f}] of {response['items']} items, entropy "
        f"{response['clean']['entropy']:.4f} nats per token, {response['tokens']} tokens"
    )
    notes = ["note: fewer than 5 draws, so the intervals are conditional on these draws"]
    lines = notes if any(cell["conditional"] for cell in cells) else []
    lines += [f"prediction of KL for {group}: {fit['sentence']}" for group, fit in response["fits"].items()]
    title = "AQN: dose and effect"
    rows = [_response_row(cell) for cell in cells]
    table = Table.of(title, RESPONSE_HEADER, rows, spare=RESPONSE_SPARE, legend=RESPONSE_LEGEND)
    return Page.of(title, Lines((clean,)), table, Lines.of(lines))


def _response_row(cell: Mapping[str, Any]) -> tuple[str, ...]:
    change, low, high = (f"{100 * value:+z.1f}" for value in _three(cell["change"]))
    return (
        *(cell["group"], f"{cell['sigma']:.4g}", f"{cell['relative']:.2g}", _scaled(cell["kl"])),
        *(f"{100 * cell['accuracy']:.0f} %", f"{change} [{low}, {high}]", f"{cell['entropy']['estimate']:.4f}"),
    )


def _by_layer(
    title: str, layers: Sequence[Mapping[str, Any]], header: Sequence[str], rows: Iterable[Sequence[str]]
) -> Table:
    """A table with the name of a layer in front; ``model.`` stands in the heading where most layers have it."""
    names, prefix = [each["name"] for each in layers], "model."
    head = "layer"
    if any(name.startswith(prefix) for name in names):
        head, names = f"layer (of {prefix[:-1]})", [name.removeprefix(prefix) for name in names]
    cells = [(name, *row) for name, row in zip(names, rows, strict=True)]
    return Table.of(title, (head, *header), cells, spare=LAYER_SPARE)


def _ratio(target: Mapping[str, Any]) -> float | None:
    """Sigma in units of std(w)."""
    return target["asked"] / target["deviation"] if target["asked"] is not None and target["deviation"] else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _bar(sigma: float, low: float, high: float) -> int:
    """Characters of the bar of ``sigma``: logarithmic, one for the smallest."""
    share = math.log(sigma / low) / math.log(high / low) if high > low else 1.0
    return 1 + round(share * (BAR - 1))


def _three(found: Mapping[str, float | None]) -> tuple[float, float, float]:
    """Estimate and bounds, which are infinite where JSON has none."""
    estimate, low, high = (found[name] for name in ("estimate", "low", "high"))
    return (
        math.nan if estimate is None else estimate,
        -math.inf if low is None else low,
        math.inf if high is None else high,
    )


def _scaled(found: Mapping[str, float | None]) -> str:
    """The estimate and its bounds with one power of ten for all: ``1.70 [1.18, 2.22]e-07``."""
    estimate, low, high = _three(found)
    if not estimate:
        return "0"
    power = math.floor(math.log10(abs(estimate)))
    mean, low, high = (value / 10.0**power for value in (estimate, low, high))
    return f"{mean:z.2f} [{low:z.2f}, {high:z.2f}]e{power:+03d}"
