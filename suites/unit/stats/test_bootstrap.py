"""The bootstrap beside the deciding interval."""

from __future__ import annotations

import json
import math
import time
import warnings

import numpy as np
import pytest

from harness.stats import bca_mean, paired_mean

pytestmark = pytest.mark.unit


def values(n: int = 300) -> np.ndarray:
    return np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=n, p=[0.10, 0.86, 0.04])


def test_bootstrap_is_near_the_t_interval_of_a_regular_sample() -> None:
    found, reference = bca_mean(values()), paired_mean(values())
    assert not found.degenerate
    assert found.estimate == reference.estimate
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.004)


def test_bootstrap_depends_on_seed_and_label_only() -> None:
    first = bca_mean(values(), seed=3, label="level 0.05", resamples=500)
    np.random.seed(1)
    assert bca_mean(values(), seed=3, label="level 0.05", resamples=500) == first
    assert np.random.random() == np.random.RandomState(1).random()
    assert bca_mean(values(), seed=4, label="level 0.05", resamples=500) != first
    assert bca_mean(values(), seed=3, label="level 0.1", resamples=500) != first


@pytest.mark.parametrize("sample", [[0.0] * 10, [0.2] * 7, [1.0], []])
def test_equal_values_are_degenerate_and_silent(sample: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bca_mean(sample)
    assert found.degenerate
    if sample:
        assert found.low == found.estimate == found.high == pytest.approx(sample[0])
    else:
        assert math.isnan(found.estimate)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["degenerate"] is True


def test_one_changed_item_still_gives_finite_bounds() -> None:
    found = bca_mean([-1.0] + [0.0] * 99, resamples=2000)
    assert not found.degenerate
    assert -0.1 < found.low < -0.01 <= found.high <= 0


def test_a_gsm8k_sized_sample_is_quick() -> None:
    started = time.perf_counter()
    bca_mean(values(1319))
    assert time.perf_counter() - started < 3


def test_bootstrap_refuses_what_is_not_one_number_per_item() -> None:
    with pytest.raises(ValueError):
        bca_mean([[0.1, 0.2]])
