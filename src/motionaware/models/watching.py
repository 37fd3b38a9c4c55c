"""Watch shapes flow through a network without running it: what comes to each of its layers.

A copy of the network, whose tensors are fake (they have a shape and no numbers), is called once. So
nothing is computed, no weights are copied, and no tensor of the network changes, be it a running
statistic or a counter of batches.
"""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

# Clips in the batch that flows. A prime that hardly divides a size of maps or a number of channels:
# so an axis of this many images is the batch axis.
NUM_CLIPS = 11

MAX_PREFIX = 5  # class, distillation and register tokens before those of the picture


@dataclass(frozen=True)
class Host:
    """A layer before which a temporal module can act, and what comes to it.

    Attributes:
        name: Of the layer.
        layout: `frames`, `maps`, `tokens`, `volumes`, `volumemaps` or `volumetokens`.
        channels: Of its clips.
        num_frames: Of its clips: fewer than the network was given where it shrinks time.
        num_prefix: Tokens before those of the picture; they pass untouched.
    """

    name: str
    layout: str
    channels: int
    num_frames: int
    num_prefix: int = 0


@dataclass(frozen=True)
class Call:
    """What came to a layer when it was called first.

    Attributes:
        order: Place of the call among all calls of the network.
        given: The first argument, if it was a tensor; it has a shape and no numbers.
        grid: Frames, height and width of a row of tokens, if the second argument said so.
        steady: All calls of this layer brought the same shape.
    """

    order: int
    given: Tensor | None
    grid: tuple[int, int, int] | None
    steady: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first argument; empty where it was no tensor."""
        return () if self.given is None else tuple(self.given.shape)


def watch(network: nn.Module, *, num_frames: int, image_size: int | None) -> dict[str, Call]:
    """Say what comes to each layer of a network, by name, when it is given clips.

    Args:
        network: Takes images, or volumes `b c t h w`.
        num_frames: Frames a clip.
        image_size: Height and width of a frame; what the network says of itself where it is None.

    Raises:
        ValueError: The network does not take such clips.
    """
    size = image_size or own_image_size(network)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    tensors = [*network.parameters(), *network.buffers()]
    copied: dict[int, Any] = {id(tensor): mode.from_tensor(tensor) for tensor in tensors}
    twin = copy.deepcopy(network, copied).eval()
    calls: dict[str, Call] = {}
    for name, module in twin.named_modules():
        module.register_forward_pre_hook(_Witness(name, calls))
    kind = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
    shape = (
        (NUM_CLIPS, 3, num_frames, size, size)
        if takes_volumes(network)
        else (NUM_CLIPS * num_frames, 3, size, size)
    )
    try:
        with mode, torch.no_grad(), _torch_kept_quiet():
            twin(torch.empty(shape, dtype=kind.dtype, device=kind.device))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{type(network).__name__} does not take clips of {num_frames} x {size} x {size}: "
            f"{type(error).__name__}: {reason}; choose another image_size or number of frames"
        ) from error
    return calls


@contextmanager
def _torch_kept_quiet() -> Iterator[None]:
    """Let torch not log a page of traceback for what `watch` says in one line."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def takes_volumes(network: nn.Module) -> bool:
    """Whether a network takes clips `b c t h w` as a whole: it has 3-D convolutions of its own."""
    return any(isinstance(module, nn.Conv3d) for module in _own_modules(network).values())


def _own_modules(network: nn.Module) -> dict[str, nn.Module]:
    """All layers of a network by name, without the temporal modules put into it."""
    return {
        name: module
        for name, module in network.named_modules()
        if "temporal" not in name.split(".")
    }


def own_image_size(network: nn.Module) -> int:
    """Height and width of the images a network was made for; those of ImageNet if it says nothing.

    >>> from torchvision.models import VisionTransformer
    >>> own_image_size(VisionTransformer(32, 16, 1, 1, 8, 8))
    32
    """
    settings = getattr(network, "pretrained_cfg", None) or {}
    said = (
        getattr(getattr(network, "patch_embed", None), "img_size", None),
        getattr(network, "image_size", None),
        settings.get("input_size"),
    )
    sizes = [one[-1] if isinstance(one, (tuple, list)) else one for one in said if one]
    return next((size for size in sizes if isinstance(size, int)), 224)


