"""A task that needs attention over time: is a movement shown again, or backwards?

    python benchmarks/again_or_back.py --temporal "m2a(reduction=4)" [...] [--where layer2.0.conv1]

    again   c0 c1 c2  -  -  c0 c1 c2        -  a grey frame
    back    c0 c1 c2  -  -  c2 c1 c0

Both classes contain the same frames. Each clip c is drawn together with its reverse, so both
classes also contain the same movements between neighbouring frames: for any score f of two
neighbouring frames, summed over a clip,

    f(again c) + f(again reversed c) = f(back c) + f(back reversed c)

Therefore a model that averages scores of neighbouring frames classifies at most three of these four
clips correctly: its upper bound is 75 %. A better model must compare the two halves of a clip. The
clips c are from MotionPairs, three frames each.

Prints one row per module and seed: top-1 in per cent on the training and the test clips.
"""

import argparse
import time

import torch
from fitting import answers, fit
from torch import Tensor
from tqdm import trange

import motionaware
from motionaware.data.motionpairs import CLASS_NAMES, render_clip

NUM_FRAMES, GREY = 8, 128
BOTH = ("again", "back")


def draw(num_clips: int, *, seed: int, image_size: int) -> tuple[Tensor, Tensor]:
    """Return clips `b t 3 h w` and labels; every four clips show one movement and its reverse."""
    clips, labels = [], []
    for i in trange(num_clips // 4, desc="drawing", leave=False):
        label = 2 * (i % (len(CLASS_NAMES) // 2))  # even; odd labels are the reverse movements
        movement = render_clip(label, seed=(seed, i), num_frames=3, image_size=image_size)
        grey = torch.full_like(movement[:2], GREY)
        for first in (movement, movement.flip(0)):
            clips += [torch.cat([first, grey, first]), torch.cat([first, grey, first.flip(0)])]
            labels += [0, 1]
    return torch.stack(clips), torch.tensor(labels)


def main() -> None:
    """Train and evaluate each module with each seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--temporal", nargs="+", required=True)
    parser.add_argument("--where", help="names of layers; by default all sites")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--train", type=int, default=1200, help="number of clips")
    parser.add_argument("--test", type=int, default=1200, help="number of clips")
    parser.add_argument("--image-size", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    training_set = draw(args.train, seed=1, image_size=args.image_size)
    test_set = draw(args.test, seed=2, image_size=args.image_size)
    print("| temporal | sites | seed | training | test | seconds |\n|---|---|---|---|---|---|")
    for temporal in args.temporal:
        for seed in args.seeds:
            torch.manual_seed(seed)
            model = motionaware.create_model(
                "resnet18_quarter", temporal=temporal, class_names=BOTH, num_frames=NUM_FRAMES,
                where=args.where, dropout=0.0,
            ).to(memory_format=torch.channels_last)  # fmt: skip
            start = time.monotonic()
            fit(model, *training_set, epochs=args.epochs, seed=seed)
            accuracies = [
                f"{100 * (answers(model, clips) == labels).float().mean():.1f}"
                for clips, labels in (training_set, test_set)
            ]
            row = (
                temporal,
                args.where or "all",
                seed,
                *accuracies,
                round(time.monotonic() - start),
            )
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
