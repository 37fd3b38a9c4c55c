"""Data sets stored as tar files."""
