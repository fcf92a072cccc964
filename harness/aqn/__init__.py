"""AQN, Gaussian noise on the weights that generate rollouts: schedule, targets, apply and restore, proven dose."""
