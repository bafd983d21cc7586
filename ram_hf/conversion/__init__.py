"""Checkpoints of other code as models of this package."""
