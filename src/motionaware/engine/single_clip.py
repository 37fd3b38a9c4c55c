"""Avoid training batches of one clip where a batch norm of the network cannot take them.

A batch norm needs at least two values per channel. A 3-D network whose last feature map is one
pixel, or a 2-D network on clips of one frame, has one value per channel in a batch of one clip;
torch then raises an error in the middle of the epoch.
"""

import copy

import torch

from motionaware.engine.config import Recipe
from motionaware.engine.training_data import TrainingData
from motionaware.errors import UsageError
from motionaware.models.recognizer import VideoRecognizer


def avoid_batches_of_one_clip(model: VideoRecognizer, data: TrainingData, recipe: Recipe) -> None:
    """Change the batches of the training data if the model cannot be trained on one clip.

    A last batch of one clip is merged into the batch before it. If skipped videos leave one clip of
    a batch, the batch is left out, with a note.

    Raises:
        UsageError: All batches have one clip.
    """
    skips = recipe.data.on_error == "skip"
    if (data.smallest_batch > 1 and not skips) or trains_on_one_clip(model):
        return
    data.order.merge_single = True
    data.skips_single = skips
    if data.smallest_batch > 1:
        return
    batch_size, clip = recipe.train.batch_size, model.clip
    if batch_size == 1:
        found, remedy = "train.batch_size is 1", "set train.batch_size to 2 or more"
    else:
        found = f"the training split has {data.num_training} video, so each batch has 1 clip"
        remedy = "add training videos"
    raise UsageError(
        f"{found}, but a norm of {type(model.backbone).__name__} has one value per channel in a "
        f"clip of {clip.num_frames} frames of {clip.image_size} x {clip.image_size} pixels and "
        f"needs two; {remedy}, or raise clip.image_size or clip.num_frames"
    )


def trains_on_one_clip(model: VideoRecognizer) -> bool:
    """Return True if the model, in its present mode, can process a batch of one clip.

    A copy of the model processes a black clip. The model and torch's random state do not change.
    If a batch of two clips fails, too, the error has another cause and is raised.
    """
    devices = [model.mean.device] if model.mean.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            copy.deepcopy(model)(_black_clips(model, 1))
        except (ValueError, RuntimeError):
            copy.deepcopy(model)(_black_clips(model, 2))
            return False
    return True


def _black_clips(model: VideoRecognizer, num_clips: int) -> torch.Tensor:
    clip, device = model.clip, model.mean.device
    shape = (num_clips, clip.num_frames, 3, clip.image_size, clip.image_size)
    return torch.zeros(shape, dtype=torch.uint8, device=device)
