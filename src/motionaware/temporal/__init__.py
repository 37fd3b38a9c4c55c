"""Temporal modules: nn.Modules from a clip to a clip of the same shape; one paper, one file."""

from motionaware.deprecation import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "CAUSAL": "temporal.table",
        "TEMPORAL": "temporal.table",
        "is_causal": "temporal.names",
        "site_maker": "temporal.names",
    },
)
