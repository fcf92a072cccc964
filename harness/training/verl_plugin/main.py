"""``verl.trainer.main_ppo`` with the trainer of the harness: ``python -m harness.training.verl_plugin.main``.

The trainer must be known in the process of verl's task runner before it looks for it by name.
"""

from __future__ import annotations

from typing import Any

import hydra
import ray
import verl.trainer.main_ppo as verl_main
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

_Runner = verl_main.TaskRunnerV1.__ray_metadata__.modified_class


class RobustTaskRunner(_Runner):  # type: ignore[misc, valid-type]
    """verl's task runner, which knows the trainer."""

    def run(self, config: Any) -> Any:
        """Register the trainer in this process; then run as verl does."""
        from harness.training.verl_plugin import trainer  # noqa: F401

        return super().run(config)


@hydra.main(config_path="pkg://verl.trainer.config", config_name="ppo_trainer", version_base=None)
def main(config: Any) -> None:
    """Run verl under the overrides of the command line."""
    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    verl_main.run_ppo(config, task_runner_class=ray.remote(RobustTaskRunner))


if __name__ == "__main__":
    main()
