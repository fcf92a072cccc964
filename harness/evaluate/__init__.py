"""From a checkpoint and a task to scored records."""
