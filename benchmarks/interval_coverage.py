"""How often the 95 % intervals of `motionaware compare` hold the true gain: a simulation.

    python benchmarks/interval_coverage.py

Two columns with the same accuracy in truth, 60 % on videos of mixed difficulty. Each seed shifts a
column's accuracy by chance (normal, of the spread given), each video is answered by chance. The
interval should hold zero in 95 % of the trials.
"""

import numpy as np

from motionaware.engine.statistics import paired_bootstrap

NUM_TRIALS, NUM_VIDEOS, NUM_RESAMPLES = 500, 600, 1000


def covered(rng: np.random.Generator, *, num_seeds: int, spread: float) -> bool:
    """Whether one interval holds the true gain, zero."""
    difficulty = rng.normal(0.6, 0.25, NUM_VIDEOS)
    shifts = rng.normal(0, spread, (2, num_seeds, 1))
    one, other = rng.random((2, num_seeds, NUM_VIDEOS)) < difficulty + shifts
    found = paired_bootstrap(
        one.astype(np.int8) - other.astype(np.int8),
        num_resamples=NUM_RESAMPLES,
        seed=int(rng.integers(2**31)),
    )
    return found.low <= 0 <= found.high


def main() -> None:
    """Print the share of intervals that hold the truth, by seeds and by their spread."""
    rng = np.random.default_rng(0)
    print(f"{NUM_TRIALS} trials, {NUM_VIDEOS} videos, {NUM_RESAMPLES} resamples each")
    for spread in (0.0, 0.01, 0.03):
        for num_seeds in (2, 3, 5, 10):
            hits = [covered(rng, num_seeds=num_seeds, spread=spread) for _ in range(NUM_TRIALS)]
            print(f"spread {spread:4.0%}  seeds {num_seeds:2}  holds it {np.mean(hits):6.1%}")


if __name__ == "__main__":
    main()
