"""How fast is data read? Against the reference's way, torchcodec, and decoding everything.

    OMP_NUM_THREADS=1 python benchmarks/data.py                        # all, some ten minutes
    OMP_NUM_THREADS=1 python benchmarks/data.py jpeg h264 --rounds 9
    OMP_NUM_THREADS=1 python benchmarks/data.py loader cache --data ../data/lips

The script writes its own files, of the sizes and codecs that data sets have: patterns that slide
over each other, with noise. The ways take turns in one process of one thread; numbers are medians.

    jpeg     eight frames of a folder of 176 x 100, cropped, scaled to 224 (`ours`), and normalised,
             which the model does (`normalised`). `reference`: PIL opens, scales, crops; normalised
    videos   eight frames, one from the middle of each eighth: `open` indexes and reads, as a first
             epoch does; `again` reads, as later ones do; `all` decodes everything with PyAV;
             `exact` and `approximate` are torchcodec's, where a decoder can be made
    loader   clips a second with 0, 1 and 2 workers, and whether epochs keep their workers
    cache    clips a second without and with a cache of decoded frames, empty at first

`jpeg` and videos are milliseconds of the processor, which others on the machine disturb least.
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
from motionaware.data.transforms.crop_flip import frame_for_testing
from motionaware.data.transforms.frame_sampling import segment_indices
from motionaware.data.video.frame_cache import FrameCache
from motionaware.data.video.open import open_video

NUM_FRAMES = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class File:
    """A video to write; `group` is the distance of keyframes."""

    name: str
    codec: str
    num_frames: int
    group: int
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


def pictures(num_frames: int, height: int, width: int, *, seed: int = 0) -> Iterator[np.ndarray]:
    """Two patterns that slide over each other, and noise: height x width x 3, in [0, 255]."""
    chance = np.random.default_rng(seed)
    layers = []
    for grain in (40, 12):
        coarse = chance.integers(0, 256, (2 * height // grain, 2 * width // grain, 3), np.uint8)
        large = Image.fromarray(coarse).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        layers.append(np.asarray(large).astype(np.float32))
    for number in range(num_frames):
        shifts = (number % height, (number // 2) % width), (0, (3 * number) % width)
        picture = sum(
            0.5 * layer[down : down + height, right : right + width]
            for layer, (down, right) in zip(layers, shifts, strict=True)
        )
        picture = picture + chance.normal(0, 2, (height, width, 1)).astype(np.float32)
        yield picture.clip(0, 255).astype(np.uint8)


def write(path: Path, file: File, *, seed: int = 0) -> Path:
    """Write a video as an encoder's defaults have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(file.codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = file.height, file.width, "yuv420p"
        stream.options = {"g": str(file.group)}
        if file.codec == "libvpx-vp9":
            stream.options |= {"cpu-used": "5", "deadline": "good", "crf": "32", "b": "0"}
        elif file.codec == "mpeg4":
            stream.bit_rate = 800_000
        for picture in pictures(file.num_frames, file.height, file.width, seed=seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of the processor for each way; each goes once before it counts."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if turn:
                times[name].append((time.process_time() - began) * 1e3)
    return {name: statistics.median(several) for name, several in times.items()}


def reference_clip(paths: list[Path]) -> torch.Tensor:
    """The reference's way to a test clip: frames along channels, normalised one by one."""
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


def jpeg(folder: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Eight frames of a folder."""
    folder.mkdir()
    for number, picture in enumerate(pictures(40, 100, 176), start=1):
        Image.fromarray(picture).save(folder / f"{number:05d}.jpg", quality=90)
    indices = segment_indices(40, NUM_FRAMES)
    paths = [folder / f"{index + 1:05d}.jpg" for index in indices]
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))

    def ours() -> torch.Tensor:
        return frame_for_testing(open_video(folder).frames(indices), spec=ClipSpec())

    def normalised() -> torch.Tensor:
        return ours().float().div_(255).sub_(mean).div_(std)

    reference = partial(reference_clip, paths)
    difference = float((normalised().flatten(0, 1) - reference()).abs().mean())
    ways = {"ours": ours, "normalised": normalised, "reference": reference}
    times = in_turn(ways, 10 * rounds)
    ratios = {f"reference / {name}": times["reference"] / times[name] for name in list(ways)[:2]}
    yield {"row": "jpeg 176x100", **times, **ratios, "mean difference": difference}


def decode_all(path: Path, indices: list[int]) -> list[np.ndarray]:
    """Decode everything, keep what is wanted."""
    wanted, found = set(indices), []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
    return found


def torchcodec_frames(path: Path, indices: list[int], mode: str = "exact") -> torch.Tensor:
    """As torchcodec's documentation has it, with one thread."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    decoder = VideoDecoder(str(path), seek_mode=mode, num_ffmpeg_threads=1)
    return decoder.get_frames_at(indices=indices).data


def videos(folder: Path, rounds: int, kind: str) -> Iterator[dict[str, Any]]:
    """Eight frames of each file of a kind."""
    for file in VIDEOS[kind]:
        path = write(folder / file.name, file)
        indices = segment_indices(file.num_frames, NUM_FRAMES)
        video = open_video(path)
        frames = video.frames(indices)
        expected = torch.from_numpy(np.stack(decode_all(path, indices))).permute(0, 3, 1, 2)
        assert torch.equal(frames, expected), f"{path} is not read bit for bit"
        ways: dict[str, Callable[[], Any]] = {
            "open": partial(lambda path, numbers: open_video(path).frames(numbers), path, indices),
            "again": partial(video.frames, indices),
            "all": partial(decode_all, path, indices),
        }
        identical = None
        with suppress(ImportError, RuntimeError, OSError):  # its wheel brings no FFmpeg
            identical = torch.equal(torchcodec_frames(path, indices), frames)
            for mode in ("exact", "approximate"):
                ways[mode] = partial(torchcodec_frames, path, indices, mode)
        times = in_turn(ways, rounds)
        row = {"row": f"{kind} {file.name}", "kB": path.stat().st_size / 1e3, **times}
        if identical is not None:
            best = min(times["exact"], times["approximate"])
            row |= {"torchcodec / open": best / times["open"], "identical": identical}
            row |= {"torchcodec / again": best / times["again"]}
        yield row | {"all / open": times["all"] / times["open"]}


def dataset(root: Path, cache: FrameCache | None = None) -> VideoDataset:
    """Training clips as a recipe has them."""
    opener = cache.open if cache else open_video
    spec = ClipSpec(num_frames=NUM_FRAMES, image_size=112)
    return VideoDataset(read_split("folder", root, "train"), spec=spec, opener=opener)


def epochs(clips: VideoDataset, num_workers: int) -> tuple[list[float], bool]:
    """Seconds of each of three epochs, and whether its workers were those of the first."""
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


def loader(root: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Clips a second, by the number of workers."""
    ways = {f"{number} workers": partial(epochs, dataset(root), number) for number in (0, 1, 2)}
    yield from rates(ways, rounds, len(dataset(root)))


def cache(root: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Clips a second, without a cache and with an empty one."""

    def cached() -> tuple[list[float], bool]:
        with tempfile.TemporaryDirectory() as folder:
            return epochs(dataset(root, FrameCache(folder, max_gib=8)), 0)

    ways = {"no cache": lambda: epochs(dataset(root), 0), "cache": cached}
    yield from rates(ways, rounds, len(dataset(root)))


def rates(
    ways: dict[str, Callable[[], tuple[list[float], bool]]], rounds: int, num_clips: int
) -> Iterator[dict[str, Any]]:
    """Let the ways take turns; medians over the turns."""
    turns = [{name: way() for name, way in ways.items()} for _ in range(max(1, rounds // 3))]
    for name in ways:
        seconds = np.median([turn[name][0] for turn in turns], axis=0).tolist()
        row = {f"epoch {i}": num_clips / each for i, each in enumerate(seconds, start=1)}
        kept = all(turn[name][1] for turn in turns)
        yield {"row": name, **row, "times faster": seconds[0] / seconds[1], "same workers": kept}


def main() -> None:
    """Measure the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", default=ROWS, help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data", type=Path, help="ROOT/train/CLASS/VIDEO for loader and cache")
    parser.add_argument("--json", type=Path, help="also write one line a row here")
    args = parser.parse_args()
    if set(args.rows) - set(ROWS):
        parser.error(f"rows are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    av.logging.set_level(None)
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        root = args.data
        if root is None and {"loader", "cache"} & set(args.rows):
            root = Path(scratch) / "split"
            for number in range(192):
                file = File(f"{number}.mp4", "libx264", 24, 12, 112, 112)
                write(root / "train" / f"class{number % 4}" / file.name, file, seed=number)
        for name in args.rows:
            folder = Path(scratch) / name
            if name in VIDEOS:
                rows = videos(folder, args.rounds, name)
            elif name == "jpeg":
                rows = jpeg(folder, args.rounds)
            else:
                rows = {"loader": loader, "cache": cache}[name](root, args.rounds)
            for row in rows:
                words = [f"{key} {value:.3g}" for key, value in row.items() if key != "row"]
                print(f"{row['row']:<22} {'  '.join(words)}", flush=True)
                lines.append(json.dumps({**row, "load": os.getloadavg()[0]}) + "\n")
    if args.json:
        args.json.write_text("".join(lines))


if __name__ == "__main__":
    main()
