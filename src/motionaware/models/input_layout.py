"""Identify the layout of each layer's input from a shape trace.

A temporal module can act before a layer whose input is one of these:

    frames         (b t) c h w     an image network
    maps           (b t) h w c     the same, channels last
    tokens         (b t) n c       a vision transformer
    volumes        b c t h w       a network with 3-D convolutions
    volumemaps     b t h w c       the same, channels last
    volumetokens   b n c           a video transformer: the tokens of all frames in one sequence
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt, prod

from torch import nn

from motionaware.errors import UsageError
from motionaware.models.image_size import ImageSize, native_image_size, parse_image_size
from motionaware.models.shape_tracing import (
    CLIPS,
    IMAGES,
    NUM_CLIPS,
    VOLUMES,
    LayerInput,
    input_shape,
    modules_without_temporal,
    trace_shapes,
)
from motionaware.models.token_grid import Grid, MapSize
from motionaware.models.token_order import TokenOrder, find_token_order

MAX_PREFIX = 5  # class, distillation and register tokens before the image tokens

CLIP_LAYOUTS = ("volumes", "volumemaps", "volumetokens")  # hold all frames of a clip at once


@dataclass(frozen=True)
class Host:
    """A layer before which a temporal module can act, and the layout of its input.

    Attributes:
        name: Name of the layer in the network.
        layout: `frames`, `maps`, `tokens`, `volumes`, `volumemaps` or `volumetokens`.
        channels: Channels of the input.
        num_frames: Frames of the input; fewer than the clip has if the network shrinks time.
        num_prefix: Tokens before the image tokens; the adapter passes them on unchanged.
        grid: Height and width of the tokens at the frame size of the trace; frames, height and
            width for `volumetokens`.
        map_size: Records at run time the size of the map from which the tokens were made.
        scale: Height and width of that map, divided by those of the grid.
        time_last: True if the tokens of a clip have the order (h w t), not (t h w).
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


