"""One file a family of data sets: their published lists -> Splits."""
