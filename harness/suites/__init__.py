"""Test suites that come with the package: ``pytest --pyargs harness.suites.gate``."""
