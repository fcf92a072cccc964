"""Robustness evaluation of LLM checkpoints under proven numerical noise. No evidence, no verdict."""

import os

if "HARNESS_NOISE" in os.environ:  # see harness.noise.environment; without it nothing is imported here
    from harness.noise.switch import switch_on

    switch_on()
