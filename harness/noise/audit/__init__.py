"""What recounts and recomputes a running model's noise from outside the injector, in forwards chosen at random."""
