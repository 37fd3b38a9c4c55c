"""Temporal modules: networks from a clip to a clip of the same shape; one paper, one file."""
