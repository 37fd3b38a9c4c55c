"""Early stopping: end a run when validation top-1 no longer improves.

The decision depends on the log only, so a resumed run stops after the same epoch.
"""

from collections.abc import Mapping, Sequence

from motionaware.engine.config import TrainConfig

Log = Sequence[Mapping[str, str | float | int]]
"""One row for each epoch with `val_top1`, as a number or as text from log.csv."""


def epochs_without_improvement(log: Log, *, min_delta: float) -> int:
    """Return the number of epochs since validation top-1 last rose by more than `min_delta`.

    >>> log = [{"val_top1": top1} for top1 in (0.5, 0.6, 0.605, 0.6)]
    >>> epochs_without_improvement(log, min_delta=0.0)
    1
    >>> epochs_without_improvement(log, min_delta=0.01)
    2
    """
    best, num_epochs = float("-inf"), 0
    for row in log:
        top1 = float(row["val_top1"])
        if top1 > best + min_delta:
            best, num_epochs = top1, 0
        else:
            num_epochs += 1
    return num_epochs


def stopped_early(log: Log, config: TrainConfig) -> str | None:
    """Return the reason why a run with this log ended before its last epoch, None if it did not."""
    patience, delta = config.early_stopping_epochs, config.early_stopping_min_delta
    if patience is None or len(log) >= config.epochs:
        return None
    if epochs_without_improvement(log, min_delta=delta) < patience:
        return None
    scores = [float(row["val_top1"]) for row in log]
    more = f" by more than {delta:g}" if delta else ""
    return (
        f"stopped early after {len(log)} of {config.epochs} epochs: validation top-1 did not "
        f"improve{more} in the last {patience} (train.early_stopping_epochs); the best is "
        f"{max(scores):.1%} in epoch {1 + scores.index(max(scores))}"
    )


def is_over(log: Log, config: TrainConfig) -> bool:
    """Return True if a run with this log has no epoch left to train."""
    return len(log) >= config.epochs or stopped_early(log, config) is not None
