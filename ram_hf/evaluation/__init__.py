"""Judgement: how well a model ranks labels, seen and unseen, and whether it points at what it names."""
