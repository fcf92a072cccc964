"""Engines: what runs a model over batches of prompts, behind one protocol; the registry alone knows their names."""
