"""verl's own merger, which keeps here the dtype that the shards have; run as a program, with the merger's arguments.

verl 0.9.1 casts every tensor that it reads to bfloat16 (``fsdp_model_merger.py``, by ``Tensor.bfloat16``). Of a policy
that was trained in float32 that is another model: rounded to four bits afterwards it answered two of sixteen items
otherwise than the policy that its run had validated.
"""

from __future__ import annotations

import runpy

from torch import Tensor


def main() -> None:
    """Run ``verl.model_merger`` in this process, in which no tensor becomes bfloat16."""
    Tensor.bfloat16 = lambda self, *_, **__: self  # type: ignore[method-assign]
    runpy.run_module("verl.model_merger", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
