"""What keeps transformers silent restores what it found."""

from __future__ import annotations

import pytest
from transformers.utils import logging

from harness.noise.quiet import quiet

pytestmark = pytest.mark.unit


def _fail_in_quiet() -> None:
    with quiet():
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise KeyError


@pytest.mark.parametrize("bars", [True, False])
def test_verbosity_and_bars_are_as_before_also_after_an_error(bars: bool) -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    try:
        with pytest.raises(KeyError):
            _fail_in_quiet()
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, bars)
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()
