"""AQN inside a vLLM worker: methods for ``worker_extension_cls``, called by name through ``collective_rpc``.

Settings and results cross the process as plain dictionaries, so that no pickled code is needed. Nothing of vLLM is
imported here: verl's own extension can be derived from it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.aqn.config import AqnConfig
from harness.aqn.digest import digest
from harness.aqn.holder import ModuleHolder
from harness.aqn.session import Aqn
from harness.exceptions import HarnessError


class AqnWorker:
    """Methods added to a vLLM worker, which has a ``model_runner`` with ``get_model()``."""

    model_runner: Any
    _aqn: Aqn | None = None

    def aqn_configure(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Take :meth:`AqnConfig.to_json` settings; return them as they are in force, their hash, and the targets.

        Noise of earlier settings is taken back first. Raises :class:`HarnessError`.
        """
        self.aqn_restore()
        config = AqnConfig.from_json(settings)
        holder = ModuleHolder(self.model_runner.get_model())
        self._aqn = Aqn(holder, config)
        names = [piece.name for piece in holder.pieces(config.targets)]
        return {"config": config.to_json(), "effective": self._aqn.effective, "targets": names}

    def aqn_apply(self, step: int) -> dict[str, Any]:
        """Apply the noise of ``step``; return :meth:`harness.aqn.session.Dose.to_json`."""
        if self._aqn is None:
            raise HarnessError(f"AQN of step {step}", "this worker has no settings yet", "call aqn_configure first")
        return self._aqn.apply(step).to_json()

    def aqn_restore(self) -> dict[str, list[str]]:
        """Restore clean weights; return the names of those restored, and of those updated in between."""
        if self._aqn is None:
            return {"restored": [], "updated": []}
        done = self._aqn.restore()
        return {"restored": list(done.restored), "updated": list(done.updated)}

    def aqn_digests(self) -> dict[str, str]:
        """Return a digest of every parameter of the model in this process."""
        return {name: digest(value) for name, value in self.model_runner.get_model().named_parameters()}
