"""Visualize: a picture of a clip, what was predicted, and which frames attend to which."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motionaware.engine.evaluate import evaluation_mode
from motionaware.models.recognizer import VideoRecognizer
from motionaware.temporal.m2a import MotionAttention

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def visualize(
    model: VideoRecognizer,
    clip: UInt8[Tensor, "t 3 h w"],
    path: str | Path,
    *,
    title: str = "",
    top_k: int = 5,
) -> None:
    """Draw a clip's frames, the likeliest classes and the attention maps of three sites to a file.

    Args:
        model: Any recognizer; it is judged in evaluation mode and left as it was.
        clip: Frames as the model wants them.
        path: Of the picture; its ending says the format.
        title: Words above the frames.
        top_k: Classes to draw.

    Raises:
        ImportError: matplotlib is not installed.
    """
    new_figure = figure_maker()
    probabilities, maps = judge_with_attention(model, clip)
    shown = [maps[place] for place in sorted({0, len(maps) // 2, len(maps) - 1})] if maps else []
    num_frames = len(clip)

    figure = new_figure(figsize=(12, 4.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.7], squeeze=False)[:, 0]
    above.suptitle(title)
    for number, (axes, frame) in enumerate(
        zip(above.subplots(1, num_frames, squeeze=False)[0], clip, strict=True), start=1
    ):
        axes.imshow(frame.permute(1, 2, 0).numpy())
        axes.set_xlabel(f"frame {number}", fontsize=8)
        axes.set(xticks=[], yticks=[])
    panels = below.subplots(1, 1 + len(shown), width_ratios=[1.8] + [1] * len(shown), squeeze=False)
    bars, *squares = panels[0]
    values, places = probabilities.topk(min(top_k, len(probabilities)))
    names = [model.class_names[place] for place in places.tolist()]
    bars.barh(names[::-1], values.tolist()[::-1], color="#4477aa")
    bars.set(xlim=(0, 1), xlabel="probability")
    for axes, (site, weights) in zip(squares, shown, strict=True):
        axes.imshow(weights.numpy(), vmin=0, vmax=1, cmap="viridis")
        axes.set_title(f"attention at\n{site}", fontsize=8)
        axes.set_xlabel("attended frame", fontsize=8)
        axes.set_ylabel("frame", fontsize=8)
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=120)


def figure_maker() -> "type[Figure]":
    """Matplotlib's figure; not pyplot: no window, no global state.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib; run: pip install 'motionaware[plots]'"
        ) from error
    return Figure


@torch.inference_mode()
def judge_with_attention(
    model: VideoRecognizer, clip: UInt8[Tensor, "t 3 h w"]
) -> tuple[Float[Tensor, "k"], list[tuple[str, Float[Tensor, "t t2"]]]]:
    """Probabilities of a clip, and the attention map of each site that has one, by its name.

    The maps are taken by hooks that are gone when this returns.
    """
    maps: list[tuple[str, Tensor]] = []
    hooks = []
    for name, module in model.backbone.named_modules():
        if isinstance(module, MotionAttention):
            site = name.partition(".temporal")[0]

            def keep(one: nn.Module, inputs: tuple[Tensor], output: Tensor, site: str = site):
                assert isinstance(one, MotionAttention)
                maps.append((site, one.attention_map(inputs[0])[0].cpu()))

            hooks.append(module.register_forward_hook(keep))
    try:
        with evaluation_mode(model):
            scores = model(clip[None].to(model.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    return scores[0].softmax(dim=-1).cpu(), maps
