"""Grad-CAM: which places of each frame raise the score of a class.

    cam = relu(sum_c a_c A_c),  a_c = mean over the pixels of d score / d A_c

with A the maps of one frame. Each frame has its own weights a.

Source   Selvaraju et al., 2016, https://arxiv.org/abs/1610.02391
Changed  The weights are averaged over the pixels of one frame, not of the whole clip.
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


def output_hooks(network: nn.Module, outputs: dict[str, Any]) -> Iterator[tuple[nn.Module, Hook]]:
    """Yield the layers of a network, each with a forward hook that stores its output by its name.

    Temporal modules, dropout and identity layers are left out. The last layer to run is last in
    `outputs`.
    """
    for name, module in network.named_modules():
        is_temporal = "temporal" in name.split(".")
        if not name or is_temporal or isinstance(module, nn.Dropout | nn.Identity):
            continue

        def store(_: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            outputs.pop(name, None)  # a layer that runs twice moves to the end
            if not _changes_token_shape(inputs, output):
                outputs[name] = output

        yield module, store


def grad_cam(
    model: VideoRecognizer,
    outputs: Mapping[str, Any],
    score: Float[Tensor, ""],
    *,
    layer: str | None = None,
) -> tuple[str, Float[Tensor, "t h w"]] | None:
    """Return the name of the layer that was used and its Grad-CAM, in [0, 1].

    Args:
        model: The model that one clip went through.
        outputs: The outputs of its layers, see `output_hooks`.
        score: The score of the class, with its autograd graph.
        layer: The layer to use; by default the last one that has a map of more than one pixel on
            which the score depends.

    Returns:
        None if there is no such layer.
    """
    candidates = {
        name: (tensor, unfold)
        for name, (tensor, unfold) in _spatial_maps(model, outputs)
        if layer in (None, name)
    }
    tensors = [tensor for tensor, _ in candidates.values()]
    gradients = torch.autograd.grad(score, tensors, allow_unused=True) if tensors else ()
    for (name, (tensor, unfold)), gradient in reversed(
        [*zip(candidates.items(), gradients, strict=True)]
    ):
        if gradient is None:
            continue
        slopes, values = unfold(gradient).float(), unfold(tensor.detach()).float()
        if slopes.any():
            weights = reduce(slopes, "1 t c h w -> 1 t c 1 1", "mean")
            cam = reduce(weights * values, "1 t c h w -> t h w", "sum").relu().cpu()
            return name, cam / cam.max().clamp(min=torch.finfo(cam.dtype).tiny)
    return None


def spatial_layers(model: VideoRecognizer, outputs: Mapping[str, Any]) -> list[str]:
    """Return the names of the layers whose output is a spatial map of each frame."""
    return [name for name, _ in _spatial_maps(model, outputs)]


def _changes_token_shape(inputs: Any, output: Any) -> bool:
    """True for tokens whose shape differs from every input, such as queries and hidden layers.

    Only blocks and norms, which keep the shape of tokens, are used for Grad-CAM.
    """
    return (
        isinstance(output, Tensor)
        and output.ndim == 3
        and not any(isinstance(one, Tensor) and one.shape == output.shape for one in inputs)
    )


def _spatial_maps(
    model: VideoRecognizer, outputs: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Tensor, Unfold]]]:
    """Yield name, output and `b t c h w` conversion of each layer that has a spatial map."""
    num_prefix = getattr(model.backbone, "num_prefix_tokens", None)
    for name, output in outputs.items():
        tensor, *others = output if isinstance(output, tuple) and output else [output]
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            continue
        if model.takes_volumes:
            unfold = _unfold_of_volumes(tensor, others)
        else:
            unfold = _unfold_of_frames(tensor, model.clip.num_frames, num_prefix)
        if unfold is not None:
            yield name, (tensor, unfold)


def _unfold_of_frames(tensor: Tensor, num_frames: int, num_prefix: int | None) -> Unfold | None:
    """Return the conversion of a 2-D network's output to `b t c h w`; None if it has no map.

    Frames are square, so height and width of a map are equal.

    Args:
        tensor: Images `t c h w`, channels-last maps `t h w c` or tokens `t n c`.
        num_frames: Frames of the clip.
        num_prefix: Number of tokens before those of the patches; None if it is unknown.
    """
    match tensor.shape:
        case [t, _, h, w] if t == num_frames and h == w > 1:
            return lambda images: layout.unfold_time(images, num_frames=num_frames)
        case [t, h, w, _] if t == num_frames and h == w > 1:
            return lambda maps: layout.unfold_maps(maps, num_frames=num_frames)
        case [t, n, _] if t == num_frames:
            for k in [num_prefix, *range(MAX_PREFIX + 1)]:
                if k is not None and n - k > 1 and isqrt(n - k) ** 2 == n - k:
                    return lambda rows, k=k: layout.unfold_tokens(
                        rows[:, k:], num_frames=num_frames
                    )
    return None


def _unfold_of_volumes(tensor: Tensor, others: list[Any]) -> Unfold | None:
    """Return the conversion of a 3-D network's output to `b t c h w`; None if it has no map.

    Args:
        tensor: Volumes `1 c t h w`, channels-last maps `1 t h w c` or tokens `1 n c`.
        others: The other outputs of the layer. For tokens the first one is `(t, h, w)`.
    """
    match tensor.shape, others:
        case [1, _, _, h, w], _ if h == w > 1:
            return layout.unfold_volumes
        case [1, _, h, w, _], _ if h == w > 1:
            return layout.unfold_volume_maps
        case [1, n, _], [[int(t), int(h), int(w)], *_] if h * w > 1:
            return lambda rows: layout.unfold_volume_tokens(
                rows[:, n - t * h * w :], num_frames=t, height=h
            )
    return None
