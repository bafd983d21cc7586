"""Mean average precision of multi-label scores."""
