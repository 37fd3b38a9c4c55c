"""Profile: what a recognizer costs, beside the same one without its temporal modules.

All is measured on two copies, and the given model stays as it is. The plain one is copied, all but
its temporal modules, not built again from a plan: so both have the same weights, type, device and
frozen parts, and a model of one's own, which has no plan, is served as well.
"""

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from motionaware.clip import ClipSpec
from motionaware.models.insertion import copy_without_modules
from motionaware.models.recognizer import VideoRecognizer


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one model costs.

    Attributes:
        num_parameters: Learnt or frozen, each once.
        gmac: Multiply-adds of a forward pass of one clip, in 10^9: of convolutions, linear layers
            and matrix products, the `t x t` products of attention along time among them. What
            works element by element is not counted (norms, activations, softmax, pooling, shifts,
            differences, gates); it shows in the latency.
        latency_seconds: Median time of a forward pass of one batch in evaluation mode.
        backward_bytes: Memory that a forward pass of one batch in training mode holds until its
            backward pass, beyond the model's own tensors; what shares memory counts once.
    """

    num_parameters: int
    gmac: float
    latency_seconds: float
    backward_bytes: int


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


def measure(
    models: Sequence[VideoRecognizer],
    *,
    batch_size: int = 1,
    num_threads: int | None = None,
    num_repeats: int = 10,
) -> tuple[list[Cost], list[list[float]], int]:
    """Measure what models cost, all timed in turns: a machine that is busy slows them all down.

    Args:
        models: Any recognizers; they are not changed.
        batch_size: Clips a batch.
        num_threads: Threads of torch on the CPU while it is measured; as they are if None.
        num_repeats: Timed runs of each.

    Returns:
        The cost of each; seconds of each by round; threads.

    Raises:
        ValueError: A number is below 1.
    """
    if min(batch_size, num_repeats, 1 if num_threads is None else num_threads) < 1:
        raise ValueError(f"{batch_size = }, {num_threads = }, {num_repeats = }; all start at 1")
    threads_before = torch.get_num_threads()
    num_threads = num_threads or threads_before
    torch.set_num_threads(num_threads)
    try:
        with torch.inference_mode(mode=False):
            copies = [copy.deepcopy(model) for model in models]
            clips = [make_clips(model, batch_size) for model in copies]
            counts = [_count_batch(model, batch_size) for model in copies]
            runs = _time_in_turns(copies, clips, num_repeats)
    finally:
        torch.set_num_threads(threads_before)
    costs = [
        Cost(
            num_parameters=sum(parameter.numel() for parameter in one.parameters()),
            gmac=macs / batch_size / 1e9,
            latency_seconds=statistics.median(seconds),
            backward_bytes=held,
        )
        for one, (macs, held), seconds in zip(copies, counts, zip(*runs, strict=True), strict=True)
    ]
    return costs, runs, num_threads


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


def _count_batch(model: VideoRecognizer, batch_size: int) -> tuple[int, int]:
    """What `count` says of a batch; in training mode no batch norm works on a single value.

    Where one would, as at the end of a 3-D network on a small clip, it is half of twice the batch.
    """
    try:
        return count(model, make_clips(model, batch_size))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
    macs, held = count(model, make_clips(model, 2 * batch_size))
    return macs // 2, held // 2


# Attention between tokens on a CPU, which torch counts on a GPU only.
_UNCOUNTED_BY_TORCH = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
    )
}


def count(model: VideoRecognizer, clips: UInt8[Tensor, "b t 3 h w"]) -> tuple[int, int]:
    """Multiply-adds of a forward pass, and the bytes it holds for its backward pass.

    Give a copy: the model is put into training mode, in which torch takes no shortcut that hides
    products from its counter, and its running statistics move on.
    """
    saved: list[Tensor] = []
    watch = saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda same: same)
    counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED_BY_TORCH)
    model.train()
    gpus = [clips.device] if clips.is_cuda else []
    with torch.random.fork_rng(gpus), torch.enable_grad(), counter, watch:  # dropout draws
        model(clips)
    held = _memory(saved)
    places = held.keys() - _memory([*model.parameters(), *model.buffers()]).keys()
    return counter.get_total_flops() // 2, sum(held[place] for place in places)


def _memory(tensors: list[Tensor]) -> dict[int, int]:
    """Bytes of each place where tensors lie; a tensor and its views lie in the same."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage._cdata: storage.nbytes() for storage in storages}


def _time_in_turns(
    models: Sequence[VideoRecognizer],
    clips: Sequence[UInt8[Tensor, "b _ 3 _ _"]],
    num_repeats: int,
) -> list[list[float]]:
    """Seconds of each model in each round but the first, in which memory is laid out."""

    def seconds(model: VideoRecognizer, clips: Tensor) -> float:
        model.eval()
        began = time.perf_counter()
        model(clips)
        if clips.is_cuda:
            torch.cuda.synchronize(clips.device)
        return time.perf_counter() - began

    pairs = list(zip(models, clips, strict=True))
    with torch.inference_mode():
        return [[seconds(*pair) for pair in pairs] for _ in range(1 + num_repeats)][1:]


def make_clips(model: VideoRecognizer, batch_size: int) -> UInt8[Tensor, "b t 3 h w"]:
    """Pictures that differ from pixel to pixel and from frame to frame, without chance."""
    t, h, device = model.clip.num_frames, model.clip.image_size, model.mean.device
    values = torch.arange(batch_size * t * 3 * h * h, device=device) % 251  # a prime: no period
    return rearrange(values.to(torch.uint8), "(b t c h w) -> b t c h w", t=t, c=3, h=h, w=h)
