"""Annotation lists: which videos a data set has and which class each one shows."""

from motionaware.deprecation import moved_names

__getattr__ = moved_names(
    __name__,
    {
        "DataError": "errors",
        "Example": "data.annotations.split",
        "KINDS": "data.annotations.table",
        "Split": "data.annotations.split",
        "read_split": "data.annotations.table",
    },
)
