"""The pytest plugin (entry point ``pytest11``): options, the ``robustness`` fixture and the summary table."""
