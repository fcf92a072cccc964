"""What a checkpoint on disk is and where an engine loads it from: Hugging Face folders, LoRA adapters, FSDP shards.

:func:`harness.checkpoints.source.resolve` is the way in. Depends on :mod:`harness.noise.meta` for a model without
weights; :mod:`harness.evaluate` and :mod:`harness.diagnostics` depend on this package.
"""
