"""Which part of M2A costs the turns? Motion alone, normalised first or not, added to x or not.

    python benchmarks/motion_parts.py [--seeds 0 1 2]

    gate(diff(x))              motion alone
    gate(diff(norm(x)))        norm
    gate(x + diff(x))          skip
    gate(x + diff(norm(x)))    norm and skip: M2A with the identity for its attention

MotionPairs at 32 pixels as in docs/results/motionpairs32_few.yaml, with a shorter loop (fitting.py).
Printed: a row a way and seed, top-1 of all classes and of the two turns, in per cent.
"""

import argparse
import functools

import torch
from fitting import answers, fit
from torch import Tensor, nn

import motionaware
from motionaware.data.motionpairs import CLASS_NAMES, MotionPairs
from motionaware.ops.attention import normalize_frames
from motionaware.ops.motion import temporal_difference
from motionaware.temporal.gate import Gate

NUM_FRAMES, IMAGE_SIZE = 8, 32
TURNS = [label for label, name in enumerate(CLASS_NAMES) if name.startswith("turning")]


class Parts(nn.Module):
    """Motion of clips `b t c h w`, with the parts of M2A that are asked for."""

    def __init__(self, *, norm: bool, skip: bool) -> None:
        super().__init__()
        self.norm, self.skip = norm, skip

    def forward(self, clips: Tensor) -> Tensor:
        """Clips in, clips of the same shape out."""
        motion = temporal_difference(normalize_frames(clips) if self.norm else clips)
        return clips + motion if self.skip else motion


def make(*, channels: int, num_frames: int, norm: bool, skip: bool) -> nn.Module:
    """Make the module of one site."""
    return Gate(Parts(norm=norm, skip=skip), channels=channels, reduction=4)


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
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    seen, (clips, labels) = load("train", 1200), load("test", 1200)
    turning = torch.isin(labels, torch.tensor(TURNS))
    print("| norm | skip | seed | top-1 | turns |\n|---|---|---|---|---|")
    for seed in args.seeds:
        for norm, skip in ((False, False), (True, False), (False, True), (True, True)):
            torch.manual_seed(seed)
            model = motionaware.create_model(
                "resnet18_quarter", temporal=functools.partial(make, norm=norm, skip=skip),
                class_names=CLASS_NAMES, num_frames=NUM_FRAMES, dropout=0.0,
            ).to(memory_format=torch.channels_last)  # fmt: skip
            fit(model, *seen, epochs=args.epochs, seed=seed)
            right = (answers(model, clips) == labels).float()
            row = (norm, skip, seed, *(f"{100 * x.mean():.1f}" for x in (right, right[turning])))
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
