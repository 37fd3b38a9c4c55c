"""Benchmark of data loading, compared with the reference code, torchcodec and full decoding.

    OMP_NUM_THREADS=1 python benchmarks/data.py                        # all, about ten minutes
    OMP_NUM_THREADS=1 python benchmarks/data.py jpeg h264 --rounds 9
    OMP_NUM_THREADS=1 python benchmarks/data.py loader cache --data ../data/lips

The script writes its own files, with sizes and codecs of real data sets and moving, noisy content.
The methods of a row take turns in one process with one thread; the numbers are medians.

    jpeg     eight frames of a folder of 176 x 100 images. `ours` crops and scales them to 224;
             `normalised` also normalises them, which our model does. `reference`: PIL opens, scales
             and crops, and the frames are normalised
    videos   eight frames, the middle one of each eighth. `open` indexes and reads, as in a first
             epoch; `again` reads only, as in later epochs; `all` decodes every frame with PyAV;
             `exact` and `approximate` are seek modes of torchcodec, if it is installed
    loader   clips per second with 0, 1 and 2 workers, and whether workers persist between epochs
    cache    clips per second without a cache of decoded frames, and with one that is empty at first

`jpeg` and videos are measured in milliseconds of CPU time, which depends little on other processes.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.stream import VideoStream
from PIL import Image

from motionaware.clip import ClipSpec
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import TrainingBatchSampler, iterate_batches, make_loader
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.transforms.frame_sampling import segment_indices
from motionaware.data.video.frame_cache import FrameCache
from motionaware.data.video.open import open_video

NUM_FRAMES = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class File:
    """A video to write; `gop` is the distance between keyframes, in frames."""

    name: str
    codec: str
    num_frames: int
    gop: int
    height: int = 240
    width: int = 320


VIDEOS = {
    "h264": (
        File("60_gop12.mp4", "libx264", 60, 12),
        File("60_gop250.mp4", "libx264", 60, 250),
        File("250_gop12.mp4", "libx264", 250, 12),
        File("250_gop250.mp4", "libx264", 250, 250),
    ),
    "vp9": (File("60.webm", "libvpx-vp9", 60, 128), File("250.webm", "libvpx-vp9", 250, 128)),
    "mpeg4": (File("60.avi", "mpeg4", 60, 12), File("250.avi", "mpeg4", 250, 12)),
    "720p": (
        File("250_gop12.mp4", "libx264", 250, 12, 720, 1280),
        File("250_gop250.mp4", "libx264", 250, 250, 720, 1280),
    ),
}
ROWS = ("jpeg", *VIDEOS, "loader", "cache")


def noisy_frames(
    num_frames: int, height: int, width: int, *, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield frames of two moving patterns and noise: height x width x 3, in [0, 255]."""
    rng = np.random.default_rng(seed)
    layers = []
    for grain in (40, 12):
        coarse = rng.integers(0, 256, (2 * height // grain, 2 * width // grain, 3), np.uint8)
        large = Image.fromarray(coarse).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        layers.append(np.asarray(large).astype(np.float32))
    for number in range(num_frames):
        shifts = (number % height, (number // 2) % width), (0, (3 * number) % width)
        frame = sum(
            0.5 * layer[down : down + height, right : right + width]
            for layer, (down, right) in zip(layers, shifts, strict=True)
        )
        frame = frame + rng.normal(0, 2, (height, width, 1)).astype(np.float32)
        yield frame.clip(0, 255).astype(np.uint8)


def write(path: Path, file: File, *, seed: int = 0) -> Path:
    """Encode a video, mostly with the defaults of the encoder; return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(file.codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = file.height, file.width, "yuv420p"
        stream.options = {"g": str(file.gop)}
        if file.codec == "libvpx-vp9":
            stream.options |= {"cpu-used": "5", "deadline": "good", "crf": "32", "b": "0"}
        elif file.codec == "mpeg4":
            stream.bit_rate = 800_000
        for frame in noisy_frames(file.num_frames, file.height, file.width, seed=seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def measure(methods: dict[str, Callable[[], Any]], num_rounds: int) -> dict[str, float]:
    """Return the median CPU time of each method in milliseconds, after one round of warm-up."""
    times_ms: dict[str, list[float]] = {name: [] for name in methods}
    for i in range(num_rounds + 1):
        for name, method in methods.items():
            start = time.process_time()
            method()
            if i > 0:
                times_ms[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times_ms.items()}


def reference_clip(paths: list[Path]) -> torch.Tensor:
    """Return a test clip as the reference code does: frames as channels, normalised one by one."""
    images = [Image.open(path).convert("RGB") for path in paths]
    size = (round(images[0].width * 256 / images[0].height), 256)
    images = [image.resize(size, Image.Resampling.BILINEAR) for image in images]
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    images = [image.crop((left, top, left + 224, top + 224)) for image in images]
    stacked = torch.from_numpy(np.concatenate([np.array(image) for image in images], axis=2))
    clip = stacked.permute(2, 0, 1).contiguous().float().div(255)
    for channel, mean, std in zip(clip, MEAN * len(images), STD * len(images), strict=True):
        channel.sub_(mean).div_(std)
    return clip


def measure_jpeg(folder: Path, num_rounds: int) -> Iterator[dict[str, Any]]:
    """Read eight frames of a folder of images."""
    folder.mkdir()
    for number, frame in enumerate(noisy_frames(40, 100, 176), start=1):
        Image.fromarray(frame).save(folder / f"{number:05d}.jpg", quality=90)
    indices = segment_indices(40, NUM_FRAMES)
    paths = [folder / f"{index + 1:05d}.jpg" for index in indices]
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))

    def ours() -> torch.Tensor:
        return crop_for_testing(open_video(folder).frames(indices), spec=ClipSpec())

    def normalised() -> torch.Tensor:
        return ours().float().div_(255).sub_(mean).div_(std)

    reference = partial(reference_clip, paths)
    difference = float((normalised().flatten(0, 1) - reference()).abs().mean())
    methods = {"ours": ours, "normalised": normalised, "reference": reference}
    times = measure(methods, 10 * num_rounds)
    ratios = {f"reference / {name}": times["reference"] / times[name] for name in list(methods)[:2]}
    yield {"row": "jpeg 176x100", **times, **ratios, "mean difference": difference}


def decode_all(path: Path, indices: list[int]) -> list[np.ndarray]:
    """Decode all frames with PyAV; return those with the given indices."""
    wanted, frames = set(indices), []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
    return frames


def torchcodec_frames(path: Path, indices: list[int], mode: str = "exact") -> torch.Tensor:
    """Decode frames as in torchcodec's documentation, with one thread."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    decoder = VideoDecoder(str(path), seek_mode=mode, num_ffmpeg_threads=1)
    return decoder.get_frames_at(indices=indices).data


def measure_videos(folder: Path, num_rounds: int, kind: str) -> Iterator[dict[str, Any]]:
    """Read eight frames of each file of VIDEOS[kind]."""
    for file in VIDEOS[kind]:
        path = write(folder / file.name, file)
        indices = segment_indices(file.num_frames, NUM_FRAMES)
        video = open_video(path)
        frames = video.frames(indices)
        expected = torch.from_numpy(np.stack(decode_all(path, indices))).permute(0, 3, 1, 2)
        assert torch.equal(frames, expected), f"{path} is not decoded bit for bit"
        methods: dict[str, Callable[[], Any]] = {
            "open": partial(lambda path, indices: open_video(path).frames(indices), path, indices),
            "again": partial(video.frames, indices),
            "all": partial(decode_all, path, indices),
        }
        identical = None
        with suppress(ImportError, RuntimeError, OSError):  # its wheel does not include FFmpeg
            identical = torch.equal(torchcodec_frames(path, indices), frames)
            for mode in ("exact", "approximate"):
                methods[mode] = partial(torchcodec_frames, path, indices, mode)
        times = measure(methods, num_rounds)
        row = {"row": f"{kind} {file.name}", "kB": path.stat().st_size / 1e3, **times}
        if identical is not None:
            fastest = min(times["exact"], times["approximate"])
            row |= {"torchcodec / open": fastest / times["open"], "identical": identical}
            row |= {"torchcodec / again": fastest / times["again"]}
        yield row | {"all / open": times["all"] / times["open"]}


def dataset(root: Path, cache: FrameCache | None = None) -> VideoDataset:
    """Return training clips of 8 frames of 112 x 112 pixels."""
    opener = cache.open if cache else open_video
    spec = ClipSpec(num_frames=NUM_FRAMES, image_size=112)
    return VideoDataset(read_split("folder", root, "train"), spec=spec, opener=opener)


def epochs(clips: VideoDataset, num_workers: int) -> tuple[list[float], bool]:
    """Return the seconds of each of three epochs, and True if all used the same workers."""
    order = TrainingBatchSampler(len(clips), batch_size=16, seed=0)
    loader = make_loader(clips, order, num_workers=num_workers)
    seconds, workers = [], []
    for order.epoch in range(3):
        began = time.perf_counter()
        assert sum(len(batch.labels) for batch in iterate_batches(loader)) == len(clips)
        seconds.append(time.perf_counter() - began)
        running = getattr(loader, "_iterator", None)
        workers.append([worker.pid for worker in running._workers] if running else [])
    return seconds, all(pids == workers[0] for pids in workers)


def measure_loader(root: Path, num_rounds: int) -> Iterator[dict[str, Any]]:
    """Load clips with 0, 1 and 2 workers."""
    methods = {f"{num} workers": partial(epochs, dataset(root), num) for num in (0, 1, 2)}
    yield from clips_per_second(methods, num_rounds, len(dataset(root)))


def measure_cache(root: Path, num_rounds: int) -> Iterator[dict[str, Any]]:
    """Load clips without a cache, and with one that is empty at first."""

    def with_cache() -> tuple[list[float], bool]:
        with tempfile.TemporaryDirectory() as folder:
            return epochs(dataset(root, FrameCache(folder, max_gib=8)), 0)

    methods = {"no cache": lambda: epochs(dataset(root), 0), "cache": with_cache}
    yield from clips_per_second(methods, num_rounds, len(dataset(root)))


def clips_per_second(
    methods: dict[str, Callable[[], tuple[list[float], bool]]], num_rounds: int, num_clips: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each method: medians over rounds in which the methods take turns."""
    rounds = [
        {name: method() for name, method in methods.items()} for _ in range(max(1, num_rounds // 3))
    ]
    for name in methods:
        seconds = np.median([results[name][0] for results in rounds], axis=0).tolist()
        row = {f"epoch {i}": num_clips / value for i, value in enumerate(seconds, start=1)}
        same_workers = all(results[name][1] for results in rounds)
        speedup = seconds[0] / seconds[1]
        yield {"row": name, **row, "times faster": speedup, "same workers": same_workers}


def main() -> None:
    """Run the chosen rows, print them and write them as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", default=ROWS, help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data", type=Path, help="ROOT/train/CLASS/VIDEO for loader and cache")
    parser.add_argument("--json", type=Path, help="also write one JSON line per row to this file")
    args = parser.parse_args()
    if set(args.rows) - set(ROWS):
        parser.error(f"rows are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    av.logging.set_level(None)
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        root = args.data or Path(scratch) / "split"
        if args.data is None and {"loader", "cache"} & set(args.rows):
            for number in range(192):
                file = File(f"{number}.mp4", "libx264", 24, 12, 112, 112)
                write(root / "train" / f"class{number % 4}" / file.name, file, seed=number)
        for name in args.rows:
            folder = Path(scratch) / name
            if name in VIDEOS:
                rows = measure_videos(folder, args.rounds, name)
            elif name == "jpeg":
                rows = measure_jpeg(folder, args.rounds)
            elif name == "loader":
                rows = measure_loader(root, args.rounds)
            else:
                rows = measure_cache(root, args.rounds)
            for row in rows:
                cells = [f"{key} {value:.3g}" for key, value in row.items() if key != "row"]
                print(f"{row['row']:<22} {'  '.join(cells)}", flush=True)
                lines.append(json.dumps({**row, "load": os.getloadavg()[0]}) + "\n")
    if args.json:
        args.json.write_text("".join(lines))


if __name__ == "__main__":
    main()
