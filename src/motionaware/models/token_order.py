"""Find the order of the tokens of a clip: which token comes from which frame, line and column.

Networks lay clips out in different orders: VideoMAE, ViViT and V-JEPA 2 frame by frame (t h w),
TimeSformer place by place (h w t), each with or without class tokens. No shape says which. So five
clips are embedded with real numbers, by a copy that shares the weights and stops before its first
block: one of zeros, and four that differ from it in one region. The tokens that differ say where
the regions went. Nothing is assumed about the network's class.
"""

import copy
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.models.token_grid import Grid

_NUM_PROBES = 5
_TOLERANCE = 1e-3  # of the largest difference; smaller ones are rounding


@dataclass(frozen=True)
class TokenOrder:
    """How the tokens of a clip (or an image) lie in their row.

    Attributes:
        num_prefix: Tokens before those of the picture.
        grid: Frames, height and width (of an image: height and width).
        time_last: The order is (h w t), not (t h w).
    """

    num_prefix: int
    grid: Grid
    time_last: bool = False


def find_token_order(
    network: nn.Module, name: str, shape: tuple[int, ...], *, time_axis: int
) -> TokenOrder | None:
    """Return the order of the tokens that come to a layer; None if it cannot be found.

    Args:
        network: Stays as it is.
        name: The first layer to which these tokens come.
        shape: Of the input of one clip; height and width are its last axes.
        time_axis: Axis of the frames.
    """
    changed = _changed_tokens(network, name, _probes(network, shape, time_axis))
    return None if changed is None else _read_order(changed)


def lies_line_by_line(
    network: nn.Module, name: str, size: tuple[int, int], *, grid: Grid, num_prefix: int
) -> bool:
    """Return whether the tokens of an image lie line by line, where they come to a layer.

    Most do; those of Hiera lie mask unit by mask unit. True also where it cannot be found out,
    because the layers before have mixed the tokens or cannot run: only an embedding in which the
    corner pixel reaches one token can be evaluated.

    Args:
        network: Takes images.
        name: The layer; asked is the first layer of its class.
        size: Height and width of the images.
        grid: Height and width of the row of tokens.
        num_prefix: Tokens before those of the picture.
    """
    kind = type(network.get_submodule(name))
    first = next(n for n, module in network.named_modules() if type(module) is kind)
    probes = _probes(network, (1, 1, 3, *size), time_axis=1)[:, 0]
    changed = _changed_tokens(network, first, probes)
    if changed is None:
        return True
    rows = changed[:, num_prefix:]
    h, w = grid
    if rows.shape[1] != h * w:  # the first layer of a network whose maps shrink
        h = w = isqrt(rows.shape[1])
        if h * w != rows.shape[1]:
            return True
    corner, _, lower, right = (rearrange(one, "(h w) -> h w", h=h).nonzero() for one in rows)
    if len(corner) != 1:  # convolutions or norms have spread the mark over its neighbours
        return True
    return bool((lower[:, 1] == 0).all() and (right[:, 0] == 0).all())


def _changed_tokens(network: nn.Module, name: str, probes: Tensor) -> Tensor | None:
    """Which tokens each mark changes (mark, token); None if the network cannot say."""
    try:
        tokens = _embed(network, name, probes)
    except Exception:  # no numbers (meta device), or a layer that refuses such inputs
        return None
    if tokens.ndim != 3 or len(tokens) != _NUM_PROBES:
        return None
    difference = (tokens[1:] - tokens[:1]).abs().amax(dim=-1)
    largest = difference.amax(dim=1, keepdim=True)
    if not (largest > 0).all():
        return None
    return difference > _TOLERANCE * largest


def _read_order(changed: Tensor) -> TokenOrder | None:
    first, *last = changed
    num_prefix = int(first.nonzero()[0])
    ends = [int(one.nonzero()[-1]) - num_prefix for one in last]  # of time, height, width
    return _read_ends(ends, num_prefix, changed.shape[1])


def _read_ends(ends: list[int], num_prefix: int, number: int) -> TokenOrder | None:
    """Read the grid from the places of the last frame, line and column in the row of tokens."""
    time, height, width = ends
    w = width + 1
    if time >= height:  # (t h w): columns are neighbours, then lines, then frames
        h = height // w + 1
        t = time // (h * w) + 1
        expected = [(t - 1) * h * w, (h - 1) * w, w - 1]
        time_last = False
    else:  # (h w t): frames are neighbours
        t = time + 1
        w = width // t + 1
        h = height // (w * t) + 1
        expected = [t - 1, (h - 1) * w * t, (w - 1) * t]
        time_last = True
    if ends != expected or num_prefix + t * h * w != number:
        return None
    return TokenOrder(num_prefix, (t, h, w), time_last)


def _probes(network: nn.Module, shape: tuple[int, ...], time_axis: int) -> Tensor:
    """A clip of zeros, and four with a mark: at the start, and in the second half of each axis."""
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    probes = torch.zeros(_NUM_PROBES, *shape[1:], dtype=like.dtype, device=like.device)
    by_axis = probes.movedim(time_axis, 1)  # probe, frame, colour, line, column
    t, h, w = by_axis.shape[1], *by_axis.shape[-2:]
    by_axis[1, 0, :, 0, 0] = 1
    by_axis[2, t // 2 :, :, 0, 0] = 1
    by_axis[3, 0, :, h // 2 :, 0] = 1
    by_axis[4, 0, :, 0, w // 2 :] = 1
    return probes


class _Reached(Exception):
    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens


def _embed(network: nn.Module, name: str, clips: Tensor) -> Tensor:
    """Run a copy of a network, which shares its parameters, as far as a layer."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in network.parameters()}
    twin = copy.deepcopy(network, shared).eval()

    def stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        raise _Reached(inputs[0])

    twin.get_submodule(name).register_forward_pre_hook(stop)
    devices = [clips.device] if clips.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            twin(clips)
    except _Reached as reached:
        return reached.tokens.float()
    raise UsageError(f"{name} was not called")
