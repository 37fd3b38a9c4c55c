"""Measure what a network costs: parameters, multiply-adds, latency and memory for backward."""

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

from motionaware.errors import UsageError
from motionaware.models.recognizer import VideoRecognizer


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one model.

    Attributes:
        num_parameters: Number of parameters, trainable or frozen.
        gmac: Multiply-adds of a forward pass of one clip, in 10^9. Counted are convolutions, linear
            layers and matrix products, including the `t x t` products of temporal attention.
            Element-wise operations (norms, activations, softmax, pooling, shifts, differences,
            gates) are not counted, but they add to the latency.
        latency_seconds: Median time of a forward pass of one batch in evaluation mode.
        backward_bytes: Memory that a forward pass of one batch in training mode keeps for the
            backward pass, without parameters and buffers. Shared memory counts once.
    """

    num_parameters: int
    gmac: float
    latency_seconds: float
    backward_bytes: int


def measure(
    models: Sequence[VideoRecognizer],
    *,
    batch_size: int = 1,
    num_threads: int | None = None,
    num_repeats: int = 10,
) -> tuple[list[Cost], list[list[float]], int]:
    """Measure the cost of models. They are timed in turn, so that a busy machine slows all equally.

    Args:
        models: The models; they are not changed.
        batch_size: Clips in a batch.
        num_threads: CPU threads of torch during the measurement; None keeps the present number.
        num_repeats: Timed forward passes of each model.

    Returns:
        The cost of each model; the seconds of each model in each round; the number of threads.

    Raises:
        UsageError: A number is below 1.
    """
    if min(batch_size, num_repeats, 1 if num_threads is None else num_threads) < 1:
        raise UsageError(
            f"{batch_size = }, {num_threads = }, {num_repeats = }; each must be at least 1"
        )
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
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            gmac=macs / batch_size / 1e9,
            latency_seconds=statistics.median(seconds),
            backward_bytes=saved_bytes,
        )
        for model, (macs, saved_bytes), seconds in zip(
            copies, counts, zip(*runs, strict=True), strict=True
        )
    ]
    return costs, runs, num_threads


def _count_batch(model: VideoRecognizer, batch_size: int) -> tuple[int, int]:
    """Return what `count` returns for a batch.

    If a batch norm cannot take a batch of one clip in training mode, half of the values for two
    clips; see single_clip.py.
    """
    try:
        return count(model, make_clips(model, batch_size))
    except ValueError:
        from motionaware.engine.single_clip import trains_on_one_clip

        if batch_size > 1 or trains_on_one_clip(model):
            raise
    macs, saved_bytes = count(model, make_clips(model, 2))
    return macs // 2, saved_bytes // 2


# Attention between tokens: torch's counter knows the operator for GPUs only.
_UNCOUNTED_BY_TORCH = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
    )
}


def count(model: VideoRecognizer, clips: UInt8[Tensor, "b t 3 h w"]) -> tuple[int, int]:
    """Return the multiply-adds of a forward pass and the bytes it keeps for the backward pass.

    The model is changed, so give a copy: it is put into training mode, in which torch takes no fast
    path that its counter misses, and its running statistics are updated.
    """
    saved: list[Tensor] = []
    hooks = saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda same: same)
    counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED_BY_TORCH)
    model.train()
    gpus = [clips.device] if clips.is_cuda else []
    with torch.random.fork_rng(gpus), torch.enable_grad(), counter, hooks:  # dropout draws
        model(clips)
    saved_bytes = _storage_bytes(saved)
    for storage in _storage_bytes([*model.parameters(), *model.buffers()]):
        saved_bytes.pop(storage, None)
    return counter.get_total_flops() // 2, sum(saved_bytes.values())


def _storage_bytes(tensors: list[Tensor]) -> dict[int, int]:
    """Return the bytes of each storage of the tensors; a tensor and its views share one."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage._cdata: storage.nbytes() for storage in storages}


def _time_in_turns(
    models: Sequence[VideoRecognizer],
    clips: Sequence[UInt8[Tensor, "b _ 3 _ _"]],
    num_repeats: int,
) -> list[list[float]]:
    """Return the seconds of each model in each round. A first round, not returned, warms up."""

    def seconds(model: VideoRecognizer, clips: Tensor) -> float:
        model.eval()
        start = time.perf_counter()
        model(clips)
        if clips.is_cuda:
            torch.cuda.synchronize(clips.device)
        return time.perf_counter() - start

    pairs = list(zip(models, clips, strict=True))
    with torch.inference_mode():
        return [[seconds(*pair) for pair in pairs] for _ in range(1 + num_repeats)][1:]


def make_clips(model: VideoRecognizer, batch_size: int) -> UInt8[Tensor, "b t 3 h w"]:
    """Return clips whose pixels and frames differ, without random draws."""
    t, h, device = model.clip.num_frames, model.clip.image_size, model.mean.device
    values = torch.arange(batch_size * t * 3 * h * h, device=device) % 251  # a prime: no period
    return rearrange(values.to(torch.uint8), "(b t c h w) -> b t c h w", t=t, c=3, h=h, w=h)
