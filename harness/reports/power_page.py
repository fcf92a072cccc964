"""The page of what a gate can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.page import Heading, Lines, Page, Table

HEADER = (
    *("level", "n", "noise seeds", "discordance %", "margin pp", "MDE pp"),
    *("PASS / INCONCLUSIVE / FAIL if nothing changed", "items enough", "seeds enough"),
)
SPARE = ("discordance %", "seeds enough", "noise seeds", "MDE pp", "n")
BESIDE_HEADER = (
    *("level", "answers", "tokens", "margin nats/token", "left out at most", "PASS up to", "FAIL from"),
    "if nothing changed",
)
BESIDE_SPARE = ("left out at most", "tokens", "answers")
BESIDE_NOTE = (
    "PASS up to, FAIL from: true mean divergence with probability 0.8, if the divergences of answers are exponential."
    " Nothing changed: the same weights under the same arithmetic."
)
NOTE = (
    "MDE: minimum detectable effect, one-sided alpha of the policy, power 0.8. Enough: for PASS with probability 0.8 if"
    " nothing changed. Nothing changed: every item is as probably right as it was, with independent draws. A gate gives"
    " both sides the same draws of noise and of sampling: as far as their outcomes go together, PASS is more probable"
    " than said."
)


TEXTS_HEADER = (
    *("level", "documents", "tokens", "count as", "noise seeds", "sd", "margin", "MDE"),
    *("PASS / INCONCLUSIVE / FAIL if nothing changed", "documents enough", "seeds enough"),
)
TEXTS_SPARE = ("sd", "seeds enough", "tokens", "noise seeds", "MDE", "documents")
TEXTS_NOTE = (
    "In nats a token. Count as: documents of one length, or clusters of them; 80 or more can PASS. sd: of what a"
    " document of mean length loses if nothing changed; assumed: as the lowest noise level moves it. MDE: minimum"
    " detectable effect, one-sided alpha of the policy, power 0.8. Enough: for PASS with probability 0.8 if nothing"
    " changed."
)


def power_rows(power: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per level."""
    return [
        (
            f"{100 * level['level']:g} %",
            str(level["n"]),
            str(level["noise_seeds"]),
            f"{100 * level['discordance']:.1f} {'own' if level['own'] else 'assumed'}",
            f"{100 * level['margin']:.2f}",
            f"{100 * level['effect']:.2f}",
            " / ".join(f"{level['odds'][name]:.2f}" for name in ("passing", "inconclusive", "failing")),
            _count(level["items"]),
            _count(level["seeds"]) if level["own"] else "one draw",
        )
        for level in power
    ]


def power_page(
    power: Sequence[Mapping[str, Any]],
    whole: str = "",
    asked: str = "",
    task: str = "",
    distributions: Sequence[Mapping[str, Any]] = (),
) -> Page:
    """Return the table, the odds of the ``whole`` gate, what the items are ``asked`` with, and warnings; the same of
    ``distributions`` where they are judged too."""
    if power and "tokens" in power[0]:
        return _texts_page(power, whole, asked, task)
    title = f"{task}{': ' * bool(task)}What a gate against this baseline can tell"
    lines = [
        *([whole] if whole else []),
        *([f"the items are asked with: {asked}"] if asked else []),
        NOTE,
        *(_clusters(level) for level in power if level["clusters"] is not None),
        *(f"warning: {level['warning']}" for level in power if level["warning"]),
    ]
    beside = [_distributions(distributions)] if distributions else []
    return Page.of(title, Table.of(title, HEADER, power_rows(power), spare=SPARE), *beside, Lines.of(lines))


def _distributions(levels: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            f"{100 * level['level']:g} %",
            str(level["items"]),
            str(level["tokens"]),
            f"{level['margin']:g}",
            *("-" if level[name] is None else f"{level[name]:.2g}" for name in ("short", "passes_to", "fails_from")),
            level["unchanged"],
        )
        for level in levels
    ]
    return Table.of("What it can tell of distributions", BESIDE_HEADER, rows, spare=BESIDE_SPARE, legend=BESIDE_NOTE)


def tasks_power_page(tasks: Mapping[str, Mapping[str, Any]], whole: str) -> Page:
    """Return the tables of several ``tasks`` (task -> :meth:`harness.library.plan.Power.to_json`), with the odds of the
    ``whole`` gate first."""
    pages = {task: power_page(each["power"], "", each.get("asked_with", ""), task) for task, each in tasks.items()}
    parts = [part for task, page in pages.items() for part in (Heading(task), *page.parts)]
    return Page.of("What a gate over these baselines can tell", Lines.of([whole]), *parts)


def _texts_page(power: Sequence[Mapping[str, Any]], whole: str, asked: str, task: str) -> Page:
    """The page of a baseline of texts."""
    title = f"{task}{': ' * bool(task)}What a gate against this baseline can tell"
    lines = [
        *([whole] if whole else []),
        *([f"the items are asked with: {asked}"] if asked else []),
        TEXTS_NOTE,
        *(f"warning: {level['warning']}" for level in power if level["warning"]),
    ]
    rows = [_text_row(level) for level in power]
    return Page.of(title, Table.of(title, TEXTS_HEADER, rows, spare=TEXTS_SPARE), Lines.of(lines))


def _text_row(level: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{100 * level['level']:g} %",
        f"{level['n']:,}",
        f"{level['tokens']:,}",
        f"{level['effective']:.0f}",
        str(level["noise_seeds"]),
        "-" if level["sd"] is None else f"{level['sd']:.4f} {'own' if level['own'] else 'assumed'}",
        "-" if level["margin"] is None else f"{level['margin']:g}",
        "-" if level["effect"] is None else f"{level['effect']:.4f}",
        "-"
        if level["margin"] is None
        else " / ".join(f"{level['odds'][name]:.2f}" for name in ("passing", "inconclusive", "failing")),
        _count(level["items"]),
        _count(level["seeds"]) if level["own"] else "one draw",
    )


def _clusters(level: Mapping[str, Any]) -> str:
    source = "differences between noise seeds" if level["own"] else "outcomes"
    return (
        f"level {100 * level['level']:g} %: {level['clusters']} clusters, design effect {level['design']:.2f} (from the"
        f" baseline's {source}): the odds are those of clusters"
    )


def _count(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"
