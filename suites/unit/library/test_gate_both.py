"""Where the halves of a gate on answers and distributions lie; the gate itself: ``suites/sabotage``."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.baselines.book import load_named
from harness.calibration.distributions import CHANGE, DistributionCase, Pool, side
from harness.exceptions import HarnessError, NotComparableError
from harness.gates.policy import GatePolicy
from harness.library.gate_both import (
    announce_distributions,
    beside_baseline,
    beside_run,
    reference_of,
    stored_half,
)
from harness.runs.loaded import load_run
from harness.testing import write_run

pytestmark = pytest.mark.unit

BOOKS = Path(__file__).parents[3] / "baselines"
SHIPPED = "arith/arith-qwen2"
POLICY = GatePolicy(kl_margin=0.01)


def test_halves_lie_beside_their_baseline_and_their_run():
    assert beside_baseline(BOOKS, SHIPPED) == BOOKS / "arith" / "arith-qwen2.divergences"
    assert beside_run(Path("runs/v1.5")) == Path("runs/v1.5.divergences")


def test_a_reference_is_asked_for_where_it_is_judged_and_nowhere_else(tmp_path):
    held = load_named(BOOKS, SHIPPED)
    assert reference_of(GatePolicy(), held, SHIPPED, None, BOOKS) is None
    with pytest.raises(HarnessError, match="without a kl_margin; nothing would read it"):
        reference_of(GatePolicy(), held, SHIPPED, tmp_path, BOOKS)
    for named, words in ((SHIPPED, r"arith-qwen2\.divergences is no run"), (held, "none was given")):
        with pytest.raises(HarnessError, match=f"{words}; make it of the baseline's run: harness divergence record"):
            reference_of(POLICY, held, named, None, BOOKS)


def test_a_run_without_distributions_beside_it_is_not_judged(tmp_path):
    run = write_run(tmp_path / "run", {0.0: [[1], [0]]})
    with pytest.raises(NotComparableError, match="half of the evidence is no evidence"):
        stored_half(run, load_run(run))


def test_what_cannot_pass_is_said_or_refused_beforehand():
    pairs = Pool.of(DistributionCase("", 64, CHANGE)).pairs
    few, enough = (side("old", {0.0: [own for _, own in pairs[:n]]}) for n in (58, 64))
    assert announce_distributions(enough, POLICY, [0.0], False) == ()
    (words,) = announce_distributions(few, POLICY, [0.0], True)
    assert "can only find damage" in words
    for reference, level, part in ((few, 0.0, False), (enough, 0.05, True)):
        with pytest.raises(NotComparableError, match="is foregone, even if no distribution moved"):
            announce_distributions(reference, POLICY, [level], part)
