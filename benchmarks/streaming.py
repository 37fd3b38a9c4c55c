"""Measure the time of a `Stream` per frame, compared with clips and with a sliding window.

    python benchmarks/streaming.py --threads 1

Two methods process the same video, including decoding and cropping: a `Stream`, and the same model
on the last T frames after every frame (a sliding window). Without decoding, one clip of T frames is
compared with T pushed frames. In each round all methods run once, one after another; the table
shows medians over the rounds. Weights are random.
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
    """Measure each backbone with each temporal module."""
    parser = argparse.ArgumentParser(
        description="Measure the time of a Stream per frame, and of clips and a sliding window."
    )
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "mobilenet_v2"])
    parser.add_argument("--temporal", nargs="+", default=["m2a", "tsm"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=16, help="number of frames of the video")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, smooth_frames(args.frames), fps=25)
        print(
            "network        temporal  clip ms  frame ms  frame/clip x T  window s  stream s  times"
        )
        for backbone in args.backbones:
            for temporal in args.temporal:
                measure(backbone, temporal, video, rounds=args.rounds)


def smooth_frames(num_frames: int) -> torch.Tensor:
    """Return frames of 240 x 320 pixels with smooth blobs that change."""
    coarse = torch.rand(num_frames, 3, 30, 40).cumsum(dim=0).frac()
    large = torch.nn.functional.interpolate(coarse, size=(240, 320), mode="bilinear")
    return (large * 255).to(torch.uint8)


@torch.no_grad()
def measure(backbone: str, temporal: str, video: Path, *, rounds: int) -> None:
    """Run the methods in turn, and print one line of the table."""
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

    def push_frames() -> None:
        for frame in clip.unbind(1):
            stream.push(frame)

    methods: dict[str, Callable[[], object]] = {
        "clip": lambda: model(clip),
        "frames": push_frames,
        "window": lambda: run_sliding_window(model, video),
        "stream": lambda: run_stream(model, video),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, run in methods.items():
            start = time.perf_counter()
            run()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    milliseconds = 1e3 * median["clip"], 1e3 * median["frames"] / T
    print(
        f"{backbone:<14} {temporal:<8} {milliseconds[0]:8.1f} {milliseconds[1]:9.1f}"
        f" {median['frames'] / median['clip']:15.2f} {median['window']:9.2f}"
        f" {median['stream']:9.2f} {median['window'] / median['stream']:6.2f}",
        flush=True,
    )


def run_sliding_window(model: VideoRecognizer, video: Path) -> None:
    """Run the model on the last T frames after each frame; the first frame fills the window."""
    window: deque[torch.Tensor] = deque(maxlen=T)
    for frame in live_frames(video):
        picture = crop_for_testing(frame.image[None], spec=model.clip)
        window.extend([picture] * (1 if window else T))
        model(torch.cat(list(window))[None])


def run_stream(model: VideoRecognizer, video: Path) -> None:
    """Push each frame of a video to a stream."""
    stream = Stream(model)
    for frame in live_frames(video):
        stream.push(crop_for_testing(frame.image[None], spec=model.clip))


if __name__ == "__main__":
    main()
