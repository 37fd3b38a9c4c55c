"""What does a frame of a stream cost, against a clip, and against a sliding window?

    python benchmarks/streaming.py --threads 1

Three ways take turns over the same video, decoding and framing included: a `Stream`; the same model
on the last T frames, anew at every frame (a sliding window); and, without decoding, one clip of T
frames against one frame pushed. Printed are medians over the rounds. Weights are random.
"""

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch

from motionaware import ClipSpec, Stream, VideoRecognizer, create_model
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.video.live import live_frames
from motionaware.data.video.writer import write_video

T = 8


def main() -> None:
    """Measure each network with each module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "mobilenet_v2"])
    parser.add_argument("--temporal", nargs="+", default=["m2a", "tsm"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=16, help="of the video")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, smooth(args.frames), fps=25)
        print(
            "network        temporal  clip ms  frame ms  frame/clip x T  window s  stream s  times"
        )
        for backbone in args.backbones:
            for temporal in args.temporal:
                measure(backbone, temporal, video, rounds=args.rounds)


def smooth(num_frames: int) -> torch.Tensor:
    """Blobs that change, 240 x 320."""
    coarse = torch.rand(num_frames, 3, 30, 40).cumsum(dim=0).frac()
    large = torch.nn.functional.interpolate(coarse, size=(240, 320), mode="bilinear")
    return (large * 255).to(torch.uint8)


@torch.no_grad()
def measure(backbone: str, temporal: str, video: Path, *, rounds: int) -> None:
    """Let the ways take turns, and print one line."""
    model = create_model(
        backbone,
        temporal=temporal,
        num_classes=174,
        num_frames=T,
        clip=ClipSpec(num_frames=T),
        causal=True,
    ).eval()
    clip = torch.rand(1, T, 3, 224, 224)
    stream = Stream(model)

    def push() -> None:
        for frame in clip.unbind(1):
            stream.push(frame)

    ways: dict[str, Callable[[], object]] = {
        "clip": lambda: model(clip),
        "frames": push,
        "window": lambda: slide(model, video),
        "stream": lambda: follow(model, video),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    milliseconds = 1e3 * median["clip"], 1e3 * median["frames"] / T
    print(
        f"{backbone:<14} {temporal:<8} {milliseconds[0]:8.1f} {milliseconds[1]:9.1f}"
        f" {median['frames'] / median['clip']:15.2f} {median['window']:9.2f}"
        f" {median['stream']:9.2f} {median['window'] / median['stream']:6.2f}",
        flush=True,
    )


def slide(model: VideoRecognizer, video: Path) -> None:
    """Run the model on the last T frames after each frame; the first fills the window."""
    window: deque[torch.Tensor] = deque(maxlen=T)
    for frame in live_frames(video):
        picture = crop_for_testing(frame.image[None], spec=model.clip)
        window.extend([picture] * (1 if window else T))
        model(torch.cat(list(window))[None])


def follow(model: VideoRecognizer, video: Path) -> None:
    """Push each frame."""
    stream = Stream(model)
    for frame in live_frames(video):
        stream.push(crop_for_testing(frame.image[None], spec=model.clip))


if __name__ == "__main__":
    main()
