"""Pure tensor functions: no state, no input or output, randomness is an argument."""
