"""Imported with the model (``external_lib``): the engine of the actor and the servers of the rollout."""

from __future__ import annotations

from harness.training.verl_plugin import engine, replica

engine.register()
replica.register()
