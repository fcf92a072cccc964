"""Imported at ``import verl`` in every process: the day that chat templates are told, the CPU platform, and what the
installed versions need of it."""

from __future__ import annotations

import os

from harness.training.verl_plugin.day import one_day

one_day()
if os.environ.get("VERL_PLATFORM") == "cpu":
    from harness.training.verl_plugin import obstacles, platform

    platform.register()
    obstacles.one_backend_for_one_device()
    obstacles.nothing_to_pin()
    obstacles.vllm_has_another_name()
