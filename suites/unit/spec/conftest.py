"""Every valid error model and specification, as hypothesis strategies."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import strategies as st

from harness.spec import ERROR_MODELS, OPS, PROFILES, SCOPES, FakeQuant, NoiseSpec
from harness.spec.formats import FORMATS, ROUNDINGS, SCALE_RULES
from harness.spec.noise import DIRECTIONS, KEY_MODES, PHASES, POINTS, SOFTMAXES

POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 10**6)
FIELDS = {
    "scale": st.none() | st.floats(0, allow_infinity=False),
    "step": st.none() | st.floats(0, allow_infinity=False),
    "threshold": st.none() | st.floats(0, 1, exclude_max=True),
    "margin": st.none() | st.floats(0, 1, exclude_max=True),
    "rate": st.none() | st.floats(0, 1) | st.integers(0, 1),
    "limit": POSITIVE,
    "magnitude": POSITIVE,
    "value": st.floats(allow_nan=False, allow_infinity=False),
    "bit": st.integers(0, 31),
    "count": st.integers(1, 16),
    "pattern": st.sampled_from(["random", "burst"]),
    "period": st.integers(1, 2**31 - 1),
    "single": st.floats(0, 1),
    "special": st.floats(0, 1),
    "most": st.integers(2, 16),
}
PATTERNS = st.lists(
    st.lists(st.text("abZ09_*?[]!-", min_size=1, max_size=5), min_size=1, max_size=3).map(".".join), max_size=3
).map(tuple)
NAMED = PATTERNS.filter(bool)
LAYER = st.integers(0, 99) | st.just(2**63 - 1)
PLACES = st.one_of(
    st.fixed_dictionaries({"ops": st.lists(st.sampled_from(list(OPS)), max_size=4).map(tuple)}),
    st.fixed_dictionaries({"profile": st.sampled_from(list(PROFILES))}),
    st.fixed_dictionaries({"scope": st.sampled_from(list(SCOPES))}),
    st.fixed_dictionaries({"modules": NAMED}),
    st.fixed_dictionaries({"classes": NAMED}),
)


def build_errors():
    """Any error model with any fields in range."""
    numbers = [
        st.builds(model, **{field.name: FIELDS[field.name] for field in dataclasses.fields(model)})
        for model in ERROR_MODELS.values()
        if model is not FakeQuant
    ]
    return st.one_of(*numbers, build_fake_quants())


def build_fake_quants():
    """Every format with each rounding, and with each scale rule where it has one."""
    rules = {name: (None, *SCALE_RULES) if row.has_scale_rule else (None, "floor") for name, row in FORMATS.items()}
    named = [(name, rule) for name in sorted(rules) for rule in rules[name]]
    return st.builds(
        lambda pair, rounding: FakeQuant(*pair, rounding), st.sampled_from(named), st.sampled_from(ROUNDINGS)
    )


def build_specs():
    """Any specification."""
    settings = {
        "error": build_errors(),
        "at": st.sampled_from(POINTS),
        "layers": st.lists(st.tuples(LAYER, LAYER).map(sorted).map(tuple), max_size=4).map(tuple),
        "include": PATTERNS,
        "exclude": PATTERNS,
        "when": st.sampled_from(DIRECTIONS),
        "phases": st.lists(st.sampled_from(PHASES), max_size=3).map(tuple),
        "key": st.sampled_from(KEY_MODES),
        "softmax": st.sampled_from(SOFTMAXES),
        "seed": st.integers(0, 2**63 - 1),
    }
    every = st.tuples(PLACES, st.fixed_dictionaries({}, optional=settings))
    allowed = every.filter(lambda pair: pair[1].get("at") != "weight" or pair[1].get("when", "forward") == "forward")
    return allowed.map(lambda pair: NoiseSpec(**pair[0], **pair[1]))


@pytest.fixture(scope="session")
def specs():
    return build_specs()
