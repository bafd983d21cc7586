"""Precision, recall and F1 of the k best labels of each image."""
