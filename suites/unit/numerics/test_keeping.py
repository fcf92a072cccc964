"""What is kept of log-probabilities is theirs, and what is not kept is summed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.distributions import Keep
from harness.numerics.keeping import distribution_of

pytestmark = pytest.mark.unit

LOGPROBS = torch.log_softmax(4 * torch.randn(5, 40, generator=torch.Generator().manual_seed(1)), -1)


def test_the_most_probable_tokens_or_given_ones_with_the_mass_of_the_rest():
    given = np.array([[39, 0, 7], [1, 2, 3]], dtype=np.int32)
    for found in (distribution_of(LOGPROBS, Keep((1, 4), None, 6)), distribution_of(LOGPROBS, Keep((1, 4), given))):
        found.check()
        for row, place in enumerate((1, 4)):
            own = LOGPROBS[place].double()
            ids = found.ids[row].tolist()
            assert found.logprobs[row] == pytest.approx(own[ids].numpy(), abs=1e-6)
            others = [token for token in range(40) if token not in ids]
            assert found.rest[row] == pytest.approx(float(own[others].logsumexp(0)), abs=1e-5)
            assert (found.at[row], found.best[row]) == (place, int(own.argmax()))
            assert found.least[row] == pytest.approx(float(own.min()))
