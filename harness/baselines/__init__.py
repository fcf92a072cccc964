"""Baselines: accepted runs as small, readable, checksummed files."""
