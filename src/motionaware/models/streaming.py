"""Stream: run a causal recognizer one frame at a time, for a batch of streams.

    scores of frame i = recognizer(frame i, memory of each site)
    push              = mean of the scores of the last T frames

After n frames, the scores equal those of the causal network on a clip of these n frames, averaged
over the last T of them (over all if n <= T). The memory of a site covers all earlier frames in its
module's window, which may be more than T.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.models.insertion import copy_sharing_tensors
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import adapters, temporal_modules
from motionaware.temporal.causal_state import Memory, Steps

SCORES = "scores"  # name of the memory of past scores, next to those of the modules


class Stepper(nn.Module):
    """Replaces a module that uses past frames: runs it on one frame and keeps its memory."""

    compares_places = False

    def __init__(self, module: Steps) -> None:
        super().__init__()
        self.module = module
        self.memory: Memory = {}

    def forward(self, *frames: Tensor | None) -> Tensor:
        """Return the module's output for the next frame."""
        output, self.memory = self.module.step(self.memory, *frames)
        return output


class Stream:
    """Computes the scores of a causal recognizer after each frame.

    The stream runs a copy of the model that shares its weights, in evaluation mode and without
    gradients. The model itself is unchanged and can be used at the same time. After the model was
    moved to another device, make a new stream.

    Args:
        model: A recognizer that was created with `causal=True`.

    Raises:
        UsageError: The model uses future frames.

    >>> from motionaware.models.recognizer import create_model
    >>> model = create_model("resnet18_quarter", temporal="m2a", num_classes=5, causal=True)
    >>> stream = Stream(model)
    >>> stream.push(torch.rand(3, 32, 32)).shape
    torch.Size([1, 5])
    """

    def __init__(self, model: VideoRecognizer) -> None:
        _check_causal(model)
        self.num_frames = model.clip.num_frames
        stepped = {
            f"{site}.{name}" if name else site: module
            for site in temporal_modules(model).values()
            for name, module in model.get_submodule(site).named_modules()
            if isinstance(module, Steps)
        }
        self._steppers = {name: Stepper(module) for name, module in stepped.items()}
        one_frame = model.clip, replace(model.clip, num_frames=1)
        steppers = zip(stepped.values(), self._steppers.values(), strict=True)
        self._model = copy_sharing_tensors(
            model, num_frames=1, replacements=[one_frame, *steppers]
        ).eval()
        self._past_scores: Memory = {}
        self._shape: tuple[int, ...] | None = None

    @torch.no_grad()
    def push(
        self,
        frames: Float[Tensor, "b 3 h w"]
        | UInt8[Tensor, "b 3 h w"]
        | Float[Tensor, "3 h w"]
        | UInt8[Tensor, "3 h w"],
    ) -> Float[Tensor, "b k"]:
        """Process the next frame of each stream, and return the scores after it.

        Args:
            frames: RGB, as floats in [0, 1] or uint8 in [0, 255]; without a batch axis for a
                single stream.

        Raises:
            UsageError: The layout is wrong, or the shape differs from that of earlier frames.
        """
        frames = self._as_batch(frames)
        before = self._memories()
        try:
            scores = self._model(rearrange(frames, "b c h w -> b 1 c h w"))
        except BaseException:  # update the memories of all sites or of none
            self._restore(before)
            raise
        self._shape = tuple(frames.shape)
        if not self._past_scores:
            past = scores.new_zeros(len(scores), self.num_frames, scores.shape[1])
            self._past_scores = {"frames": past, "num_seen": torch.zeros_like(past[:, 0, 0])}
        last = torch.cat(
            [self._past_scores["frames"][:, 1:], rearrange(scores, "b k -> b 1 k")], dim=1
        )
        num_seen = (self._past_scores["num_seen"] + 1).clamp(max=self.num_frames)
        self._past_scores = {"frames": last, "num_seen": num_seen}
        return last.sum(dim=1) / rearrange(num_seen, "b -> b 1")

    def reset(self, streams: int | Iterable[int] | Tensor | None = None) -> None:
        """Clear the memory of streams, so that their next frame is their first.

        Args:
            streams: Indices of the streams in the batch; None clears all, and then the next frames
                may have another size and number.

        Raises:
            IndexError: There is no stream with this index.
            UsageError: The argument does not consist of integers.
        """
        if streams is None:
            self._restore({})
            self._shape = None
            return
        indices = _as_indices(streams)
        number = 0 if self._shape is None else self._shape[0]
        for index in indices:
            if not 0 <= index < number:
                raise IndexError(
                    f"stream {index} cannot be reset: there are {number} streams; wanted 0 to "
                    f"{number - 1}"
                    if number
                    else f"stream {index} cannot be reset before the first frame; push one first"
                )
        memories = self._memories()
        for memory in memories.values():
            for key, tensor in memory.items():
                memory[key] = tensor.clone()
                memory[key][indices] = 0
        self._restore(memories)

    def state(self) -> dict[str, Tensor]:
        """Return copies of all memories as named tensors; empty before the first frame.

        The first axis of each tensor is that of the streams. `safetensors.torch.save_file` can save
        them.
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
        """Continue from the state of a stream of the same model, which `state` returned.

        Raises:
            UsageError: It is not the state of such a stream. The stream is then unchanged.
        """
        before, shape_before = self._memories(), self._shape
        self.reset()
        if not state:
            return
        try:
            if "frame_shape" not in state:
                raise _state_error(
                    f"its tensors ({', '.join(list(state)[:3])}, ...) do not include frame_shape"
                )
            sizes = state["frame_shape"]
            # A frame of this size creates memories with the names and shapes that are needed.
            self.push(torch.zeros(len(sizes), *sizes[0].tolist()))
            _check_state(state, self.state())
        except BaseException:
            self._restore(before)
            self._shape = shape_before
            raise
        memories: dict[str, Memory] = {name: {} for name in self._memories()}
        for key in state.keys() - {"frame_shape"}:
            name, _, kind = key.rpartition(".")
            memories[name][kind] = state[key].to(self._model.mean.device, copy=True)
        self._restore(memories)

    def _memories(self) -> dict[str, Memory]:
        memories = {name: dict(stepper.memory) for name, stepper in self._steppers.items()}
        return memories | {SCORES: dict(self._past_scores)}

    def _restore(self, memories: Mapping[str, Memory]) -> None:
        for name, stepper in self._steppers.items():
            stepper.memory = memories.get(name, {})
        self._past_scores = memories.get(SCORES, {})

    def _as_batch(self, frames: object) -> Tensor:
        """Return frames as a batch on the model's device, or raise if they are unsuitable."""
        wanted = "wanted b 3 h w, or 3 h w for one stream"
        if not isinstance(frames, Tensor):
            raise UsageError(
                f"frames are a {type(frames).__name__}; wanted one tensor, b 3 h w, or 3 h w for "
                "one stream; make one Stream per frame size"
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
                f"frames of shape {shape} follow frames of shape {self._shape}; keep the number of "
                "streams and the frame size, or call reset() first"
            )
        return frames.to(self._model.mean.device)


