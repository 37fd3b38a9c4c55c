"""Predict: name what happens in a video."""

import math
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from motionaware.data.dataset import choose_frames
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.video.base import Video
from motionaware.data.video.open import open_video
from motionaware.engine.evaluate import evaluation_mode, view_probabilities
from motionaware.errors import UsageError
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import VideoRecognizer

_SECONDS_A_CLIP = 10.0  # data sets of actions cut their videos to about this length
_CLIPS_AT_ONCE = 8  # bounds the memory that the decoded frames of a long video take


@dataclass(frozen=True, kw_only=True)
class Part:
    """One consecutive part of a video and its classes, the likeliest first.

    `start_seconds` and `end_seconds` are None where the video has no clock (a folder of frames).
    """

    start_seconds: float | None
    end_seconds: float | None
    classes: list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model sees in a video: classes with their probabilities, the likeliest first.

    `parts` holds the same for each part of the video that was a clip of its own; `note` says where
    a part has fewer frames than a clip, so that some are shown more than once, and what was changed
    in the video to read it.
    """

    video: str
    classes: list[tuple[str, float]]
    parts: list[Part]
    note: str | None = None

    def table(self) -> str:
        """As lines to read: the classes, then the likeliest one of each part."""
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
    """Name what happens in a video file or a folder of frames.

    A long video is cut into equal consecutive parts, each a clip of its own; the probabilities of
    the whole are the mean over its parts.

    Args:
        model: A recognizer, or the path of its checkpoint.
        video: The file, or the folder.
        num_clips: Parts; None takes one for every ten seconds begun.
        top_k: Classes to name.

    Raises:
        VideoError: The video cannot be read.
        NonFiniteScores: The model's scores are infinite or NaN.
        ValueError: `num_clips` or `top_k` is below 1, the checkpoint is damaged, or `video` is no
            path.
        FileNotFoundError: The checkpoint does not exist.
    """
    if top_k < 1:
        raise UsageError(f"{top_k = }; name at least 1 class")
    check_path(video)
    if not isinstance(model, VideoRecognizer):
        model = load(model)
    opened = open_video(video, square_pixels=model.clip.square_pixels)
    bounds = part_bounds(opened, num_clips)
    with evaluation_mode(model):
        probabilities = torch.cat(
            [
                _judge(model, opened, bounds[first : first + _CLIPS_AT_ONCE])
                for first in range(0, len(bounds), _CLIPS_AT_ONCE)
            ]
        )

    def named(row: torch.Tensor) -> list[tuple[str, float]]:
        values, places = row.topk(min(top_k, len(row)))
        return [
            (model.class_names[place], value)
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
        ]

    parts = [
        Part(
            start_seconds=seconds_at(opened, start),
            end_seconds=seconds_at(opened, end),
            classes=named(row),
        )
        for (start, end), row in zip(bounds, probabilities, strict=True)
    ]
    notes = [*_notes_of_length(bounds, model.clip.num_frames), *opened.notes]
    return Prediction(
        video=str(video),
        classes=named(probabilities.mean(dim=0)),
        parts=parts,
        note="; ".join(notes) or None,
    )


def check_path(video: object) -> None:
    """Refuse what is no path before it comes to a file system.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(video, (str, os.PathLike)):
        raise UsageError(
            f"video is a {type(video).__name__}, wanted the path of a video file or of a folder of "
            "frames; for tensors, clips b t 3 h w, call the model: model(clips)"
        )


def _notes_of_length(bounds: list[tuple[int, int]], num_frames: int) -> list[str]:
    shortest = min(end - start for start, end in bounds)
    if shortest >= num_frames:
        return []
    what = "the video" if len(bounds) == 1 else "a part"
    if shortest == 1:
        return [f"{what} has 1 frame, shown {num_frames} times: nothing moves in it"]
    return [f"{what} has {shortest} frames, a clip {num_frames}: some are shown more than once"]


def part_bounds(video: Video, num_clips: int | None = None) -> list[tuple[int, int]]:
    """First frame of each part that is a clip of its own, and the one after its last.

    Raises:
        ValueError: `num_clips` is below 1.
    """
    if num_clips is None:
        times = video.times_seconds
        seconds = 0.0 if times is None else float(times[-1])
        num_clips = math.floor(seconds / _SECONDS_A_CLIP) + 1
    if num_clips < 1:
        raise UsageError(f"{num_clips = }; a prediction needs at least 1 clip")
    num_clips = min(num_clips, video.num_frames)
    edges = [part * video.num_frames // num_clips for part in range(num_clips + 1)]
    return list(pairwise(edges))


def _judge(model: VideoRecognizer, video: Video, bounds: list[tuple[int, int]]) -> torch.Tensor:
    indices = [
        start + index for start, end in bounds for index in choose_frames(end - start, model.clip)
    ]
    frames = crop_for_testing(video.frames(indices), spec=model.clip)
    clips = torch.stack(frames.split(model.clip.num_frames))
    return view_probabilities(model, clips[:, None], names=[str(video.path)] * len(clips))


def seconds_at(video: Video, frame: int) -> float | None:
    """When a frame begins to be shown; past the last one, when the video ends."""
    times = video.times_seconds
    if times is None:
        return None
    if frame < len(times):
        seconds = float(times[frame])
    else:
        seconds = float(times[-1] + (times[-1] / (len(times) - 1) if len(times) > 1 else 0.0))
    return round(seconds, 3)  # a millisecond: what is behind it is rounding of ours
