"""Profile: what a recognizer costs, beside the same one without its temporal modules.

All is measured on two copies, and the given model stays as it is. The plain one is copied, all but
its temporal modules, not built again from a plan: so both have the same weights, type, device and
frozen parts, and a model of one's own, which has no plan, is served as well.
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
    """The cost of a model, beside that of the same model without temporal modules.

    Attributes:
        model: As it was given.
        plain: Without temporal modules.
        latency_ratio: Model by plain: the median over pairs of runs, one right after the other, so
            that a busy machine slows down both.
        clip: The clips that were seen.
        batch_size: Clips a batch.
        num_threads: Threads of torch on the CPU.
        num_repeats: Timed runs of each.
        device: Where both ran.
    """

    model: Cost
    plain: Cost
    latency_ratio: float
    clip: ClipSpec
    batch_size: int
    num_threads: int
    num_repeats: int
    device: str


def profile(
    model: VideoRecognizer,
    *,
    batch_size: int = 1,
    num_threads: int | None = None,
    num_repeats: int = 10,
) -> Profile:
    """Measure what a model costs, beside the same model without temporal modules.

    Clips are as long and large as `model.clip` says. The two are timed in turns, after one run of
    each that is not timed.

    Args:
        model: Any recognizer, in any mode, on any device; it is not changed.
        batch_size: Clips a batch.
        num_threads: Threads of torch on the CPU while it is measured; as they are if None.
        num_repeats: Timed runs of each.

    Raises:
        ValueError: A number is below 1.
    """
    with torch.inference_mode(mode=False):  # the caller's would make copies without gradients
        copies = [model, copy_without_modules(model)]
    costs, runs, num_threads = measure(
        copies, batch_size=batch_size, num_threads=num_threads, num_repeats=num_repeats
    )
    return Profile(
        model=costs[0],
        plain=costs[1],
        latency_ratio=statistics.median(mine / plain for mine, plain in runs),
        clip=model.clip,
        batch_size=batch_size,
        num_threads=num_threads,
        num_repeats=num_repeats,
        device=str(model.mean.device),
    )


def profile_table(found: Profile) -> str:
    """Write a profile as a table for people."""
    size = found.clip.image_size
    facts = [  # what, its unit, digits, attribute, the unit in the attribute's own
        ("parameters", "M", 2, "num_parameters", 1e6),
        ("multiply-adds a clip", "G", 2, "gmac", 1),
        ("latency", "ms", 1, "latency_seconds", 1e-3),
        ("held for backward", "MB", 1, "backward_bytes", 1e6),
    ]
    lines = [
        f"{found.clip.num_frames} x {size} x {size}, batch size {found.batch_size}, "
        f"device {found.device}, threads {found.num_threads}; "
        f"latency: median of {found.num_repeats} runs, in turns\n",
        f"{'temporal modules':<24} {'without':>10} {'with':>10} {'more':>10}",
    ]
    for what, unit, digits, name, scale in facts:
        plain, model = (getattr(cost, name) / scale for cost in (found.plain, found.model))
        more = f"{model - plain:+.{digits}f}"
        if name == "latency_seconds":
            more = f"x {found.latency_ratio:.3f}"  # pair by pair: steadier than the difference
        lines.append(f"{what:<21} {unit:<2} {plain:>10.{digits}f} {model:>10.{digits}f} {more:>10}")
    lines.append(
        "\nMultiply-adds are those of convolutions, linear layers and matrix products; work element"
        "\nby element (norms, activations, shifts, differences, gates) shows in the latency alone."
    )
    return "\n".join(lines)
