"""Adapters: the interfaces of other projects over the engine of :mod:`harness.noise`."""
