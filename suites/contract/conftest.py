"""Has pytest show the values of failed assertions in the helpers too."""

import pytest

_CHECKING = ("noise_laws", "noise_value_laws", "noise_gradient_laws", "noise_models", "format_checks")
pytest.register_assert_rewrite(*(f"suites.contract.{name}" for name in _CHECKING))
