"""Reports: one dictionary per run, rendered for the terminal, as JSON and as Markdown (no torch)."""
