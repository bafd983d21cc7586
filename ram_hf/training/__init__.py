"""Training: configuration, optimisation, checkpoints and the loop."""
