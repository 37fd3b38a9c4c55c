"""Ablation of M2A: how does each part (norm, attention, skip connection) change the accuracy?

    python benchmarks/motion_parts.py [--variants m "m(n)" ...] [--seeds 0 1 2]

    m           gate(diff(x))               motion only
    m(n)        gate(diff(norm(x)))
    x+m         gate(x + diff(x))           equals the next frame
    x+m(n)      gate(x + diff(norm(x)))     M2A with the identity as its attention map
    A m(n)      gate(A diff(norm(x)))       M2A without its skip connection
    x+A m(n)    gate(x + A diff(norm(x)))   M2A

The clips are those of docs/results/motionpairs32_few.yaml; the training loop is in fitting.py.
Prints one row per variant and seed: top-1 of all classes and of the two turning classes, in per
cent.
"""

import argparse
import functools

import torch
from fitting import answers, fit
from torch import Tensor, nn

import motionaware
from motionaware.data.motionpairs import CLASS_NAMES, MotionPairs
from motionaware.ops.attention import attend_over_time, normalize_frames
from motionaware.ops.motion import temporal_difference
from motionaware.temporal.gate import Gate

VARIANTS = ("m", "m(n)", "x+m", "x+m(n)", "A m(n)", "x+A m(n)")
NUM_FRAMES, IMAGE_SIZE = 8, 32
TURNING = [label for label, name in enumerate(CLASS_NAMES) if name.startswith("turning")]


class Parts(nn.Module):
    """The inner module of a gate with the parts of M2A that a variant names."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.norm, self.attend, self.skip = "(n)" in variant, "A" in variant, "x+" in variant

    def forward(self, clips: Tensor) -> Tensor:
        """Return clips of the same shape, `b t c h w`."""
        motion = temporal_difference(normalize_frames(clips) if self.norm else clips)
        if self.attend:
            motion = attend_over_time(motion)
        return clips + motion if self.skip else motion


def make(*, channels: int, num_frames: int, variant: str) -> nn.Module:
    """Return the module of one site."""
    return Gate(Parts(variant), channels=channels, reduction=4)


def load(split: str, num_clips: int) -> tuple[Tensor, Tensor]:
    """Return all clips of a split and their labels."""
    pairs = MotionPairs(
        split=split, num_clips=num_clips, num_frames=NUM_FRAMES, image_size=IMAGE_SIZE
    )
    clips, labels = zip(*(pairs[i] for i in range(num_clips)), strict=True)
    return torch.stack(clips), torch.tensor(labels)


def main() -> None:
    """Train and evaluate each variant with each seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    training_set, (clips, labels) = load("train", 1200), load("test", 1200)
    turning = torch.isin(labels, torch.tensor(TURNING))
    print("| variant | seed | top-1 | turns |\n|---|---|---|---|")
    for seed in args.seeds:
        for variant in args.variants:
            torch.manual_seed(seed)
            model = motionaware.create_model(
                "resnet18_quarter", temporal=functools.partial(make, variant=variant),
                class_names=CLASS_NAMES, num_frames=NUM_FRAMES, dropout=0.0,
            ).to(memory_format=torch.channels_last)  # fmt: skip
            fit(model, *training_set, epochs=args.epochs, seed=seed)
            right = (answers(model, clips) == labels).float()
            row = (variant, seed, *(f"{100 * x.mean():.1f}" for x in (right, right[turning])))
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
