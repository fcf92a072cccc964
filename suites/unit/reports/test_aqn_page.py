"""The pages of AQN: every number where its heading says, bars by the logarithm, what is missing as a dash."""

from __future__ import annotations

from typing import Any

import pytest

from harness.reports.aqn_page import copy_page, plan_page, response_page, schedule_page
from harness.reports.page import Lines, Page, Table
from harness.reports.render.terminal import text_lines

pytestmark = pytest.mark.unit


def table(page: Page) -> Table:
    return next(part for part in page.parts if isinstance(part, Table))


def lines(page: Page) -> list[str]:
    return [line for part in page.parts if isinstance(part, Lines) for line in part.lines]


def target(name: str, **changes: Any) -> dict[str, Any]:
    given = {"name": name, "kind": "rmsnorm", "elements": 1536, "multiplier": 0.5, "asked": 0.025}
    return {**given, "deviation": 0.05, "relative": 0.0251, **changes}


def planned(*targets: dict[str, Any]) -> dict[str, Any]:
    found = {"matched": len(targets), "elements": 3072, "sigma": 0.05, "config": {"mode": "absolute"}}
    return {**found, "step": 3, "effective": "abc", "targets": list(targets)}


def test_a_plan_shows_sigma_beside_the_weights() -> None:
    page = plan_page(planned(target("model.norm"), target("model.layers.0.q", deviation=None, relative=None)))
    assert lines(page) == [
        "2 targets, 3,072 elements; sigma 0.05 (absolute) from step 3 on; settings abc",
        "kinds: rmsnorm",
    ]
    assert table(page).header[0] == "layer (of model)"
    assert table(page).rows[0] == ("norm", "1,536", "0.5", "0.025", "0.5", "0.0251")
    assert table(page).rows[1] == ("layers.0.q", "1,536", "0.5", "0.025", "-", "-"), "no weights, no ratio"


def test_names_outside_model_stay_whole() -> None:
    found = table(plan_page(planned(target("transformer.h.0.ln"))))
    assert (found.header[0], found.rows[0][0]) == ("layer", "transformer.h.0.ln")


def test_the_bars_of_a_schedule_are_logarithmic_and_steps_without_noise_are_named() -> None:
    page = schedule_page([(0, 2, 0.0), (3, 5, 0.04), (6, 8, 0.02), (9, 11, 0.01)], [(0, 2)])
    assert [row[:2] for row in table(page).rows] == [
        ("0 to 2", "0"),
        ("3 to 5", "0.04"),
        ("6 to 8", "0.02"),
        ("9 to 11", "0.01"),
    ]
    lengths = [len(row[2]) for row in table(page).rows]
    assert lengths[0] == 0 and lengths[1] == 30 and lengths[3] == 1 and lengths[2] in (15, 16)
    assert lines(page) == ["a validation at steps 0 to 2 is clean by accident: sigma is 0 there"]
    assert len(table(schedule_page([(0, 9, 0.05)], [])).rows[0][2]) == 30, "a constant is one full bar"


def test_a_copy_shows_the_dose_of_each_layer() -> None:
    layer = {"name": "norm", "asked": 0.05, "achieved": 0.051, "ratio": 1.02, "share": 0.9922, "mean": -0.0048}
    page = copy_page([layer], "absolute sigma 0.05", "there")
    assert table(page).rows == (("norm", "0.05", "0.051", "1.0200", "99.22%", "-4.80e-03"),)
    assert lines(page) == ["aqn: absolute sigma 0.05", "copy: there"]


def response(**changes: Any) -> dict[str, Any]:
    interval = {"estimate": 0.5, "low": 0.25, "high": 0.75}
    cell = {"group": "norms", "sigma": 0.01, "relative": 0.012, "accuracy": 0.5, "conditional": True}
    cell |= {"kl": {"estimate": 1.7e-7, "low": 1.18e-7, "high": 2.22e-7}, "change": interval, "entropy": interval}
    clean = {"accuracy": interval, "entropy": 0.1}
    return {
        "clean": clean,
        "items": 8,
        "tokens": 64,
        "cells": [cell | changes],
        "fits": {"norms": {"sentence": "fits"}},
    }


def test_a_response_gives_bounds_with_one_power_of_ten() -> None:
    page = response_page(response())
    assert table(page).rows == (
        ("norms", "0.01", "0.012", "1.70 [1.18, 2.22]e-07", "50 %", "+50.0 [+25.0, +75.0]", "0.5000"),
    )
    assert lines(page) == [
        "clean: accuracy 50.0 % [25.0, 75.0] of 8 items, entropy 0.1000 nats per token, 64 tokens",
        "note: fewer than 5 draws, so the intervals are conditional on these draws",
        "prediction of KL for norms: fits",
    ]
    assert any("1.70 [1.18, 2.22]e-07" in line for line in text_lines(page, 120))


def test_bounds_that_json_cannot_hold_are_infinite() -> None:
    cell = table(response_page(response(kl={"estimate": 2e-3, "low": None, "high": None}, conditional=False)))
    assert cell.rows[0][3] == "2.00 [-inf, inf]e-03"
    nothing = response_page(response(kl={"estimate": 0.0, "low": 0.0, "high": 0.0}, conditional=False))
    assert table(nothing).rows[0][3] == "0" and not any(line.startswith("note") for line in lines(nothing))
