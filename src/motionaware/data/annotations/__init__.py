"""Annotation lists: which videos a data set has and which class each one shows."""
