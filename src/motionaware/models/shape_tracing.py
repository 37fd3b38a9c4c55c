"""Trace shapes through a network without running it: record the input and output of each layer.

A copy of the network with fake tensors is called once (see `fake_tensors.py`). No weights are
copied, and neither the network nor any cache of the process changes. `input_layout.py` interprets
the recorded shapes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.models.fake_tensors import FakeTensorLeak, MakeInput, run_on_fake_tensors
from motionaware.models.image_size import (
    ImageSize,
    native_image_size,
    native_num_frames,
    parse_image_size,
)
from motionaware.models.token_grid import Grid, grid_in_arguments

# Clips in the traced batch. Sizes of maps and numbers of channels are rarely multiples of this
# prime, so an axis with this number of clips (or of their frames) is the batch axis.
NUM_CLIPS = 11

IMAGES, VOLUMES, CLIPS = "images (b t) c h w", "volumes b c t h w", "clips b t c h w"


class InputRefused(UsageError):
    """A network raised an error when it was called with clips of the requested size."""


@dataclass(frozen=True)
class LayerInput:
    """The first argument of a layer in its first call.

    Attributes:
        order: Index of the call among the calls and returns of all layers.
        identity: Identity of the first argument if it is a tensor: the same object for the same
            tensor.
        shape: Shape of the first argument; empty if it is no tensor.
        grid: Grid of the tokens, if the arguments after them contain it.
        is_constant: True if all calls of the layer had the same shape.
    """

    order: int
    identity: object | None
    shape: tuple[int, ...]
    grid: Grid | None
    is_constant: bool = True


@dataclass(frozen=True)
class LayerOutput:
    """The output of a layer in its first call; `order` and `is_constant` as in `LayerInput`."""

    order: int
    shape: tuple[int, ...]
    is_constant: bool = True


@dataclass
class Trace:
    """Inputs and outputs of the layers of a network, by their names.

    Attributes:
        input_kind: What the network takes: `IMAGES`, `VOLUMES` or `CLIPS`.
        inputs: First argument of each layer that was called.
        outputs: Output of each layer that was called.
        num_events: Calls and returns recorded so far.
    """

    input_kind: str
    inputs: dict[str, LayerInput] = field(default_factory=dict)
    outputs: dict[str, LayerOutput] = field(default_factory=dict)
    num_events: int = 0


def trace_shapes(network: nn.Module, *, num_frames: int, image_size: ImageSize | None) -> Trace:
    """Return the shapes at each layer when a network is called with a batch of clips.

    Args:
        network: Takes images `(b t) c h w`, volumes `b c t h w` or clips `b t c h w`.
        num_frames: Frames in a clip.
        image_size: Frame size; by default the size that the network was made for.

    Raises:
        InputRefused: The network raised an error for such clips.
        FakeTensorLeak: A library kept a tensor of the trace.
    """
    h, w = parse_image_size(image_size) or native_image_size(network)
    first_error: Exception | None = None
    for kind in _possible_inputs(network):
        try:
            recorder = _Recorder(kind, input_shape(kind, NUM_CLIPS, num_frames, h, w))
            return run_on_fake_tensors(network, recorder)
        except FakeTensorLeak:
            raise
        except Exception as error:  # a network may raise any error for an input it does not take
            first_error = first_error or error
    assert first_error is not None
    reason = str(first_error).strip().split("\n")[0]
    native = native_num_frames(network)
    hint = f" (its config has num_frames = {native})" if native else ""
    raise InputRefused(
        f"{type(network).__name__} does not take clips of {num_frames} x {h} x {w}: "
        f"{type(first_error).__name__}: {reason}; choose another image_size or number of "
        f"frames{hint}"
    ) from first_error


def input_shape(kind: str, num_clips: int, num_frames: int, h: int, w: int) -> tuple[int, ...]:
    """Return the shape of a batch of clips in the layout that a network takes."""
    return {
        IMAGES: (num_clips * num_frames, 3, h, w),
        VOLUMES: (num_clips, 3, num_frames, h, w),
        CLIPS: (num_clips, num_frames, 3, h, w),
    }[kind]


def takes_volumes(network: nn.Module) -> bool:
    """Return True if a network takes volumes `b c t h w`: it has 3-D convolutions.

    Temporal modules do not count. Video networks of transformers take clips `b t c h w`, even if
    they have 3-D convolutions.
    """
    return not _declares_clips(network) and any(
        isinstance(module, nn.Conv3d) for module in modules_without_temporal(network).values()
    )


def modules_without_temporal(network: nn.Module) -> dict[str, nn.Module]:
    """Return all layers of a network by name, without the inserted temporal modules."""
    return {
        name: module
        for name, module in network.named_modules()
        if "temporal" not in name.split(".")
    }


def _possible_inputs(network: nn.Module) -> Iterator[str]:
    """Yield the input layouts to try, the most probable one first."""
    if _declares_clips(network):
        yield CLIPS
        return
    yield VOLUMES if takes_volumes(network) else IMAGES
    yield CLIPS


def _declares_clips(network: nn.Module) -> bool:
    """True if a network of transformers declares that it takes videos (`b t c h w`)."""
    modalities = getattr(network, "input_modalities", ())
    name = getattr(network, "main_input_name", "")
    return "video" in modalities and isinstance(name, str) and name.startswith("pixel_values")


class _Recorder:
    """Calls the fake copy of a network and records the inputs and outputs of its layers."""

    def __init__(self, input_kind: str, shape: tuple[int, ...]) -> None:
        self.trace = Trace(input_kind)
        self.shape = shape

    def __call__(self, fake_network: nn.Module, make_input: MakeInput) -> Trace:
        kept: list[Tensor] = []  # keeps tensors alive, so that no two of them get the same id
        identities: dict[int, object] = {}
        for name, module in fake_network.named_modules():
            hooks = _RecordingHooks(name, self.trace, kept, identities)
            module.register_forward_pre_hook(hooks.record_input)
            module.register_forward_hook(hooks.record_output)
        fake_network(make_input(self.shape))
        return self.trace


class _RecordingHooks:
    """Forward hooks that record the input and the output of one layer."""

    def __init__(
        self, name: str, trace: Trace, kept: list[Tensor], identities: dict[int, object]
    ) -> None:
        self.name = name
        self.trace = trace
        self.kept = kept
        self.identities = identities

    def record_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        identity, shape = None, ()
        if inputs and isinstance(inputs[0], Tensor):
            self.kept.append(inputs[0])
            identity = self.identities.setdefault(id(inputs[0]), object())
            shape = tuple(inputs[0].shape)
        grid = grid_in_arguments(inputs[1:])
        current = LayerInput(self.trace.num_events, identity, shape, grid)
        self.trace.num_events += 1
        first = self.trace.inputs.setdefault(self.name, current)
        if first.shape != shape:
            self.trace.inputs[self.name] = replace(first, is_constant=False)

    def record_output(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        current = LayerOutput(self.trace.num_events, shape)
        self.trace.num_events += 1
        first = self.trace.outputs.setdefault(self.name, current)
        if first.shape != shape:
            self.trace.outputs[self.name] = replace(first, is_constant=False)
