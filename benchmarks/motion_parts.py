"""Which part of M2A costs what? Motion alone, normalised first, attended, added to x, or not.

    python benchmarks/motion_parts.py [--ways m "m(n)" ...] [--seeds 0 1 2]

    m           gate(diff(x))               motion alone
    m(n)        gate(diff(norm(x)))
    x+m         gate(x + diff(x))           the next frame, no more
    x+m(n)      gate(x + diff(norm(x)))     M2A with the identity for its attention
    A m(n)      gate(A diff(norm(x)))       M2A without its skip
    x+A m(n)    gate(x + A diff(norm(x)))   M2A

The clips are those of docs/results/motionpairs32_few.yaml, the loop is a shorter one (fitting.py).
Printed: a row a way and seed, top-1 of all classes and of the two turns, in per cent.
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

WAYS = ("m", "m(n)", "x+m", "x+m(n)", "A m(n)", "x+A m(n)")
NUM_FRAMES, IMAGE_SIZE = 8, 32
TURNS = [label for label, name in enumerate(CLASS_NAMES) if name.startswith("turning")]


class Parts(nn.Module):
    """What a gate is made of, of clips `b t c h w`: the parts of M2A that a way names."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.norm, self.attend, self.skip = "(n)" in way, "A" in way, "x+" in way

    def forward(self, clips: Tensor) -> Tensor:
        """Clips in, clips of the same shape out."""
        found = temporal_difference(normalize_frames(clips) if self.norm else clips)
        if self.attend:
            found = attend_over_time(found)
        return clips + found if self.skip else found


def make(*, channels: int, num_frames: int, way: str) -> nn.Module:
    """Make the module of one site."""
    return Gate(Parts(way), channels=channels, reduction=4)


def load(split: str, num_clips: int) -> tuple[Tensor, Tensor]:
    """All clips of a split, and their labels."""
    pairs = MotionPairs(
        split=split, num_clips=num_clips, num_frames=NUM_FRAMES, image_size=IMAGE_SIZE
    )
    clips, labels = zip(*(pairs[i] for i in range(num_clips)), strict=True)
    return torch.stack(clips), torch.tensor(labels)


def main() -> None:
    """Train and judge each way with each seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    seen, (clips, labels) = load("train", 1200), load("test", 1200)
    turning = torch.isin(labels, torch.tensor(TURNS))
    print("| way | seed | top-1 | turns |\n|---|---|---|---|")
    for seed in args.seeds:
        for way in args.ways:
            torch.manual_seed(seed)
            model = motionaware.create_model(
                "resnet18_quarter", temporal=functools.partial(make, way=way),
                class_names=CLASS_NAMES, num_frames=NUM_FRAMES, dropout=0.0,
            ).to(memory_format=torch.channels_last)  # fmt: skip
            fit(model, *seen, epochs=args.epochs, seed=seed)
            right = (answers(model, clips) == labels).float()
            row = (way, seed, *(f"{100 * x.mean():.1f}" for x in (right, right[turning])))
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
