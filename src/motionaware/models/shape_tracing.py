"""Trace shapes through a network without running it: which tensor comes to each of its layers.

A copy of the network on fake tensors is called once (see `fake_tensors.py`). No weights are copied,
and neither the network nor any cache of the process changes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isqrt, prod
from typing import Any

from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.models.fake_tensors import LeftoverError, MakeInput, run_fake
from motionaware.models.token_grid import Grid, MapSize, told_grid
from motionaware.models.token_order import TokenOrder, find_token_order

# Clips in the batch that flows. A prime that hardly divides a size of maps or a number of channels:
# so an axis of this many images is the batch axis.
NUM_CLIPS = 11

MAX_PREFIX = 5  # class, distillation and register tokens before those of the picture

ImageSize = int | tuple[int, int]
CLIP_LAYOUTS = ("volumes", "volumemaps", "volumetokens")  # all frames of a clip at once
IMAGES, VOLUMES, CLIPS = "images (b t) c h w", "volumes b c t h w", "clips b t c h w"


@dataclass(frozen=True)
class Host:
    """A layer before which a temporal module can act, and what comes to it.

    Attributes:
        name: Of the layer.
        layout: `frames`, `maps`, `tokens`, `volumes`, `volumemaps` or `volumetokens`.
        channels: Of its clips.
        num_frames: Of its clips: fewer than the network was given where it shrinks time.
        num_prefix: Tokens before those of the picture; they pass untouched.
        grid: Height and width of its tokens (frames before them, for `volumetokens`) in frames of
            the size for which the host was found.
        map_size: Says the size of another layer's map at run time, from which the grid follows.
        scale: That map is so many times higher and wider than the grid.
        time_last: Tokens of a clip lie in the order (h w t) instead of (t h w).
    """

    name: str
    layout: str
    channels: int
    num_frames: int
    num_prefix: int = 0
    grid: Grid | None = None
    map_size: MapSize | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    time_last: bool = False


@dataclass(frozen=True)
class Call:
    """What came to a layer in its first call.

    Attributes:
        order: Place of the call among the calls and returns of all layers.
        given: Identity of the first argument, if it was a tensor: the same object for the same
            tensor.
        shape: Shape of the first argument; empty where it was no tensor.
        grid: The grid of a row of tokens, if the arguments after it said so.
        steady: All calls of this layer brought the same shape.
    """

    order: int
    given: object | None
    shape: tuple[int, ...]
    grid: Grid | None
    steady: bool = True


@dataclass(frozen=True)
class Output:
    """What a layer gave in its first call; `order` as for `Call`, `steady` for all calls."""

    order: int
    shape: tuple[int, ...]
    steady: bool = True


@dataclass
class Trace:
    """What came to each layer and what it gave, by the layer's name.

    Attributes:
        takes: What the network takes: `IMAGES`, `VOLUMES` or `CLIPS`.
    """

    takes: str
    calls: dict[str, Call] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    num_events: int = 0


def watch(network: nn.Module, *, num_frames: int, image_size: ImageSize | None) -> Trace:
    """Return what comes to each layer of a network when it is given clips.

    Args:
        network: Takes images `(b t) c h w`, volumes `b c t h w` or clips `b t c h w`.
        num_frames: Frames a clip.
        image_size: Height and width of a frame; what the network says of itself where it is None.

    Raises:
        ValueError: The network does not take such clips.
    """
    h, w = read_image_size(image_size) or own_image_size(network)
    first: Exception | None = None
    for takes in _possible_inputs(network):
        try:
            return run_fake(network, _Run(takes, input_shape(takes, NUM_CLIPS, num_frames, h, w)))
        except LeftoverError:
            raise
        except Exception as error:
            first = first or error
    assert first is not None
    reason = str(first).strip().split("\n")[0]
    own_frames = _own_num_frames(network)
    hint = f" (its config says num_frames = {own_frames})" if own_frames else ""
    raise UsageError(
        f"{type(network).__name__} does not take clips of {num_frames} x {h} x {w}: "
        f"{type(first).__name__}: {reason}; choose another image_size or number of frames{hint}"
    ) from first


def input_shape(takes: str, num_clips: int, num_frames: int, h: int, w: int) -> tuple[int, ...]:
    """Return the shape of a batch of clips in the layout that a network takes."""
    return {
        IMAGES: (num_clips * num_frames, 3, h, w),
        VOLUMES: (num_clips, 3, num_frames, h, w),
        CLIPS: (num_clips, num_frames, 3, h, w),
    }[takes]


def _possible_inputs(network: nn.Module) -> Iterator[str]:
    """Layouts to try, the most probable first; the first that the network takes counts."""
    if _declares_clips(network):
        yield CLIPS
        return
    yield VOLUMES if takes_volumes(network) else IMAGES
    yield CLIPS


def _declares_clips(network: nn.Module) -> bool:
    """Whether a network of the transformers library says that it takes videos (`b t c h w`)."""
    takes = getattr(network, "input_modalities", ())
    name = getattr(network, "main_input_name", "")
    return "video" in takes and isinstance(name, str) and name.startswith("pixel_values")


class _Run:
    """Calls a fake copy and notes what comes to each layer."""

    def __init__(self, takes: str, shape: tuple[int, ...]) -> None:
        self.trace = Trace(takes)
        self.shape = shape

    def __call__(self, twin: nn.Module, make_input: MakeInput) -> Trace:
        kept: list[Tensor] = []  # so that no two tensors of the run have the same id
        identities: dict[int, object] = {}
        for name, module in twin.named_modules():
            witness = _Witness(name, self.trace, kept, identities)
            module.register_forward_pre_hook(witness)
            module.register_forward_hook(witness.note_output)
        twin(make_input(self.shape))
        return self.trace


class _Witness:
    """Notes what comes to one layer (a forward pre-hook) and what it gives (a forward hook)."""

    def __init__(
        self, name: str, trace: Trace, kept: list[Tensor], identities: dict[int, object]
    ) -> None:
        self.name = name
        self.trace = trace
        self.kept = kept
        self.identities = identities

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        given, shape = None, ()
        if inputs and isinstance(inputs[0], Tensor):
            self.kept.append(inputs[0])
            given = self.identities.setdefault(id(inputs[0]), object())
            shape = tuple(inputs[0].shape)
        call = Call(self.trace.num_events, given, shape, told_grid(inputs[1:]))
        self.trace.num_events += 1
        before = self.trace.calls.setdefault(self.name, call)
        if before.shape != shape:
            self.trace.calls[self.name] = Call(
                before.order, before.given, before.shape, before.grid, steady=False
            )

    def note_output(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        now = Output(self.trace.num_events, shape)
        self.trace.num_events += 1
        before = self.trace.outputs.setdefault(self.name, now)
        if before.shape != shape:
            self.trace.outputs[self.name] = Output(before.order, before.shape, steady=False)


def takes_volumes(network: nn.Module) -> bool:
    """Return whether a network takes volumes `b c t h w`, that is, has 3-D convolutions itself.

    Networks of the transformers library for videos take clips `b t c h w` and are none of these.
    """
    return not _declares_clips(network) and any(
        isinstance(module, nn.Conv3d) for module in _own_modules(network).values()
    )


def _own_modules(network: nn.Module) -> dict[str, nn.Module]:
    """All layers of a network by name, without the temporal modules put into it."""
    return {
        name: module
        for name, module in network.named_modules()
        if "temporal" not in name.split(".")
    }


def read_image_size(size: object) -> tuple[int, int] | None:
    """Return height and width of what a user or a network gives as a size; None if it is none.

    >>> read_image_size(224), read_image_size([64, 256]), read_image_size({"height": 8, "width": 9})
    ((224, 224), (64, 256), (8, 9))

    Raises:
        ValueError: A height or width below 1.
    """
    match size:
        case None | bool():
            return None
        case int():
            h, w = size, size
        case {"height": int(h), "width": int(w)} | [int(h), int(w)] | [int(), int(h), int(w)]:
            pass
        case [int(h)] | {"shortest_edge": int(h)}:
            w = h
        case _:
            return None
    if h < 1 or w < 1:
        raise UsageError(f"image_size = {size}; height and width are pixels and start at 1")
    return h, w


def own_image_size(network: nn.Module) -> tuple[int, int]:
    """Return height and width of the images a network was made for; 224 if it says nothing.

    Read are timm's `patch_embed.img_size` and `pretrained_cfg`, `image_size` (torchvision), and the
    `config` of transformers. Where the network wraps another one, the first that says it counts.

    >>> from torchvision.models import VisionTransformer
    >>> own_image_size(VisionTransformer(32, 16, 1, 1, 8, 8))
    (32, 32)
    """
    for name, module in network.named_modules():
        said = [
            getattr(getattr(module, "patch_embed", None), "img_size", None),
            getattr(module, "image_size", None),
            *_sizes_in_config(getattr(module, "config", None)),
        ]
        if not name or name.count(".") == 0:
            said.append((getattr(module, "pretrained_cfg", None) or {}).get("input_size"))
        for one in said:
            size = read_image_size(one)
            if size is not None:
                return size
    return 224, 224


def _sizes_in_config(config: object) -> Iterator[object]:
    """Sizes that a config of transformers, or the part of it for vision, says."""
    vision = _entry(config, "vision_config")
    for part in (config, vision):
        yield from (_entry(part, key) for key in ("image_size", "crop_size", "img_size"))


def _own_num_frames(network: nn.Module) -> int | None:
    config = getattr(network, "config", None)
    said = [_entry(config, key) for key in ("num_frames", "frames_per_clip")]
    return next((one for one in said if isinstance(one, int)), None)


def _entry(config: object, key: str) -> Any:
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)


class Watched:
    """A network, and what came to each of its layers when shapes flowed through it.

    Attributes:
        modules: All layers of the network itself by name.
        calls: What came to those that were called.
        inside: Those that were called inside each, in the order of their calls.
    """

    def __init__(
        self, network: nn.Module, *, num_frames: int, image_size: ImageSize | None = None
    ) -> None:
        self.network = network
        self.modules = _own_modules(network)
        self.num_frames = num_frames
        self.image_size = read_image_size(image_size) or own_image_size(network)
        self.own_prefix = getattr(network, "num_prefix_tokens", None)
        trace = watch(network, num_frames=num_frames, image_size=self.image_size)
        self.takes = trace.takes
        self.calls = {name: call for name, call in trace.calls.items() if name in self.modules}
        self.outputs = {n: output for n, output in trace.outputs.items() if n in self.modules}
        self._ambiguous: set[str] = set()
        self._orders: dict[int, TokenOrder | None] = {}
        self._map_sizes: dict[tuple[str, bool, tuple[int, ...]], MapSize] = {}
        self.inside: dict[str, list[str]] = {name: [] for name in self.modules}
        for name in sorted(self.calls, key=lambda name: self.calls[name].order):
            parent = name
            while parent:
                parent = parent.rpartition(".")[0]
                self.inside[parent].append(name)

    def host(self, name: str) -> Host:
        """Return what comes to a layer.

        Raises:
            ValueError: What comes is no clip.
        """
        found = self.read(name)
        if found is None:
            call = self.calls.get(name)
            came = "is never called" if call is None else f"takes {call.shape or 'no tensor first'}"
            raise UsageError(
                f"site {name} ({type(self.modules[name]).__name__}) {came}; wanted one clip-like "
                "tensor: frames (b t) c h w or (b t) h w c, tokens (b t) n c, or volumes; "
                f"{self.unknown_order() or 'choose another layer with where='}"
            )
        return found

    def unknown_order(self) -> str:
        """Say which tokens could not be read, and why; empty if there are none."""
        if self._ambiguous:
            return (
                f"{self.num_frames} tokens a row come to {', '.join(sorted(self._ambiguous))}, and "
                f"clips have {self.num_frames} frames: rows of a frame and rows of a place look "
                "alike; choose another num_frames or image_size"
            )
        numbers = [number for number, order in self._orders.items() if order is None]
        if not numbers:
            return ""
        return (
            f"{type(self.network).__name__} lays whole clips out as {numbers[0]} tokens, and the "
            "order of time, height and width in them could not be found; choose layers with "
            "where= to which frames, maps or volumes come"
        )

    def read(self, name: str) -> Host | None:
        """Return the layout of what comes to a layer, by its shape; None if it is no clip."""
        call = self.calls.get(name)
        if call is None or not call.steady:
            return None
        if self.takes != IMAGES and call.shape[:1] == (NUM_CLIPS,):
            return self._read_clips(name, call)
        if self.takes != VOLUMES and call.shape[:1] == (NUM_CLIPS * self.num_frames,):
            return self._read_images(name, call)
        return None

    def _read_clips(self, name: str, call: Call) -> Host | None:
        if len(call.shape) == 5 and (self.takes == VOLUMES or self._enters(name, nn.Conv3d)):
            if self._channels_last(name, call):
                return Host(name, "volumemaps", call.shape[-1], call.shape[1])
            return Host(name, "volumes", call.shape[1], call.shape[2])
        if len(call.shape) != 3:
            return None
        if call.grid is not None and len(call.grid) == 3:
            num_prefix = call.shape[1] - prod(call.grid)
            channels, num_frames = call.shape[-1], call.grid[0]
            return Host(name, "volumetokens", channels, num_frames, num_prefix, call.grid)
        return self._read_clip_tokens(name, call)

    def _read_clip_tokens(self, name: str, call: Call) -> Host | None:
        _, number, channels = call.shape
        if number not in self._orders:
            self._orders[number] = self._find_order(call.shape)
        order = self._orders[number]
        if order is None:
            return None
        source = next(self._sources(call, {number - order.num_prefix}), None)
        return Host(
            name,
            "volumetokens",
            channels,
            order.grid[0],
            order.num_prefix,
            order.grid,
            map_size=source[0] if source else None,
            time_last=order.time_last,
        )

    def _find_order(self, shape: tuple[int, ...]) -> TokenOrder | None:
        first = min(
            (name for name, call in self.calls.items() if call.steady and call.shape == shape),
            key=lambda name: self.calls[name].order,
        )
        clips = input_shape(self.takes, 1, self.num_frames, *self.image_size)
        time_axis = 1 if self.takes == CLIPS else 2
        return find_token_order(self.network, first, clips, time_axis=time_axis)

    def _read_images(self, name: str, call: Call) -> Host | None:
        t = self.num_frames
        if self.takes == CLIPS and len(call.shape) == 3 and call.shape[1] in (t, t + 1):
            self._ambiguous.add(name)  # (b t) n c, or (b h w) t c with as many places as frames
            return None
        if len(call.shape) == 3:
            return self._read_tokens(name, call)
        if len(call.shape) == 4:
            first, last = self._stretch(call.shape[2:]), self._stretch(call.shape[1:3])
            if min(first, last) > 1:
                return None
            if self._channels_last(name, call):
                return Host(name, "maps", call.shape[-1], t)
            if first <= 1:
                return Host(name, "frames", call.shape[1], t)
        return None

    def _read_tokens(self, name: str, call: Call) -> Host:
        _, number, channels = call.shape
        if call.grid is not None and len(call.grid) == 2 and 0 <= number - prod(call.grid) <= 5:
            num_prefix = number - prod(call.grid)
            return Host(name, "tokens", channels, self.num_frames, num_prefix, call.grid)
        prefixes = [k for k in (self.own_prefix, *range(MAX_PREFIX + 1)) if k is not None]
        for map_size, size in self._sources(call, {number - k for k in prefixes}):
            k = number - prod(size)
            return Host(name, "tokens", channels, self.num_frames, k, size, map_size)
        k, grid = self._guess_grid(number, prefixes)
        picture = self._picture()
        return Host(
            name,
            "tokens",
            channels,
            self.num_frames,
            k,
            grid,
            map_size=picture if grid else None,
            scale=(self.image_size[0] / grid[0], self.image_size[1] / grid[1])
            if grid
            else (1.0, 1.0),
        )

    def _sources(self, call: Call, numbers: set[int]) -> Iterator[tuple[MapSize, Grid]]:
        """Layers that gave a map of so many places before a call, the last one first."""
        before = [
            (output.order, name, output.shape)
            for name, output in self.outputs.items()
            if output.steady and output.order < call.order and len(output.shape) in (4, 5)
        ]
        for _, name, shape in sorted(before, reverse=True):
            volume = len(shape) == 5 and shape[0] == NUM_CLIPS
            images = len(shape) == 4 and shape[0] == NUM_CLIPS * self.num_frames
            if not volume and not images:
                continue
            for axes in [(-2, -1), (1, 2)] if images else [(-3, -2, -1), (1, 2, 3)]:
                size = tuple(shape[axis] for axis in axes)
                frames = self.num_frames if images and call.shape[0] == NUM_CLIPS else 1
                if frames * prod(size) in numbers and self._stretch(size[-2:]) <= 1:
                    yield self._map_size(name, takes=False, axes=axes), size

    def _picture(self) -> MapSize:
        """The size of the frames, noted at the innermost layer that takes them."""
        root = self.calls[""]
        takers = [name for name, call in self.calls.items() if call.given is root.given]
        innermost = max(takers, key=lambda name: self.calls[name].order)
        return self._map_size(innermost, takes=True, axes=(-2, -1))

    def _map_size(self, name: str, *, takes: bool, axes: tuple[int, ...]) -> MapSize:
        key = name, takes, axes
        return self._map_sizes.setdefault(key, MapSize(name, takes=takes, axes=axes))

    def _stretch(self, size: tuple[int, ...]) -> float:
        """How far a map is from the shape of the frames, in its own pixels: at most 1 if it fits.

        Convolutions and pooling round height and width up or down.
        """
        (height, width), (h, w) = self.image_size, size
        if height == width:
            return float(abs(h - w) + 1 if h != w else 0)
        return abs(h * width - w * height) / (height + width)

    def _channels_last(self, name: str, call: Call) -> bool:
        """Whether the channels are the last axis: that of the odd size, since maps fit the frames.

        Where all axes are alike, the first layer that takes the tensor says.
        """
        *_, h, w, c = call.shape
        first, last = self._stretch((w, c)), self._stretch((h, w))
        if last > 1:
            return False
        if first != last:
            return last < first
        return self._enters(name, nn.Linear, nn.LayerNorm)

    def _enters(self, name: str, *kinds: type[nn.Module]) -> bool:
        """Whether the first simple layer that takes what comes to a layer is one of these."""
        given = self.calls[name].given
        takers = [n for n in [name, *self.inside[name]] if self.calls[n].given is given]
        leaves = [self.modules[n] for n in takers if not any(self.modules[n].children())]
        return any(isinstance(leaf, kinds) for leaf in leaves[:1])

    def _guess_grid(self, number: int, prefixes: list[int]) -> tuple[int, Grid | None]:
        """Prefix and grid of tokens of which no layer made a map: as few before as leave a grid."""
        height, width = self.image_size
        for k in prefixes:
            rest = number - k
            if rest < 1:
                continue
            if height == width:
                if isqrt(rest) ** 2 == rest:
                    return k, (isqrt(rest), isqrt(rest))
                continue
            h = round((rest * height / width) ** 0.5)
            if h and rest % h == 0 and self._stretch((h, rest // h)) < 0.1:
                return k, (h, rest // h)
        return self.own_prefix or 0, None
