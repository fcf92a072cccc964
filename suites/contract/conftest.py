"""Has pytest show the values of failed assertions in the helpers too."""

import pytest

pytest.register_assert_rewrite("noise_laws", "noise_value_laws", "noise_gradient_laws", "noise_models", "format_checks")
