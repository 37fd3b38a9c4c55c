"""Annotation lists of data sets -> splits of labelled examples."""