class LayerInputs:
    """The traced inputs of the layers of a network, and their layouts.

    Attributes:
        modules: Layers of the network by name, without temporal modules.
        inputs: Inputs of the layers that were called, by name.
        outputs: Outputs of the layers that were called, by name.
        inside: Names of the layers that were called inside each layer, in the order of the calls.
    """

    def __init__(
        self, network: nn.Module, *, num_frames: int, image_size: ImageSize | None = None
    ) -> None:
        self.network = network
        self.modules = modules_without_temporal(network)
        self.num_frames = num_frames
        self.image_size = parse_image_size(image_size) or native_image_size(network)
        self.num_native_prefix = getattr(network, "num_prefix_tokens", None)  # timm
        trace = trace_shapes(network, num_frames=num_frames, image_size=self.image_size)
        self.input_kind = trace.input_kind
        self.inputs = {n: given for n, given in trace.inputs.items() if n in self.modules}
        self.outputs = {n: output for n, output in trace.outputs.items() if n in self.modules}
        self._ambiguous: set[str] = set()
        self._orders: dict[int, TokenOrder | None] = {}  # by number of tokens
        self._map_sizes: dict[tuple[str, bool, tuple[int, ...]], MapSize] = {}
        self.inside: dict[str, list[str]] = {name: [] for name in self.modules}
        for name in sorted(self.inputs, key=lambda name: self.inputs[name].order):
            parent = name
            while parent:
                parent = parent.rpartition(".")[0]
                self.inside[parent].append(name)

    def host(self, name: str) -> Host:
        """Return the layout of a layer's input.

        Raises:
            UsageError: The input has none of the known layouts.
        """
        host = self.find_host(name)
        if host is None:
            given = self.inputs.get(name)
            found = "is never called" if given is None else f"takes {given.shape or 'no tensor'}"
            raise UsageError(
                f"site {name} ({type(self.modules[name]).__name__}) {found}; wanted a first "
                "argument that is a tensor of clips: frames (b t) c h w or (b t) h w c, tokens "
                "(b t) n c, or volumes; "
                f"{self.describe_unknown_tokens() or 'choose another layer with where='}"
            )
        return host

    def describe_unknown_tokens(self) -> str:
        """Return an error text about tokens whose order is unknown; empty if there are none."""
        if self._ambiguous:
            return (
                f"{', '.join(sorted(self._ambiguous))} take sequences of {self.num_frames} tokens, "
                f"and clips have {self.num_frames} frames: the tokens of one frame and the frames "
                "of one position cannot be distinguished; choose another num_frames or image_size"
            )
        numbers = [number for number, order in self._orders.items() if order is None]
        if not numbers:
            return ""
        return (
            f"{type(self.network).__name__} turns a clip into {numbers[0]} tokens whose order of "
            "time, height and width could not be found; choose with where= layers that take "
            "frames, maps or volumes"
        )

    def find_host(self, name: str) -> Host | None:
        """Return the layout of a layer's input; None if it has none of the known layouts."""
        given = self.inputs.get(name)
        if given is None or not given.is_constant:
            return None
        if self.input_kind != IMAGES and given.shape[:1] == (NUM_CLIPS,):
            return self._host_of_clips(name, given)
        if self.input_kind != VOLUMES and given.shape[:1] == (NUM_CLIPS * self.num_frames,):
            return self._host_of_images(name, given)
        return None

    def _host_of_clips(self, name: str, given: LayerInput) -> Host | None:
        """Return the layout of an input whose batch axis counts clips."""
        shape = given.shape
        if len(shape) == 5 and (self.input_kind == VOLUMES or self._enters(name, nn.Conv3d)):
            if self._is_channels_last(name, given):
                return Host(name, "volumemaps", shape[-1], shape[1])
            return Host(name, "volumes", shape[1], shape[2])
        if len(shape) != 3:
            return None
        if given.grid is not None and len(given.grid) == 3:
            num_prefix = shape[1] - prod(given.grid)
            return Host(name, "volumetokens", shape[-1], given.grid[0], num_prefix, given.grid)
        return self._host_of_clip_tokens(name, given)

    def _host_of_clip_tokens(self, name: str, given: LayerInput) -> Host | None:
        _, number, channels = given.shape
        if number not in self._orders:
            self._orders[number] = self._find_order(given.shape)
        order = self._orders[number]
        if order is None:
            return None
        source = next(self._source_maps(given, {number - order.num_prefix}), None)
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
            (n for n, given in self.inputs.items() if given.is_constant and given.shape == shape),
            key=lambda name: self.inputs[name].order,
        )
        clip_shape = input_shape(self.input_kind, 1, self.num_frames, *self.image_size)
        time_axis = 1 if self.input_kind == CLIPS else 2
        return find_token_order(self.network, first, clip_shape, time_axis=time_axis)

    def _host_of_images(self, name: str, given: LayerInput) -> Host | None:
        """Return the layout of an input whose batch axis counts images."""
        t, shape = self.num_frames, given.shape
        if self.input_kind == CLIPS and len(shape) == 3 and shape[1] in (t, t + 1):
            self._ambiguous.add(name)  # (b t) n c, or (b h w) t c with t positions
            return None
        if len(shape) == 3:
            return self._host_of_tokens(name, given)
        if len(shape) == 4:
            first, last = self._aspect_error(shape[2:]), self._aspect_error(shape[1:3])
            if min(first, last) > 1:
                return None
            if self._is_channels_last(name, given):
                return Host(name, "maps", shape[-1], t)
            if first <= 1:
                return Host(name, "frames", shape[1], t)
        return None

    def _host_of_tokens(self, name: str, given: LayerInput) -> Host:
        _, number, channels = given.shape
        t, grid = self.num_frames, given.grid
        if grid is not None and len(grid) == 2 and 0 <= number - prod(grid) <= MAX_PREFIX:
            return Host(name, "tokens", channels, t, number - prod(grid), grid)
        prefixes = [k for k in (self.num_native_prefix, *range(MAX_PREFIX + 1)) if k is not None]
        for map_size, size in self._source_maps(given, {number - k for k in prefixes}):
            return Host(name, "tokens", channels, t, number - prod(size), size, map_size)
        num_prefix, grid = self._guess_grid(number, prefixes)
        if grid is None:
            return Host(name, "tokens", channels, t, num_prefix)
        scale = self.image_size[0] / grid[0], self.image_size[1] / grid[1]
        return Host(name, "tokens", channels, t, num_prefix, grid, self._frame_size(), scale)

    def _source_maps(
        self, given: LayerInput, numbers: set[int]
    ) -> Iterator[tuple[MapSize, tuple[int, ...]]]:
        """Yield earlier layers whose output map has one of these numbers of positions.

        The last layer before the call comes first.
        """
        earlier = [
            (output.order, name, output.shape)
            for name, output in self.outputs.items()
            if output.is_constant and output.order < given.order and len(output.shape) in (4, 5)
        ]
        for _, name, shape in sorted(earlier, reverse=True):
            is_volume = len(shape) == 5 and shape[0] == NUM_CLIPS
            is_images = len(shape) == 4 and shape[0] == NUM_CLIPS * self.num_frames
            if not is_volume and not is_images:
                continue
            for axes in [(-2, -1), (1, 2)] if is_images else [(-3, -2, -1), (1, 2, 3)]:
                size = tuple(shape[axis] for axis in axes)
                frames = self.num_frames if is_images and given.shape[0] == NUM_CLIPS else 1
                if frames * prod(size) in numbers and self._aspect_error(size[-2:]) <= 1:
                    yield self._map_size(name, is_input=False, axes=axes), size

    def _frame_size(self) -> MapSize:
        """Return a recorder of the frame size, at the innermost layer that takes the frames."""
        root = self.inputs[""]
        takers = [name for name, given in self.inputs.items() if given.identity is root.identity]
        innermost = max(takers, key=lambda name: self.inputs[name].order)
        return self._map_size(innermost, is_input=True, axes=(-2, -1))

    def _map_size(self, name: str, *, is_input: bool, axes: tuple[int, ...]) -> MapSize:
        key = name, is_input, axes
        return self._map_sizes.setdefault(key, MapSize(name, is_input=is_input, axes=axes))

    def _aspect_error(self, size: tuple[int, ...]) -> float:
        """Return how far a map deviates from the aspect ratio of the frames, in pixels of the map.

        Convolutions and poolings round height and width, so a map of frames deviates by up to 1.
        """
        (height, width), (h, w) = self.image_size, size
        if height == width:
            return float(abs(h - w) + 1 if h != w else 0)
        return abs(h * width - w * height) / (height + width)

    def _is_channels_last(self, name: str, given: LayerInput) -> bool:
        """True if the channels are the last axis: the other two have the frames' aspect ratio.

        If both readings fit equally well, the first layer that takes the tensor decides.
        """
        *_, h, w, c = given.shape
        first, last = self._aspect_error((w, c)), self._aspect_error((h, w))
        if last > 1:
            return False
        if first != last:
            return last < first
        return self._enters(name, nn.Linear, nn.LayerNorm)

    def _enters(self, name: str, *kinds: type[nn.Module]) -> bool:
        """True if the first leaf layer that takes the input of a layer is of one of these types."""
        identity = self.inputs[name].identity
        takers = [n for n in [name, *self.inside[name]] if self.inputs[n].identity is identity]
        leaves = [self.modules[n] for n in takers if not any(self.modules[n].children())]
        return any(isinstance(leaf, kinds) for leaf in leaves[:1])

    def _guess_grid(self, number: int, prefixes: list[int]) -> tuple[int, Grid | None]:
        """Return number of prefix tokens and grid: the first prefix that leaves a fitting grid."""
        height, width = self.image_size
        for num_prefix in prefixes:
            rest = number - num_prefix
            if rest < 1:
                continue
            if height == width:
                if isqrt(rest) ** 2 == rest:
                    return num_prefix, (isqrt(rest), isqrt(rest))
                continue
            h = round((rest * height / width) ** 0.5)
            if h and rest % h == 0 and self._aspect_error((h, rest // h)) < 0.1:
                return num_prefix, (h, rest // h)
        return self.num_native_prefix or 0, None
