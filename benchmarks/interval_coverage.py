"""Simulate how often the 95 % intervals of `motionaware compare` contain the true gain.

    python benchmarks/interval_coverage.py

Two models have the same true accuracy, 60 % on videos of mixed difficulty. Each seed shifts the
accuracy of a model at random (normal, with the given standard deviation), and each answer is
random. An interval should contain zero in 95 % of the trials.
"""

import numpy as np
from jaxtyping import Int

from motionaware.engine.statistics import paired_bootstrap, t_interval

NUM_TRIALS, NUM_VIDEOS, NUM_RESAMPLES = 500, 600, 1000
SPREADS, SEEDS = (0.0, 0.01, 0.03, 0.07, 0.15, 0.2), (2, 3, 5, 10)


def draw(rng: np.random.Generator, *, num_seeds: int, spread: float) -> Int[np.ndarray, "s n"]:
    """Return the correct answers of one model minus those of another with the same accuracy."""
    difficulty = rng.normal(0.6, 0.25, NUM_VIDEOS)
    shifts = rng.normal(0, spread, (2, num_seeds, 1))
    one, other = rng.random((2, num_seeds, NUM_VIDEOS)) < difficulty + shifts
    return one.astype(np.int8) - other.astype(np.int8)


def main() -> None:
    """Print the share of intervals that contain zero, by number and spread of the seeds."""
    rng = np.random.default_rng(0)
    print(f"{NUM_TRIALS} trials, {NUM_VIDEOS} videos, {NUM_RESAMPLES} resamples each")
    print("| spread | seeds | bootstrap | t |\n|---|---|---|---|")
    for spread in SPREADS:
        for num_seeds in SEEDS:
            hits = []
            for _ in range(NUM_TRIALS):
                difference = draw(rng, num_seeds=num_seeds, spread=spread)
                seed = int(rng.integers(2**31))
                found = paired_bootstrap(difference, num_resamples=NUM_RESAMPLES, seed=seed)
                by_t = t_interval(difference)
                assert by_t is not None
                hits.append((found.low <= 0 <= found.high, by_t[0] <= 0 <= by_t[1]))
            bootstrap, t = np.mean(hits, axis=0)
            print(f"| {spread:.0%} | {num_seeds} | {bootstrap:.1%} | {t:.1%} |", flush=True)


if __name__ == "__main__":
    main()
