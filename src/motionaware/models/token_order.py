"""Find the order of a clip's tokens: the frame, row and column that each token comes from.

Networks order the tokens of a clip differently: VideoMAE, ViViT and V-JEPA 2 frame by frame (t h
w), TimeSformer position by position (h w t), each with or without class tokens. The shape does not
show the order. Therefore five probe clips are embedded: one of zeros, and four that differ from it
in one region. The tokens that change show the positions of these regions. The probes run through a
copy that shares the weights and stops before the first block. The network's class is not used.
"""

import copy
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from motionaware.models.token_grid import Grid

_NUM_PROBES = 5
_TOLERANCE = 1e-3  # of the largest difference; smaller differences are rounding errors


@dataclass(frozen=True)
class TokenOrder:
    """The order of the tokens of a clip or an image.

    Attributes:
        num_prefix: Tokens before the image tokens.
        grid: Frames, height and width of a clip; height and width of an image.
        time_last: True if the order is (h w t), not (t h w).
    """

    num_prefix: int
    grid: Grid
    time_last: bool = False


def find_token_order(
    network: nn.Module, name: str, shape: tuple[int, ...], *, time_axis: int
) -> TokenOrder | None:
    """Return the order of the tokens that a layer takes; None if it cannot be found.

    Args:
        network: The network; it is not changed.
        name: The first layer that takes these tokens.
        shape: Input shape of a batch of one clip; height and width are the last axes.
        time_axis: Axis of the frames.
    """
    changed = _changed_tokens(network, name, _make_probes(network, shape, time_axis))
    return None if changed is None else _read_order(changed)


def is_row_major(
    network: nn.Module, name: str, size: tuple[int, int], *, grid: Grid, num_prefix: int
) -> bool:
    """Return True if the image tokens that a layer takes are in row-major order.

    Most networks use this order; Hiera orders its tokens by mask units. True also if the order
    cannot be found because earlier layers have mixed the tokens or cannot run: the order is known
    only if the corner pixel changes a single token.

    Args:
        network: An image network.
        name: The layer. The first layer of its class is examined instead.
        size: Height and width of the images, in pixels.
        grid: Height and width of the tokens.
        num_prefix: Tokens before the image tokens.
    """
    kind = type(network.get_submodule(name))
    first = next(n for n, module in network.named_modules() if type(module) is kind)
    probes = _make_probes(network, (1, 1, 3, *size), time_axis=1)[:, 0]
    changed = _changed_tokens(network, first, probes)
    if changed is None:
        return True
    image_tokens = changed[:, num_prefix:]
    h, w = grid
    if image_tokens.shape[1] != h * w:  # the maps of the network shrink after its first layer
        h = w = isqrt(image_tokens.shape[1])
        if h * w != image_tokens.shape[1]:
            return True
    corner, _, lower, right = (
        rearrange(probe, "(h w) -> h w", h=h).nonzero() for probe in image_tokens
    )
    if len(corner) != 1:  # convolutions or norms have mixed neighbouring tokens
        return True
    return bool((lower[:, 1] == 0).all() and (right[:, 0] == 0).all())


def _changed_tokens(network: nn.Module, name: str, probes: Tensor) -> Tensor | None:
    """Return which tokens each marked probe changes (probe, token); None if this is unknown."""
    try:
        tokens = _embed(network, name, probes)
    except Exception:  # tensors on the meta device, or a layer that refuses such inputs
        return None
    if tokens is None or tokens.ndim != 3 or len(tokens) != _NUM_PROBES:
        return None
    difference = (tokens[1:] - tokens[:1]).abs().amax(dim=-1)
    largest = difference.amax(dim=1, keepdim=True)
    if not (largest > 0).all():
        return None
    return difference > _TOLERANCE * largest


def _read_order(changed: Tensor) -> TokenOrder | None:
    """Return the order from the changed tokens of the corner, time, height and width probes."""
    corner, *halves = changed
    num_prefix = int(corner.nonzero()[0])
    last_tokens = [int(half.nonzero()[-1]) - num_prefix for half in halves]
    return _order_from_last_tokens(last_tokens, num_prefix, changed.shape[1])


def _order_from_last_tokens(
    last_tokens: list[int], num_prefix: int, number: int
) -> TokenOrder | None:
    """Return the order from the indices of the first position's last frame, row and column."""
    time, height, width = last_tokens
    w = width + 1
    if time >= height:  # (t h w): the index grows by 1 per column, by w per row, by h w per frame
        h = height // w + 1
        t = time // (h * w) + 1
        expected = [(t - 1) * h * w, (h - 1) * w, w - 1]
        time_last = False
    else:  # (h w t): the index grows by 1 per frame
        t = time + 1
        w = width // t + 1
        h = height // (w * t) + 1
        expected = [t - 1, (h - 1) * w * t, (w - 1) * t]
        time_last = True
    if last_tokens != expected or num_prefix + t * h * w != number:
        return None
    return TokenOrder(num_prefix, (t, h, w), time_last)


def _make_probes(network: nn.Module, shape: tuple[int, ...], time_axis: int) -> Tensor:
    """Return a clip of zeros and four marked ones: the corner, and half of time, height, width."""
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    probes = torch.zeros(_NUM_PROBES, *shape[1:], dtype=like.dtype, device=like.device)
    by_frame = probes.movedim(time_axis, 1)  # probe, frame, colour, row, column
    t, h, w = by_frame.shape[1], *by_frame.shape[-2:]
    by_frame[1, 0, :, 0, 0] = 1
    by_frame[2, t // 2 :, :, 0, 0] = 1
    by_frame[3, 0, :, h // 2 :, 0] = 1
    by_frame[4, 0, :, 0, w // 2 :] = 1
    return probes


class _LayerReached(Exception):
    """Stops a forward pass at a layer and carries the layer's input."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens


def _embed(network: nn.Module, name: str, clips: Tensor) -> Tensor | None:
    """Return the input of a layer, from a copy that shares parameters; None if it is not called."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in network.parameters()}
    copied = copy.deepcopy(network, shared).eval()

    def stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        raise _LayerReached(inputs[0])

    copied.get_submodule(name).register_forward_pre_hook(stop)
    devices = [clips.device] if clips.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            copied(clips)
    except _LayerReached as reached:
        return reached.tokens.float()
    return None
