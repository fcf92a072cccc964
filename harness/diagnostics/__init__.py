"""Judges a checkpoint by number formats: what quantization does to its weights, its activations and its answers.

Importing the package loads no torch: results and policies are plain data, see :mod:`harness.diagnostics.scan_result`
and :mod:`harness.diagnostics.policies`.
"""
