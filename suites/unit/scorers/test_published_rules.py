"""The published scorers of GSM8K beside ours: one table, which ``docs/tasks.md`` shows, with every intended difference.

Their rules are restated here from their sources: OpenAI's ``grade_school_math/dataset.py`` (read at commit 2909d34;
there is no package of it); lm-eval 0.4.13's ``lm_eval/tasks/gsm8k/gsm8k.yaml`` (version 3: ``strict-match``,
``flexible-extract``, exact match without ``,``, ``$`` and a full stop at the end); verl 0.9.1's
``verl/utils/reward_score/gsm8k.py`` and ``math_reward.py`` (for plain numbers: the text in the last ``\\boxed{}``).
``suites/slow/test_published_scorers.py`` holds them to lm-eval and verl themselves, where they are installed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.answers import RULE, flexible_answer, score_text, strict_answer

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs" / "tasks.md"
MARKED = re.compile(r"#### (\-?[0-9\.\,]+)")
WORDS = {1.0: "right", 0.0: "wrong", None: "-"}


def outcome(answer: str | None, gold: str) -> str:
    return WORDS[None if answer is None else float(answer == gold)]


def openai(text: str, gold: str) -> str:
    """The first marker; commas go."""
    found = MARKED.search(text)
    return outcome(found and found[1].replace(",", ""), gold)


def lm_eval(answers: list[str], gold: str) -> str:
    cleaned = [re.sub(r"\.$", "", re.sub(r"[,$]", "", answer)) for answer in answers]
    return outcome(cleaned[0] if cleaned else None, gold)


def lm_eval_strict(text: str, gold: str) -> str:
    return lm_eval(MARKED.findall(text)[:1], gold)


def lm_eval_flexible(text: str, gold: str) -> str:
    """The last number, or two or more of digits, ``$``, commas and full stops."""
    return lm_eval([found[0] for found in re.finditer(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text)][-1:], gold)


def verl_strict(text: str, gold: str) -> str:
    """The last marker of the last 300 characters; commas go."""
    found = MARKED.findall(text[-300:])
    return outcome(found[-1].replace(",", "") if found else None, gold)


def verl_flexible(text: str, gold: str) -> str:
    """The last run of digits, commas and full stops of the last 300 characters, as it is."""
    found = re.findall(r"(\-?[0-9\.\,]+)", text[-300:])
    kept = [run for run in found if run != "."]
    return outcome(kept[-1] if kept else found[0] if found else None, gold)


def verl_math(text: str, gold: str) -> str:
    found = re.findall(r"\\boxed\{([^{}]*)\}", text)
    return outcome(found[-1] if found else None, gold)


def ours(which: str) -> Callable[[str, str], str]:
    return lambda text, gold: WORDS[getattr(score_text(text, gold), which)]


RULES: dict[str, Callable[[str, str], str]] = {
    "strict": ours("strict"),
    "OpenAI": openai,
    "lm-eval strict-match": lm_eval_strict,
    "verl strict": verl_strict,
    "flexible": ours("flexible"),
    "lm-eval flexible-extract": lm_eval_flexible,
    "verl flexible": verl_flexible,
    "verl math": verl_math,
}
ALL, NONE = "right " * 7 + "-", "- " * 8
TABLE = (
    ("#### 72", "72", ALL, "no difference"),
    ("#### 72 apples", "72", ALL, "what follows is a unit"),
    ("**#### 72**", "72", ALL, "no difference"),
    ("I do not know", "72", NONE, "theirs count it as wrong, ours as unparsed"),
    ("#### 71", "72", "wrong " * 7 + "-", "no difference"),
    ("#### 1,234", "1234", "right right right right right right wrong -", "verl flexible keeps commas"),
    ("#### 72.", "72", "right wrong right wrong right right wrong -", "a full stop ends a sentence"),
    ("#### 72.00", "72", "right wrong wrong wrong right wrong wrong -", "numbers are compared, not texts"),
    ("#### $72", "72", "right - - - right right right -", "a currency sign may stand before a number"),
    ("####72", "72", "right - - - right right right -", "the space behind the marker is not asked for"),
    ("#### 9{,}500", "9500", "right wrong wrong wrong right wrong wrong -", "LaTeX groups of digits"),
    ("#### \u221272", "-72", "right - - - right wrong wrong -", "every minus sign of Unicode"),
    ("#### 1.5e3", "1500", "right wrong wrong wrong right wrong wrong -", "an exponent belongs to its number"),
    ("#### 5 / 3", "5", "- right right right - wrong wrong -", "a fraction is never read in part"),
    ("#### 10 to 20", "10", "- right right right wrong wrong wrong -", "for strict a range is not one number"),
    ("#### .", "72", "- wrong wrong wrong - - wrong -", "punctuation is not a number"),
    ("#### 70\n#### 72", "72", "right wrong wrong right right right right -", "of several markers the last"),
    ("#### 72\nSo 5 are left.", "72", "right right right right wrong wrong wrong -", "flexible reads the last number"),
    ("The answer is 72", "72", "- - - - right right right -", "strict asks for the marker"),
    (
        "#### 72" + "\nChecked." * 40,
        "72",
        "right right right - right right wrong -",
        "verl reads the last 300 characters",
    ),
    ("It is 72 ...", "72", "- - - - right wrong wrong -", "dots are not a number; lm-eval and verl read the last ones"),
    ("It is 72 $.", "72", "- - - - right wrong right -", "a bare currency sign is not one; lm-eval reads `$.`"),
    ("It is 10-20", "20", "- - - - right wrong wrong -", "a hyphen behind a digit is not a sign"),
    ("#### \\boxed{72}", "72", "- - - - right right right right", "strict asks for a number behind the marker"),
)
HEAD = ("answer", "reference", *RULES, "intended difference")


def shown(text: str) -> str:
    """An answer as a cell: line breaks seen, the long one cut."""
    seen = text.replace("\n", "\\n")
    return f"`{seen if len(seen) < 40 else seen[:16] + ' ...'}`"


def documented() -> list[str]:
    rows = [(shown(text), gold, *cells.split(), why) for text, gold, cells, why in TABLE]
    return [f"| {' | '.join(row)} |" for row in (HEAD, ["---"] * len(HEAD), *rows)]


@pytest.mark.parametrize(("text", "gold", "cells", "why"), TABLE, ids=range(len(TABLE)))
def test_every_scorer_gives_what_the_table_says(text: str, gold: str, cells: str, why: str) -> None:
    assert [rule(text, gold) for rule in RULES.values()] == cells.split(), why


def test_the_page_shows_the_table() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert "\n".join(documented()) in page, "\n".join(documented())


PINNED = {"2": "3a447b17b7222982"}
"""Rule -> what it reads in :func:`renderings`, as a digest."""


def renderings() -> list[str]:
    """Answers in many forms: marker, sign, currency, number, what follows; one in seven of all."""
    marks = ("#### ", "####", "####\n", "It is ", "#### x ")
    signs = ("", "-", "+", "\u2212", "\u2014")
    currencies = ("", "$", "\\$", "\u20ac")
    numbers = (
        *(
            "7",
            "07",
            "7.",
            "7.50",
            ".5",
            "1,234",
            "1,23",
            "12,345.6",
            "9{,}500",
            "1'234",
            "1\u202f234",
            "1_000",
            "1.2.3",
        ),
        *(
            "2e3",
            "1e9999",
            "\uff17",
            "\u0667",
            "5/3",
            "1 1/2",
            "\\frac{5}{3}",
            "5\u00b2",
            "1\u00bd",
            "10-20",
            "3 4",
            "NaN",
        ),
    )
    ends = ("", ".", "%", " dollars", "k", "\n#### 8", " and 9", "\n\nSo 6.")
    every = itertools.product(marks, signs, currencies, numbers, ends)
    return ["".join(parts) for parts in itertools.islice(every, 0, None, 7)]


def test_a_rule_that_reads_anything_otherwise_has_another_version() -> None:
    """Whoever changes what is read counts ``harness.answers.RULE`` up, adds a row and accepts baselines anew."""
    read = [[strict_answer(text), flexible_answer(text)] for text in renderings()]
    assert PINNED.get(RULE) == hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16]
