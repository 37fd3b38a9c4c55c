"""Predict the classes of a video."""

import math
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from motionaware.data.dataset import choose_frames
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.video.base import Video
from motionaware.data.video.open import open_video
from motionaware.engine.evaluate import evaluation_mode, view_probabilities
from motionaware.errors import UsageError
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import VideoRecognizer

_SECONDS_PER_CLIP = 10.0  # about the length of the videos in action recognition data sets
_CLIPS_PER_BATCH = 8  # limits the memory for decoded frames


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the consecutive parts of a video, with its prediction.

    Attributes:
        start_seconds: When the part begins; None for a folder of frames, which has no timestamps.
        end_seconds: When it ends, or None.
        classes: Class names and probabilities, the most probable first.
    """

    start_seconds: float | None
    end_seconds: float | None
    classes: list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted classes of a video.

    Attributes:
        video: Path of the video.
        classes: Class names and probabilities, the most probable first; the mean over all parts.
        parts: The prediction of each part; one clip was taken from each.
        note: Says if a clip repeats frames, and what was changed to read the video; or None.
    """

    video: str
    classes: list[tuple[str, float]]
    parts: list[Part]
    note: str | None = None

    def table(self) -> str:
        """Format the classes, then the most probable class of each part, as text."""
        lines = [self.video]
        lines += [f"  {probability:6.1%}  {name}" for name, probability in self.classes]
        for part in self.parts if len(self.parts) > 1 else ():
            name, probability = part.classes[0]
            when = ""
            if part.start_seconds is not None:
                when = f"{part.start_seconds:7.1f} to {part.end_seconds:.1f} s"
            lines.append(f"  {when}  {probability:6.1%}  {name}")
        if self.note is not None:
            lines.append(f"  note: {self.note}")
        return "\n".join(lines)


def predict(
    model: VideoRecognizer | str | Path,
    video: str | Path,
    *,
    num_clips: int | None = None,
    top_k: int = 5,
) -> Prediction:
    """Predict the classes of a video file or a folder of frames.

    A long video is cut into equal consecutive parts, and one clip is taken from each. The
    probabilities of the video are the mean over its parts.

    Args:
        model: A recognizer, or the path of its checkpoint.
        video: Path of the video file or the folder.
        num_clips: Number of parts; None takes one for every 10 s, rounded up.
        top_k: Number of classes to return.

    Raises:
        VideoError: The video cannot be read.
        NonFiniteScores: The model's scores are infinite or NaN.
        UsageError: `num_clips` or `top_k` is below 1, the checkpoint is damaged, or `video` is not
            a path.
        FileNotFoundError: The checkpoint does not exist.
    """
    if top_k < 1:
        raise UsageError(f"{top_k = }; wanted at least 1 class")
    check_path(video)
    if not isinstance(model, VideoRecognizer):
        model = load(model)
    opened = open_video(video, square_pixels=model.clip.square_pixels)
    bounds = part_bounds(opened, num_clips)
    with evaluation_mode(model):
        probabilities = torch.cat(
            [
                _score_clips(model, opened, bounds[first : first + _CLIPS_PER_BATCH])
                for first in range(0, len(bounds), _CLIPS_PER_BATCH)
            ]
        )

    def top_classes(row: torch.Tensor) -> list[tuple[str, float]]:
        values, places = row.topk(min(top_k, len(row)))
        return [
            (model.class_names[place], value)
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
        ]

    parts = [
        Part(
            start_seconds=seconds_at(opened, start),
            end_seconds=seconds_at(opened, end),
            classes=top_classes(row),
        )
        for (start, end), row in zip(bounds, probabilities, strict=True)
    ]
    notes = [*_notes_on_length(bounds, model.clip.num_frames), *opened.notes]
    return Prediction(
        video=str(video),
        classes=top_classes(probabilities.mean(dim=0)),
        parts=parts,
        note="; ".join(notes) or None,
    )


def check_path(video: object) -> None:
    """Check that `video` is a path.

    Raises:
        UsageError: It is not.
    """
    if not isinstance(video, (str, os.PathLike)):
        raise UsageError(
            f"video is a {type(video).__name__}, wanted the path of a video file or of a folder of "
            "frames; for tensors, clips b t 3 h w, call the model: model(clips)"
        )


def _notes_on_length(bounds: list[tuple[int, int]], num_frames: int) -> list[str]:
    shortest = min(end - start for start, end in bounds)
    if shortest >= num_frames:
        return []
    what = "the video" if len(bounds) == 1 else "a part"
    if shortest == 1:
        return [f"{what} has 1 frame, which is repeated {num_frames} times: there is no motion"]
    return [f"{what} has {shortest} frames, fewer than the {num_frames} of a clip: some repeat"]


def part_bounds(video: Video, num_clips: int | None = None) -> list[tuple[int, int]]:
    """Return the first frame of each part of a video and the frame after its last.

    Args:
        video: The video.
        num_clips: Number of parts; None takes one for every 10 s, rounded up.

    Raises:
        UsageError: `num_clips` is below 1.
    """
    if num_clips is None:
        times = video.times_seconds
        seconds = 0.0 if times is None else float(times[-1])
        num_clips = math.floor(seconds / _SECONDS_PER_CLIP) + 1
    if num_clips < 1:
        raise UsageError(f"{num_clips = }; wanted at least 1 clip")
    num_clips = min(num_clips, video.num_frames)
    edges = [part * video.num_frames // num_clips for part in range(num_clips + 1)]
    return list(pairwise(edges))


def _score_clips(
    model: VideoRecognizer, video: Video, bounds: list[tuple[int, int]]
) -> Float[Tensor, "b k"]:
    """Return the class probabilities of one clip from each part."""
    indices = [
        start + index for start, end in bounds for index in choose_frames(end - start, model.clip)
    ]
    frames = crop_for_testing(video.frames(indices), spec=model.clip)
    clips = torch.stack(frames.split(model.clip.num_frames))
    return view_probabilities(model, clips[:, None], names=[str(video.path)] * len(clips))


def seconds_at(video: Video, frame: int) -> float | None:
    """Return the time of a frame; for the frame after the last one, the end of the video.

    Returns None if the video has no timestamps.
    """
    times = video.times_seconds
    if times is None:
        return None
    if frame < len(times):
        seconds = float(times[frame])
    else:
        seconds = float(times[-1] + (times[-1] / (len(times) - 1) if len(times) > 1 else 0.0))
    return round(seconds, 3)  # digits below a millisecond are rounding errors
