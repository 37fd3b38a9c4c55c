"""Measures how a trained model's accuracy changes if its attention maps are replaced.

    python benchmarks/attention_ablation.py RUN/last.safetensors [...] [--root DATA --kind KIND]

Each checkpoint is evaluated on the test split of its training data: unchanged, and with the map of
every site replaced by the same map for all clips:

    identity  each frame adds its own motion
    no last   identity, but the last frame, whose motion is -norm(x), adds nothing
    uniform   each frame adds the mean of all motions
    mean      the site's mean map over the validation split
    nothing   no motion is added

Prints one row per checkpoint: top-1 in per cent. Nothing is trained, and no file is changed.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from einops import repeat
from torch import Tensor, nn

from motionaware.cli.training import recipe_for_data
from motionaware.engine.evaluate import evaluate
from motionaware.explain.saturation import attention_modules, saturation
from motionaware.models.checkpoint import load
from motionaware.ops.attention import gather_over_time, normalize_frames
from motionaware.temporal.m2a import MotionAttention

REPLACEMENTS = ("identity", "no last", "uniform", "mean", "nothing")


@contextmanager
def maps_replaced(network: nn.Module, maps: Mapping[str, Tensor]) -> Iterator[None]:
    """Replace the attention maps of these sites by maps `t t2` inside the context."""
    modules = dict(attention_modules(network))
    handles = []
    try:
        for site, weights in maps.items():
            handles.append(modules[site].register_forward_hook(_attend_with(weights)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attend_with(weights: Tensor) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    def attend(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        assert isinstance(module, MotionAttention)
        motion = module.motion(normalize_frames(inputs[0]))
        maps = repeat(weights, "t t2 -> b 1 t t2", b=len(motion))
        gathered = gather_over_time(motion, maps)
        return inputs[0] + gathered if module.skip else gathered

    return attend


def main() -> None:
    """Evaluate each checkpoint with each replacement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--root")
    parser.add_argument("--kind")
    parser.add_argument("--json", help="write the numbers to this file")
    args = parser.parse_args()
    print(
        f"| checkpoint | as trained | {' | '.join(REPLACEMENTS)} |\n"
        f"|---|---|{'---|' * len(REPLACEMENTS)}"
    )
    rows = {}
    for path in args.checkpoints:
        rows[path] = ablate(path, root=args.root, kind=args.kind)
        print(
            f"| {path} | {' | '.join(f'{100 * x:.1f}' for x in rows[path].values())} |", flush=True
        )
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


def ablate(path: str, *, root: str | None = None, kind: str | None = None) -> dict[str, float]:
    """Return top-1 of a checkpoint, unchanged and with each replacement."""
    model = load(path)
    recipe = recipe_for_data(model.recipe, path, kind=kind, root=root)
    t = model.clip.num_frames
    sites = saturation(model, recipe.data, split="val", config=recipe.eval).sites
    without_last = torch.eye(t)
    without_last[-1] = 0
    maps = {
        "identity": {site.site: torch.eye(t) for site in sites},
        "no last": {site.site: without_last for site in sites},
        "uniform": {site.site: torch.full((t, t), 1 / t) for site in sites},
        "mean": {site.site: torch.tensor(site.mean_map) for site in sites},
        "nothing": {site.site: torch.zeros(t, t) for site in sites},
    }
    top1 = {"as trained": evaluate(model, recipe.data, config=recipe.eval).top1}
    for name in REPLACEMENTS:
        with maps_replaced(model.backbone, maps[name]):
            top1[name] = evaluate(model, recipe.data, config=recipe.eval).top1
    return top1


if __name__ == "__main__":
    main()
