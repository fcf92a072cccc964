"""What the auditor asks of rows: that they follow a formula, and that noise does not repeat."""

from __future__ import annotations

import pytest
import torch

from harness.noise.audit.comparing import (
    LEAST_CHANGED,
    SEQUENCES,
    TOKENS,
    formula_of,
    repeated_rows,
)
from harness.numerics.error_models import perturb
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys
from harness.spec.errors import ERROR_MODELS, FakeQuant, StuckAt
from harness.spec.faults import StuckLane

pytestmark = pytest.mark.unit
LEVEL = 0.1


def draw_key(rows, columns):
    first, second = torch.arange(rows)[:, None], torch.arange(columns)[None]
    return DrawKey(Keys.of(counter_keys(1, first)), Keys.of(counter_keys(2, second)))


def random_rows(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ERROR_MODELS)
def test_a_model_has_a_formula_or_draws(name):
    """Whatever can be known of a model without its keys is known: nothing passes because nobody looks at it."""
    error = ERROR_MODELS[name]()
    formula = formula_of(error, LEVEL)
    x = random_rows(20, 50)
    after = perturb(error, x, draw_key(20, 50), LEVEL)
    if formula is not None:
        assert torch.equal(formula(x), after)
        assert not torch.equal(after, x)
    known = (formula, error.expected_relative_rms(LEVEL), error.expected_rms(LEVEL), error.expected_share(LEVEL))
    assert any(part is not None for part in known) is not isinstance(error, StuckAt | StuckLane)
    assert formula_of(error, 0.0) is None


def test_stochastic_rounding_has_no_formula():
    assert formula_of(FakeQuant(rounding="stochastic"), 1.0) is None
    assert formula_of(FakeQuant(rounding="toward_zero"), 1.0) is not None


@pytest.mark.parametrize("name", ["absolute_gaussian", "bit_flip", "bit_flips", "fault_mix", "spike"])
def test_what_is_expected_of_models_that_draw_is_what_they_do(name):
    error, x = ERROR_MODELS[name](), random_rows(500, 400)
    after = perturb(error, x, draw_key(500, 400), LEVEL)
    if name == "absolute_gaussian":
        assert error.expected_share(LEVEL) is None
        assert (after - x).square().mean().sqrt().item() == pytest.approx(error.expected_rms(LEVEL), rel=0.02)
    else:
        assert error.expected_rms(LEVEL) is None
        assert (after != x).double().mean().item() == pytest.approx(error.expected_share(LEVEL), rel=0.05)


def test_a_stuck_feature_is_stuck_for_every_row():
    assert not StuckAt().draws_per_row
    assert not ERROR_MODELS["deadzone"]().draws_per_row
    assert ERROR_MODELS["spike"]().draws_per_row


def noisy(exact):
    return exact + 0.1 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))


def test_equal_rows_with_equal_noise_are_counted():
    exact = random_rows(1, 1, 40).expand(3, 5, 40)
    real = torch.ones(3, 5, dtype=torch.bool)
    used = noisy(exact)
    assert repeated_rows(exact, used, real) == 0
    used[1] = used[0]
    assert repeated_rows(exact, used, real) == 5
    used[2, 4] = used[2, 3]
    assert repeated_rows(exact, used, real) == 6
    real[1] = False
    assert repeated_rows(exact, used, real) == 1, "padding does not count"


def test_only_equal_results_and_enough_changes_are_evidence():
    exact = random_rows(2, 1, 40)
    difference = (noisy(exact) - exact)[:1]
    real = torch.ones(2, 1, dtype=torch.bool)
    assert repeated_rows(exact, exact + difference, real) == 0, "other results may have the same noise by rounding"
    same = exact[:1].expand(2, 1, 40)
    few = torch.where(torch.arange(40) < LEAST_CHANGED - 1, difference, 0.0)
    assert repeated_rows(same, same + few, real) == 0
    enough = torch.where(torch.arange(40) < LEAST_CHANGED, difference, 0.0)
    assert repeated_rows(same, same + enough, real) == 1
    assert repeated_rows(same, same, real) == 0, "a clean forward repeats whatever it is given"


def test_the_search_is_bounded():
    exact = random_rows(1, 1, 8).expand(SEQUENCES + 5, TOKENS + 7, 8)
    used = exact + 1
    real = torch.ones(exact.shape[:2], dtype=torch.bool)
    assert repeated_rows(exact, used, real) == SEQUENCES * TOKENS - 1
