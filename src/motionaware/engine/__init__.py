"""Train and evaluate: where models and data meet."""
