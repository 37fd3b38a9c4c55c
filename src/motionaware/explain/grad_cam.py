"""Grad-CAM: which places of each frame raise the score of a class.

    cam = relu(sum_c a_c A_c),  a_c = mean over the pixels of d score / d A_c

of a frame's maps A, and each frame has weights a of its own.

Source   Selvaraju et al., 2016, https://arxiv.org/abs/1610.02391
Changed  One frame's weights come from that frame alone: there is one picture, not a clip.
"""

from collections.abc import Callable, Iterator, Mapping
from math import isqrt
from typing import Any

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.models.input_layout import MAX_PREFIX
from motionaware.models.recognizer import VideoRecognizer
from motionaware.ops import layout

Unfold = Callable[[Tensor], Float[Tensor, "1 t c h w"]]
Hook = Callable[[nn.Module, Any, Any], None]


def map_hooks(network: nn.Module, maps: dict[str, Any]) -> Iterator[tuple[nn.Module, Hook]]:
    """What notes the outputs of a network's layers by name, the latest last."""
    for name, module in network.named_modules():
        # Temporal modules are looked at by themselves; what only drops or passes on is no map.
        inside = not name or "temporal" in name.split(".")
        if inside or isinstance(module, nn.Dropout | nn.Identity):
            continue

        def keep(_: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            maps.pop(name, None)
            if not _changes_tokens(inputs, output):
                maps[name] = output

        yield module, keep


def grad_cam(
    model: VideoRecognizer,
    maps: Mapping[str, Any],
    score: Float[Tensor, ""],
    *,
    layer: str | None = None,
) -> tuple[str, Float[Tensor, "t h w"]] | None:
    """Give the layer that was taken, and its Grad-CAM, at most 1 in the clip.

    Args:
        model: Through which one clip went.
        maps: What its layers gave.
        score: Of the class, with its graph.
        layer: Which one to take; by default the last of more than one pixel on which the score
            depends.

    Returns:
        None if there is no such layer.
    """
    pictures = {
        name: (tensor, unfold)
        for name, (tensor, unfold) in _pictures(model, maps)
        if layer in (None, name)
    }
    tensors = [tensor for tensor, _ in pictures.values()]
    gradients = torch.autograd.grad(score, tensors, allow_unused=True) if tensors else ()
    for (name, (tensor, unfold)), gradient in reversed(
        [*zip(pictures.items(), gradients, strict=True)]
    ):
        if gradient is None:
            continue
        slopes, values = unfold(gradient).float(), unfold(tensor.detach()).float()
        if slopes.any():
            weights = reduce(slopes, "1 t c h w -> 1 t c 1 1", "mean")
            cam = reduce(weights * values, "1 t c h w -> t h w", "sum").relu().cpu()
            return name, cam / cam.max().clamp(min=torch.finfo(cam.dtype).tiny)
    return None


def picture_layers(model: VideoRecognizer, maps: Mapping[str, Any]) -> list[str]:
    """Names of the layers whose output is a picture of each frame."""
    return [name for name, _ in _pictures(model, maps)]


def _changes_tokens(inputs: Any, output: Any) -> bool:
    """Queries, keys and hidden layers are no picture: blocks and norms keep the shape of tokens."""
    return (
        isinstance(output, Tensor)
        and output.ndim == 3
        and not any(isinstance(one, Tensor) and one.shape == output.shape for one in inputs)
    )


def _pictures(
    model: VideoRecognizer, maps: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Tensor, Unfold]]]:
    own_prefix = getattr(model.backbone, "num_prefix_tokens", None)
    for name, output in maps.items():
        tensor, *rest = output if isinstance(output, tuple) and output else [output]
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            continue
        read = _read_volume if model.takes_volumes else _read_images
        unfold = read(tensor, rest, model.clip.num_frames, own_prefix)
        if unfold is not None:
            yield name, (tensor, unfold)


def _read_images(
    tensor: Tensor, rest: list[Any], num_frames: int, own_prefix: int | None
) -> Unfold | None:
    """How one clip's images or tokens are laid out; square frames have square maps."""
    match tensor.shape:
        case [t, _, h, w] if t == num_frames and h == w > 1:
            return lambda images: layout.unfold_time(images, num_frames=num_frames)
        case [t, h, w, _] if t == num_frames and h == w > 1:
            return lambda maps: layout.unfold_maps(maps, num_frames=num_frames)
        case [t, n, _] if t == num_frames:
            for k in [own_prefix, *range(MAX_PREFIX + 1)]:
                if k is not None and n - k > 1 and isqrt(n - k) ** 2 == n - k:
                    return lambda rows, k=k: layout.unfold_tokens(
                        rows[:, k:], num_frames=num_frames
                    )
    return None


def _read_volume(
    tensor: Tensor, rest: list[Any], num_frames: int, own_prefix: int | None
) -> Unfold | None:
    match tensor.shape, rest:
        case [1, _, _, h, w], _ if h == w > 1:
            return layout.unfold_volumes
        case [1, _, h, w, _], _ if h == w > 1:
            return layout.unfold_volume_maps
        case [1, n, _], [[int(t), int(h), int(w)], *_] if h * w > 1:
            return lambda rows: layout.unfold_volume_tokens(
                rows[:, n - t * h * w :], num_frames=t, height=h
            )
    return None
