"""Measure the cost of a recognizer with and without its temporal modules.

Everything is measured on two copies; the given model is not changed. The plain model is a copy
without the temporal modules, not a new model: both have the same weights, dtype, device and frozen
parameters, and a user's own network works too.
"""

import statistics
from dataclasses import dataclass

import torch

from motionaware.clip import ClipSpec
from motionaware.engine.cost import Cost, measure
from motionaware.models.insertion import copy_without_modules
from motionaware.models.recognizer import VideoRecognizer


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The cost of a model with and without its temporal modules.

    Attributes:
        model: Cost of the given model.
        plain: Cost of the same model without temporal modules.
        latency_ratio: Median of latency(model) / latency(plain) over pairs of successive runs; the
            load of the machine affects both runs of a pair.
        clip: Size of the clips.
        batch_size: Clips per batch.
        num_threads: CPU threads of torch.
        num_repeats: Timed runs of each model.
        device: Device of both models.
    """

    model: Cost
    plain: Cost
    latency_ratio: float
    clip: ClipSpec
    batch_size: int
    num_threads: int
    num_repeats: int
    device: str

    def table(self) -> str:
        """Format the profile as a text table."""
        size = self.clip.image_size
        rows = [  # label, unit, digits, attribute, size of the unit
            ("parameters", "M", 2, "num_parameters", 1e6),
            ("multiply-adds a clip", "G", 2, "gmac", 1),
            ("latency", "ms", 1, "latency_seconds", 1e-3),
            ("held for backward", "MB", 1, "backward_bytes", 1e6),
        ]
        lines = [
            f"{self.clip.num_frames} x {size} x {size}, batch size {self.batch_size}, "
            f"device {self.device}, threads {self.num_threads}; "
            f"latency: median of {self.num_repeats} alternating runs\n",
            f"{'temporal modules':<24} {'without':>10} {'with':>10} {'more':>10}",
        ]
        for label, unit, digits, name, scale in rows:
            plain, model = (getattr(cost, name) / scale for cost in (self.plain, self.model))
            more = f"{model - plain:+.{digits}f}"
            if name == "latency_seconds":
                more = f"x {self.latency_ratio:.3f}"  # of pairs: less noise than the difference
            numbers = f"{plain:>10.{digits}f} {model:>10.{digits}f} {more:>10}"
            lines.append(f"{label:<21} {unit:<2} {numbers}")
        lines.append(
            "\nMultiply-adds are those of convolutions, linear layers and matrix products."
            "\nElementwise operations (norms, activations, shifts, gates) affect only the latency."
        )
        return "\n".join(lines)


def profile(
    model: VideoRecognizer,
    *,
    batch_size: int = 1,
    num_threads: int | None = None,
    num_repeats: int = 10,
) -> Profile:
    """Measure the cost of a model with and without its temporal modules.

    Clips have the size of `model.clip`. The two models are timed in alternation, after one warm-up
    run each.

    Args:
        model: Any recognizer, in any mode, on any device; it is not changed.
        batch_size: Clips per batch.
        num_threads: CPU threads of torch during the measurement; None keeps their number.
        num_repeats: Timed runs of each model.

    Raises:
        UsageError: A number is below 1.
    """
    with torch.inference_mode(mode=False):  # tensors copied in inference mode have no gradients
        copies = [model, copy_without_modules(model)]
    costs, runs, num_threads = measure(
        copies, batch_size=batch_size, num_threads=num_threads, num_repeats=num_repeats
    )
    return Profile(
        model=costs[0],
        plain=costs[1],
        latency_ratio=statistics.median(model_s / plain_s for model_s, plain_s in runs),
        clip=model.clip,
        batch_size=batch_size,
        num_threads=num_threads,
        num_repeats=num_repeats,
        device=str(model.mean.device),
    )
