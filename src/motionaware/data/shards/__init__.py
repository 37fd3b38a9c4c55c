"""Data sets packed as tar files."""
