"""Train and evaluate models on data."""
