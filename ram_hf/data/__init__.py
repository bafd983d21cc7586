"""Rows: label lists, sources, streams, transforms and loading. Import each module by its name."""
