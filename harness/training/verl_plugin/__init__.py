"""The verl plugin: operator noise, AQN and their ledgers inside verl's own processes; no file of verl is edited.

``early`` is imported at ``import verl`` in every process (``VERL_USE_EXTERNAL_MODULES``, which raises where the entry
points of ``verl.plugins`` swallow errors): the CPU platform and what the installed versions need. ``late`` comes with
the model (``actor_rollout_ref.model.external_lib``): the engine of the actor and the rollout servers. ``main`` is
``verl.trainer.main_ppo`` with the trainer that collects what every process did. All read the recipe that the
environment names (:data:`harness.training.recipe.VARIABLE`).
"""

EARLY = "harness.training.verl_plugin.early"
LATE = "harness.training.verl_plugin.late"
MAIN = "harness.training.verl_plugin.main"
VENDOR = "robustness"
"""What ``VERL_ENGINE_VENDOR`` names to choose the engine of :mod:`.engine`."""

TRAINER = "robustness_sync"
"""The trainer's name in verl's registry."""

SETTINGS_FILE = "settings.json"
"""Beside the ledger: verl's settings by dotted key, as the run was launched with them."""

LEDGER_VARIABLE = "ROBUSTNESS_LEDGER"
"""Names the file to which the driver appends, step by step, what every process reports."""
