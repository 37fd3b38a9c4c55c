"""Temporal modules: nn.Modules from a clip to a clip of the same shape; one paper, one file."""
