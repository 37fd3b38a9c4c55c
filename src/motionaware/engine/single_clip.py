"""Find out before training whether a network can be trained on a batch of one clip.

A batch norm needs two values per channel. A 3-D network whose last map is one pixel, or a 2-D
network on clips of one frame, has a single value per channel in a batch of one clip; torch then
raises an error in the middle of the epoch.
"""

import copy

import torch

from motionaware.models.recognizer import VideoRecognizer


def trains_on_one_clip(model: VideoRecognizer) -> bool:
    """Whether a forward pass of one clip succeeds with the model in its present modes.

    It is tried on a copy with a black clip, without gradients. The model and torch's random state
    are left as they were. An error that two clips raise too has another cause and is raised.
    """
    devices = [model.mean.device] if model.mean.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            copy.deepcopy(model)(_black(model, num_clips=1))
        except (ValueError, RuntimeError):
            copy.deepcopy(model)(_black(model, num_clips=2))
            return False
    return True


def _black(model: VideoRecognizer, *, num_clips: int) -> torch.Tensor:
    clip, device = model.clip, model.mean.device
    shape = (num_clips, clip.num_frames, 3, clip.image_size, clip.image_size)
    return torch.zeros(shape, dtype=torch.uint8, device=device)


def refuse_single_clips(model: VideoRecognizer, *, batch_size: int, num_videos: int) -> ValueError:
    """The error for a run all of whose batches have one clip."""
    clip = model.clip
    found = (
        f"train.batch_size is {batch_size}"
        if batch_size == 1
        else f"the training split has {num_videos} video, so each batch has 1 clip"
    )
    remedy = "set train.batch_size to 2 or more" if batch_size == 1 else "add training videos"
    kind = type(model.backbone).__name__
    return ValueError(
        f"{found}, but a norm of {kind} has one value per channel in a clip of {clip.num_frames} "
        f"frames of {clip.image_size} x {clip.image_size} pixels and needs two; {remedy}, or raise "
        "clip.image_size or clip.num_frames"
    )
