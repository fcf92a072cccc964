"""Checkpoints that are built from a package of the package index: which there are, and how one is made."""
