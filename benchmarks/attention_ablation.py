"""What does a trained model's attention over time contribute? Replace its maps, train nothing.

    python benchmarks/attention_ablation.py RUN/last.safetensors [...] [--root DATA --kind KIND]

Each checkpoint is judged on the test split of the data it was trained on, as it is and with the
map of every site replaced, in every clip alike, by

    identity  each frame keeps its own motion
    no last   likewise, but the last frame, whose motion is -norm(x), keeps nothing
    uniform   each frame gathers the mean of all motions
    mean      the site's mean map over the validation split
    nothing   the motion is not added at all

Printed: top-1 in per cent, a row a checkpoint. The files are only read.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from einops import repeat
from torch import Tensor, nn

from motionaware.cli.training import recipe_on_data
from motionaware.engine.evaluate import evaluate
from motionaware.explain.saturation import attention_modules, saturation
from motionaware.models.checkpoint import load
from motionaware.ops.attention import gather_over_time, normalize_frames
from motionaware.temporal.m2a import MotionAttention

WAYS = ("identity", "no last", "uniform", "mean", "nothing")


@contextmanager
def maps_replaced(network: nn.Module, maps: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the sites named attend by these maps, `t t2` each; afterwards all is as it was."""
    found = dict(attention_modules(network))
    handles = []
    try:
        for site, weights in maps.items():
            handles.append(found[site].register_forward_hook(_attend_by(weights)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attend_by(weights: Tensor) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    def attend(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        assert isinstance(module, MotionAttention)
        motion = module.motion(normalize_frames(inputs[0]))
        maps = repeat(weights, "t t2 -> b 1 t t2", b=len(motion))
        gathered = gather_over_time(motion, maps)
        return inputs[0] + gathered if module.skip else gathered

    return attend


def main() -> None:
    """Judge each checkpoint in each way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--root")
    parser.add_argument("--kind")
    parser.add_argument("--json", help="file for the numbers")
    args = parser.parse_args()
    print(f"| checkpoint | as trained | {' | '.join(WAYS)} |\n|---|---|{'---|' * len(WAYS)}")
    rows = {}
    for path in args.checkpoints:
        rows[path] = ablate(path, root=args.root, kind=args.kind)
        print(
            f"| {path} | {' | '.join(f'{100 * x:.1f}' for x in rows[path].values())} |", flush=True
        )
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))


def ablate(path: str, *, root: str | None = None, kind: str | None = None) -> dict[str, float]:
    """Top-1 of a checkpoint as it is, and in each way."""
    model = load(path)
    recipe = recipe_on_data(model.recipe, path, kind=kind, root=root)
    t = model.clip.num_frames
    found = saturation(model, recipe.data, split="val", config=recipe.eval).sites
    without_last = torch.eye(t)
    without_last[-1] = 0
    by_way = {
        "identity": {site.site: torch.eye(t) for site in found},
        "no last": {site.site: without_last for site in found},
        "uniform": {site.site: torch.full((t, t), 1 / t) for site in found},
        "mean": {site.site: torch.tensor(site.mean_map) for site in found},
        "nothing": {site.site: torch.zeros(t, t) for site in found},
    }
    top1 = {"as trained": evaluate(model, recipe.data, config=recipe.eval).top1}
    for way in WAYS:
        with maps_replaced(model.backbone, by_way[way]):
            top1[way] = evaluate(model, recipe.data, config=recipe.eval).top1
    return top1


if __name__ == "__main__":
    main()
