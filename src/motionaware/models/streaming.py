"""Stream: a causal recognizer fed one frame at a time, many streams in a batch.

    scores of frame i = recognizer of that frame, and of what each site remembers
    push              = mean over the scores of the last T frames

Fed n frames, each site of a stream has seen what it sees in a clip of n frames, so the scores are
those of the causal network on that clip: for n = T and fewer, the mean over all its frames; beyond,
over the last T, while the sites go on remembering what their modules' windows let them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.models.insertion import twin
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import adapters, temporal_modules
from motionaware.temporal.causal_state import Memory, Steps

SCORES = "scores"  # the stream's own memory, beside those of the modules


class Stepper(nn.Module):
    """Stands where a module looks back, and remembers for it."""

    compares_places = False

    def __init__(self, module: Steps) -> None:
        super().__init__()
        self.module = module
        self.memory: Memory = {}

    def forward(self, *frames: Tensor | None) -> Tensor:
        """Take one more frame."""
        output, self.memory = self.module.step(self.memory, *frames)
        return output


class Stream:
    """Scores what a causal recognizer sees, after each frame.

    The model stays as it is, may be used beside the stream, and shares its weights with it. It is
    run in evaluation mode, without gradients. After moving the model to another device, make the
    stream anew.

    Args:
        model: Made with `causal=True`.

    Raises:
        ValueError: The model looks at frames to come.

    >>> from motionaware.models.recognizer import create_model
    >>> model = create_model("resnet18_quarter", temporal="m2a", num_classes=5, causal=True)
    >>> stream = Stream(model)
    >>> stream.push(torch.rand(3, 32, 32)).shape
    torch.Size([1, 5])
    """

    def __init__(self, model: VideoRecognizer) -> None:
        _check_causal(model)
        self.num_frames = model.clip.num_frames
        looking = {
            f"{site}.{name}" if name else site: module
            for site in temporal_modules(model).values()
            for name, module in model.get_submodule(site).named_modules()
            if isinstance(module, Steps)
        }
        self._steppers = {name: Stepper(module) for name, module in looking.items()}
        one_frame = model.clip, replace(model.clip, num_frames=1)
        steppers = zip(looking.values(), self._steppers.values(), strict=True)
        self._model = twin(model, num_frames=1, instead=[one_frame, *steppers]).eval()
        self._scores: Memory = {}
        self._shape: tuple[int, ...] | None = None

    @torch.no_grad()
    def push(
        self,
        frames: Float[Tensor, "b 3 h w"]
        | UInt8[Tensor, "b 3 h w"]
        | Float[Tensor, "3 h w"]
        | UInt8[Tensor, "3 h w"],
    ) -> Float[Tensor, "b k"]:
        """Take the next frame of each stream; score what was seen up to it.

        Args:
            frames: RGB, floats in [0, 1] or uint8 in [0, 255]; without a batch axis one stream's.

        Raises:
            ValueError: The layout is another, or differs from that of the frames before.
        """
        frames = self._read(frames)
        before = self._memories()
        try:
            scores = self._model(rearrange(frames, "b c h w -> b 1 c h w"))
        except BaseException:  # a frame counts for all sites or for none
            self._remember(before)
            raise
        self._shape = tuple(frames.shape)
        if not self._scores:
            past = scores.new_zeros(len(scores), self.num_frames, scores.shape[1])
            self._scores = {"frames": past, "num_seen": torch.zeros_like(past[:, 0, 0])}
        last = torch.cat([self._scores["frames"][:, 1:], rearrange(scores, "b k -> b 1 k")], dim=1)
        num_seen = (self._scores["num_seen"] + 1).clamp(max=self.num_frames)
        self._scores = {"frames": last, "num_seen": num_seen}
        return last.sum(dim=1) / rearrange(num_seen, "b -> b 1")

    def reset(self, streams: int | Iterable[int] | Tensor | None = None) -> None:
        """Forget what was seen.

        Args:
            streams: Places in the batch; None forgets all, and the size of the frames too.

        Raises:
            IndexError: There is no such stream.
            ValueError: These are no places.
        """
        if streams is None:
            self._remember({})
            self._shape = None
            return
        places = _places(streams)
        number = 0 if self._shape is None else self._shape[0]
        for place in places:
            if not 0 <= place < number:
                raise IndexError(
                    f"stream {place} was to be reset, but there are {number}; wanted 0 to "
                    f"{number - 1}"
                    if number
                    else f"stream {place} was to be reset before a frame"
                )
        memories = self._memories()
        for memory in memories.values():
            for key, tensor in memory.items():
                memory[key] = tensor.clone()
                memory[key][places] = 0
        self._remember(memories)

    def state(self) -> dict[str, Tensor]:
        """What is remembered, as named tensors whose first axis is that of the streams.

        They are copies, fit for `safetensors.torch.save_file`. Empty before the first frame.
        """
        if self._shape is None:
            return {}
        sizes = torch.tensor(self._shape[1:]).expand(self._shape[0], -1)
        return {"frame_shape": sizes.clone()} | {
            f"{name}.{key}": tensor.clone().contiguous()
            for name, memory in self._memories().items()
            for key, tensor in memory.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, of a stream of the same model.

        Raises:
            ValueError: It is not the state of such a stream.
        """
        before, shape_before = self._memories(), self._shape
        self.reset()
        if not state:
            return
        try:
            if "frame_shape" not in state:
                raise _no_state(
                    f"of its tensors ({', '.join(list(state)[:3])}) none is frame_shape"
                )
            sizes = state["frame_shape"]
            # What a frame of that size leaves behind says what there must be.
            self.push(torch.zeros(len(sizes), *sizes[0].tolist()))
            _check_state(state, self.state())
        except BaseException:
            self._remember(before)
            self._shape = shape_before
            raise
        memories: dict[str, Memory] = {name: {} for name in self._memories()}
        for key in state.keys() - {"frame_shape"}:
            name, _, kind = key.rpartition(".")
            memories[name][kind] = state[key].to(self._model.mean.device, copy=True)
        self._remember(memories)

    def _memories(self) -> dict[str, Memory]:
        remembered = {name: dict(stepper.memory) for name, stepper in self._steppers.items()}
        return remembered | {SCORES: dict(self._scores)}

    def _remember(self, memories: Mapping[str, Memory]) -> None:
        for name, stepper in self._steppers.items():
            stepper.memory = memories.get(name, {})
        self._scores = memories.get(SCORES, {})

    def _read(self, frames: object) -> Tensor:
        wanted = "wanted b 3 h w, or 3 h w of one stream"
        if not isinstance(frames, Tensor):
            raise UsageError(
                f"frames are a {type(frames).__name__}; wanted one tensor, b 3 h w, or 3 h w of "
                "one stream; frames of several sizes need a Stream each"
            )
        shape = tuple(frames.shape)
        if frames.ndim not in (3, 4):
            clip = "; push the frames of a clip one by one" if frames.ndim == 5 else ""
            raise UsageError(f"frames of shape {shape} have {frames.ndim} axes; {wanted}{clip}")
        if shape[-3] != 3:
            raise UsageError(f"frames of shape {shape} have {shape[-3]} colours; {wanted}")
        if not (frames.dtype == torch.uint8 or frames.is_floating_point()):
            raise UsageError(f"frames are {frames.dtype}; wanted uint8, or floats in [0, 1]")
        if frames.ndim == 3:
            frames = rearrange(frames, "c h w -> 1 c h w")
        if self._shape not in (None, tuple(frames.shape)):
            raise UsageError(
                f"frames of shape {shape} came after frames of shape {self._shape}; go on with as "
                "many streams of that size, or reset() first"
            )
        return frames.to(self._model.mean.device)