class Watched:
    """A network, and what came to each of its layers when shapes flowed through it.

    Attributes:
        modules: All layers of the network itself by name.
        calls: What came to those that were called.
        inside: Those that were called inside each, in the order of their calls.
    """

    def __init__(
        self, network: nn.Module, *, num_frames: int, image_size: int | None = None
    ) -> None:
        self.modules = _own_modules(network)
        self.num_frames = num_frames
        self.volumes = takes_volumes(network)
        self.own_prefix = getattr(network, "num_prefix_tokens", None)
        calls = watch(network, num_frames=num_frames, image_size=image_size)
        self.calls = {name: call for name, call in calls.items() if name in self.modules}
        self.inside: dict[str, list[str]] = {name: [] for name in self.modules}
        for name in sorted(self.calls, key=lambda name: self.calls[name].order):
            parent = name
            while parent:
                parent = parent.rpartition(".")[0]
                self.inside[parent].append(name)

    def host(self, name: str) -> Host:
        """Say what comes to a layer.

        Raises:
            ValueError: What comes is no clip.
        """
        found = self.read(name)
        if found is None:
            call = self.calls.get(name)
            came = "is never called" if call is None else f"takes {call.shape or 'no tensor first'}"
            raise ValueError(
                f"site {name} ({type(self.modules[name]).__name__}) {came}; wanted one clip-like "
                "tensor: frames (b t) c h w or (b t) h w c, tokens (b t) n c, or volumes; "
                "choose another layer with where="
            )
        return found

    def read(self, name: str) -> Host | None:
        """Tell the layout of what comes to a layer by its shape; None if it is none."""
        call = self.calls.get(name)
        if call is None or not call.steady:
            return None
        t = self.num_frames
        if self.volumes and call.shape[:1] == (NUM_CLIPS,):
            if len(call.shape) == 5 and self._channels_last(name, call):
                return Host(name, "volumemaps", call.shape[-1], call.shape[1])
            if len(call.shape) == 5:
                return Host(name, "volumes", call.shape[1], call.shape[2])
            if len(call.shape) == 3 and call.grid is not None:
                frames, h, w = call.grid
                num_prefix = call.shape[1] - frames * h * w
                return Host(name, "volumetokens", call.shape[-1], frames, num_prefix)
        elif not self.volumes and call.shape[:1] == (NUM_CLIPS * t,):
            if len(call.shape) == 3:
                return Host(name, "tokens", call.shape[-1], t, self._num_prefix(call.shape[1]))
            square = len(call.shape) == 4 and len(set(call.shape[1:])) < 3
            if square and self._channels_last(name, call):
                return Host(name, "maps", call.shape[-1], t)
            if square and call.shape[2] == call.shape[3]:
                return Host(name, "frames", call.shape[1], t)
        return None

    def _channels_last(self, name: str, call: Call) -> bool:
        """Square pictures give square maps: the odd axis is that of the channels.

        Where all axes are alike, the first layer that takes the tensor says.
        """
        *_, h, w, c = call.shape
        if w != c:
            return h == w
        if h != w:
            return False
        takers = [n for n in [name, *self.inside[name]] if self.calls[n].given is call.given]
        leaves = [self.modules[n] for n in takers if not any(self.modules[n].children())]
        return any(isinstance(leaf, nn.Linear | nn.LayerNorm) for leaf in leaves[:1])

    def _num_prefix(self, num_tokens: int) -> int:
        """Tokens before those of the picture: as few as leave a square, the network's own first."""
        own = self.own_prefix
        for number in [own, *range(MAX_PREFIX + 1)]:
            rest = num_tokens - (number or 0)
            if number is not None and rest > 0 and isqrt(rest) ** 2 == rest:
                return number
        return own or 0


class _Witness:
    """Notes what comes to one layer (a forward pre-hook)."""

    def __init__(self, name: str, calls: dict[str, Call]) -> None:
        self.name = name
        self.calls = calls

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        match inputs[1:2]:
            case [[int(frames), int(height), int(width)]]:
                grid = frames, height, width
            case _:
                grid = None
        call = Call(len(self.calls), given, grid)
        before = self.calls.setdefault(self.name, call)
        if before.shape != call.shape:
            self.calls[self.name] = Call(before.order, before.given, before.grid, steady=False)
