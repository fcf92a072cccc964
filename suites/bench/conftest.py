"""Synthetic runs of the unit tests, for benchmarks of what reads them."""

from suites.unit.conftest import make_counts_, make_result_, make_run

__all__ = ["make_counts_", "make_result_", "make_run"]
