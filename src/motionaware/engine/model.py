"""Recipe -> model: a recognizer as a recipe describes it."""

from collections.abc import Sequence

import torch
from torch import nn

from motionaware.engine.config import Recipe
from motionaware.models.recognizer import VideoRecognizer, create_model


def make_model(recipe: Recipe, class_names: Sequence[str], *, fresh: bool) -> VideoRecognizer:
    """Build the model of a recipe.

    Args:
        recipe: Of which the groups `model` and `clip` count.
        class_names: One name a class.
        fresh: Begin from the weights that the recipe names; else they are filled in later.

    Raises:
        ValueError: The recipe names what does not exist or does not fit.
        OSError: Weights could not be read or downloaded.
    """
    model = recipe.model
    return create_model(
        model.backbone,
        temporal=model.temporal,
        class_names=class_names,
        num_frames=recipe.clip.num_frames,
        pretrained=model.pretrained if fresh else False,
        clip=recipe.clip,
        where=model.where,
        stages=model.stages,
        every=model.every,
        dropout=model.dropout,
        causal=model.causal,
    )


_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the axes of a kernel


def lay_channels_last(model: nn.Module) -> None:
    """Store every convolution kernel of a network with channels last, in place.

    Kernels with 4 axes get `torch.channels_last`, those with 5 `torch.channels_last_3d`;
    `nn.Module.to` raises where a network has both.
    """
    for parameter in model.parameters():
        if parameter.ndim in _CHANNELS_LAST:
            layout = _CHANNELS_LAST[parameter.ndim]
            parameter.data = parameter.data.contiguous(memory_format=layout)