def _places(streams: int | Iterable[int] | Tensor) -> list[int]:
    if isinstance(streams, Tensor):
        streams = streams.tolist()
    places = [streams] if isinstance(streams, int) else list(streams)
    if any(isinstance(place, bool) or not isinstance(place, int) for place in places):
        raise UsageError(
            f"{streams = }; wanted places in the batch, 0 for the first stream, and no mask: "
            "mask.nonzero().flatten() makes places of one"
        )
    return places


def _check_state(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    strays = [key for key in state if key not in wanted]
    if strange := strays or [key for key in wanted if key not in state]:
        raise _no_state(
            f"{', '.join(strange[:3])} {'is' if len(strange) == 1 else 'are'} not in both"
        )
    for key, tensor in wanted.items():
        if state[key].shape != tensor.shape:
            raise _no_state(
                f"{key} has the shape {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
            )


def _no_state(why: str) -> ValueError:
    return ValueError(
        f"this is no state of a stream of this model: {why}; load what state() gave for the same "
        "backbone, temporal modules, sites and num_frames"
    )


def _check_causal(model: object) -> None:
    remedy = "train one with model.causal: true, or create_model(..., causal=True)"
    if not isinstance(model, VideoRecognizer):
        raise UsageError(
            f"a {type(model).__name__} is no recognizer of clips: wanted what create_model or load "
            "gives, made with causal=True"
        )
    if model.takes_volumes:
        raise UsageError(
            f"{type(model.backbone).__name__} looks at whole clips with 3-D convolutions and "
            f"cannot be fed frame by frame; {remedy}, of a 2-D network"
        )
    ahead = [name for name, adapter in adapters(model) if not adapter.causal]
    if ahead:
        raise UsageError(
            f"the temporal modules of this model look at frames to come ({len(ahead)} of them, the "
            f"first before {ahead[0]}); {remedy}"
        )
