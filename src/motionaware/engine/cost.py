"""Measure what a network costs: parameters, multiply-adds, latency and memory for backward."""

import copy
import inspect
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from motionaware.errors import UsageError
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
        raise UsageError(f"{batch_size = }, {num_threads = }, {num_repeats = }; all start at 1")
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


def _count_batch(model: VideoRecognizer, batch_size: int) -> tuple[int, int]:
    """Return the result of `count` for a batch.

    In training mode, batch norm raises ValueError on a single value per channel, which occurs at
    the end of a 3-D network on a small clip. Then the result is half of that for twice the batch.
    """
    clips = make_clips(model, batch_size)
    try:
        return count(model, clips)
    except ValueError:
        if not _normalizes_single_values(model, clips):
            raise
    macs, held = count(model, make_clips(model, 2 * batch_size))
    return macs // 2, held // 2


class _SingleValue(Exception):
    """A training-mode batch norm got one value per channel."""


class _BatchNormCheck(TorchFunctionMode):
    """Raises _SingleValue at a training-mode batch norm on one value per channel."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.batch_norm:
            call = inspect.signature(F.batch_norm).bind(*args, **kwargs or {})
            values, training = call.arguments["input"], call.arguments.get("training", False)
            if training and values.numel() == values.shape[1]:
                raise _SingleValue
        return func(*args, **kwargs or {})


def _normalizes_single_values(model: VideoRecognizer, clips: UInt8[Tensor, "b t 3 h w"]) -> bool:
    """Return True if a batch norm of the model, in training mode, gets one value per channel."""
    gpus = [clips.device] if clips.is_cuda else []
    try:
        with torch.random.fork_rng(gpus), torch.no_grad(), _BatchNormCheck():
            model.train()(clips)
    except _SingleValue:
        return True
    return False


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
