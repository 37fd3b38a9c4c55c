"""Where would attention over time have to matter? A movement is shown twice: again, or backwards?

    python benchmarks/again_or_back.py --temporal "m2a(reduction=4)" [...] [--where layer2.0.conv1]

    again   c0 c1 c2  -  -  c0 c1 c2        -  a grey frame
    back    c0 c1 c2  -  -  c2 c1 c0

Both answers hold the same frames, and the same movements between neighbours once a clip and its
reverse are both drawn, as here they always are: for f, any score of two neighbouring frames,

    f(again c) + f(again reversed c) = f(back c) + f(back reversed c)        each summed over a clip

so that whoever sees neighbours only and averages cannot have all four right, 75 % at most. It takes
something that compares the two halves. Clips c are of MotionPairs, three frames each.

Printed: a row a module and seed, top-1 in per cent on clips that training did not see.
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
    """Clips `b t 3 h w` and their labels; every four share one movement and its reverse."""
    clips, labels = [], []
    for i in trange(num_clips // 4, desc="drawing", leave=False):
        label = 2 * (i % (len(CLASS_NAMES) // 2))  # of the even labels; the odd ones are reverses
        once = render_clip(label, seed=(seed, i), num_frames=3, image_size=image_size)
        grey = torch.full_like(once[:2], GREY)
        for first in (once, once.flip(0)):
            clips += [torch.cat([first, grey, first]), torch.cat([first, grey, first.flip(0)])]
            labels += [0, 1]
    return torch.stack(clips), torch.tensor(labels)


def main() -> None:
    """Train and judge each module with each seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--temporal", nargs="+", required=True)
    parser.add_argument("--where", help="names of hosts; by default all sites")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--train", type=int, default=1200, help="clips")
    parser.add_argument("--test", type=int, default=1200, help="clips")
    parser.add_argument("--image-size", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    seen = draw(args.train, seed=1, image_size=args.image_size)
    unseen = draw(args.test, seed=2, image_size=args.image_size)
    print("| temporal | sites | seed | training | test | seconds |\n|---|---|---|---|---|---|")
    for temporal in args.temporal:
        for seed in args.seeds:
            torch.manual_seed(seed)
            model = motionaware.create_model(
                "resnet18_quarter", temporal=temporal, class_names=BOTH, num_frames=NUM_FRAMES,
                where=args.where, dropout=0.0,
            ).to(memory_format=torch.channels_last)  # fmt: skip
            began = time.monotonic()
            fit(model, *seen, epochs=args.epochs, seed=seed)
            right = [
                f"{100 * (answers(model, clips) == labels).float().mean():.1f}"
                for clips, labels in (seen, unseen)
            ]
            row = (temporal, args.where or "all", seed, *right, round(time.monotonic() - began))
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
