"""What a noise plan leads to before anything runs: expected counts, and the speed of this machine."""
