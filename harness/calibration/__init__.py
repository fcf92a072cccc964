"""Are the promises kept: simulated coverage of every interval, error rates of whole gates, and of early stopping."""
