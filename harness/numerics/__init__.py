"""Pure tensor functions: no state, no input or output, randomness is an argument."""

from harness.numerics.quantizer import fake_quantize

__all__ = ["fake_quantize"]