def _as_indices(streams: int | Iterable[int] | Tensor) -> list[int]:
    if isinstance(streams, Tensor):
        streams = streams.tolist()
    indices = [streams] if isinstance(streams, int) else list(streams)
    if any(isinstance(index, bool) or not isinstance(index, int) for index in indices):
        raise UsageError(
            f"{streams = }; wanted indices in the batch, 0 for the first stream, and no mask: "
            "mask.nonzero().flatten() converts one"
        )
    return indices


def _check_state(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    if unexpected := [key for key in state if key not in wanted]:
        raise _state_error(f"unexpected tensors: {', '.join(unexpected[:3])}")
    if missing := [key for key in wanted if key not in state]:
        raise _state_error(f"missing tensors: {', '.join(missing[:3])}")
    for key, tensor in wanted.items():
        if state[key].shape != tensor.shape:
            raise _state_error(
                f"{key} has the shape {tuple(state[key].shape)}, wanted {tuple(tensor.shape)}"
            )


def _state_error(reason: str) -> UsageError:
    return UsageError(
        f"this is no state of a stream of this model: {reason}; load a result of state() for the "
        "same backbone, temporal modules, sites and num_frames"
    )


def _check_causal(model: object) -> None:
    remedy = "train one with model.causal: true, or create_model(..., causal=True)"
    if not isinstance(model, VideoRecognizer):
        raise UsageError(
            f"a {type(model).__name__} is no VideoRecognizer; wanted a model of create_model or "
            "load that was created with causal=True"
        )
    if model.takes_volumes:
        raise UsageError(
            f"{type(model.backbone).__name__} processes whole clips with 3-D convolutions, so it "
            f"cannot run frame by frame; {remedy}, with a 2-D network"
        )
    not_causal = [name for name, adapter in adapters(model) if not adapter.causal]
    if not_causal:
        raise UsageError(
            f"the temporal modules of this model use future frames ({len(not_causal)} of them, the "
            f"first before {not_causal[0]}); {remedy}"
        )
