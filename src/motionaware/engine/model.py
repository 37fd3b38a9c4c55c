"""Build the model that a recipe describes."""

from collections.abc import Sequence

import torch
from torch import nn

from motionaware.engine.config import Recipe
from motionaware.models.recognizer import VideoRecognizer, create_model


def make_model(recipe: Recipe, class_names: Sequence[str], *, fresh: bool) -> VideoRecognizer:
    """Return the model of a recipe.

    Args:
        recipe: The recipe; its groups `model` and `clip` are used.
        class_names: One name for each class.
        fresh: True loads the pretrained weights that the recipe names. False leaves random weights,
            for a state dict that is loaded later.

    Raises:
        UsageError: A name in the recipe is unknown, or an option does not fit the backbone.
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
    """Convert each convolution kernel of a network to the channels-last memory format, in place.

    Kernels with 4 axes get `torch.channels_last`, kernels with 5 axes `torch.channels_last_3d`.
    `nn.Module.to` raises an error for a network that has both.
    """
    for parameter in model.parameters():
        if parameter.ndim in _CHANNELS_LAST:
            memory_format = _CHANNELS_LAST[parameter.ndim]
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
