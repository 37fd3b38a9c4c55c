"""Does damaged input ever do worse than one clear error? Mutated videos and images, each opened.

    python benchmarks/bad_input.py --videos ../shared/data/videos     # 2 000 files
    python benchmarks/bad_input.py --files 200 --seed 1

Sources are small files that this script writes (h264, hevc, mpeg4, vp9 in mp4, mkv, avi, webm, ts;
jpeg, png) and those of a folder. A file follows from the seed and its number. It is damaged in one
of five ways: a few bytes or bits changed; cut off; its head taken from another file; a huge number
written near its head; a block of it overwritten, doubled or left out. It is opened in a process of
its own, which reads eight frames and then all, with a limit of time and of memory. What can come:

    frames    it can still be read
    error     one VideoError, on one line
    other     another error: a fault of ours
    memory    memory past the limit: likewise
    crash     a signal ended the process: of a decoder
    hang      no end within the time limit

It exits with 1 where there was any of the last four, and keeps those files where `--keep` says.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image

from motionaware.data.transforms.frame_sampling import segment_indices
from motionaware.data.video.base import IMAGE_SUFFIXES
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError

GOOD = ("frames", "error")
TIME_LIMIT_SECONDS = 20.0
MEMORY_LIMIT_MB = 1024  # beyond what the process had before it opened the file
CODECS = {
    "h264.mp4": "libx264",
    "h264.mkv": "libx264",
    "h264.ts": "libx264",
    "hevc.mp4": "libx265",
    "mpeg4.avi": "mpeg4",
    "mjpeg.avi": "mjpeg",
    "vp9.webm": "libvpx-vp9",
}


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    name: str
    what: str
    words: str
    seconds: float
    memory_mb: float


def write_sources(folder: Path) -> list[Path]:
    """Write small files to damage: 24 frames of a pattern that moves, 48 x 64 pixels."""
    chance = np.random.default_rng(0)
    pattern = chance.integers(0, 256, (24, 32, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    pictures = [np.ascontiguousarray(pattern[i : i + 48, i : i + 64]) for i in range(24)]
    for name, codec in CODECS.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=12)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width = 48, 64
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    for name in ("picture.jpg", "picture.png", "progressive.jpg"):
        options = {"progressive": True} if name.startswith("progressive") else {}
        Image.fromarray(pictures[0]).save(folder / name, **options)
    return sorted(folder.iterdir())


def damaged(source: bytes, other: bytes, chance: np.random.Generator) -> bytes:
    """Damage a file in one of five ways."""
    content = bytearray(source)
    size = len(content)
    way = int(chance.integers(5))
    if way == 0:
        reach = size if chance.random() < 0.5 else min(size, 2048)
        for place in chance.integers(reach, size=int(2 ** chance.integers(8))):
            content[place] ^= int(chance.integers(1, 256))
    elif way == 1:
        del content[int(chance.integers(1, size)) :]
    elif way == 2:
        head = int(2 ** chance.integers(3, 11))
        content[:head] = other[:head]
    elif way == 3:
        _enlarge(content, chance)
    else:
        begin, end = sorted(int(place) for place in chance.integers(size, size=2))
        block = bytes(content[begin:end])
        content[begin:end] = [b"", block * 2, bytes(len(block)), chance.bytes(len(block))][
            int(chance.integers(4))
        ]
    return bytes(content)


def _enlarge(content: bytearray, chance: np.random.Generator) -> None:
    """Write a huge number: where a size is declared if that is known, else anywhere in the head."""
    big = [b"\xff\xff", b"\x7f\xff", b"\x40\x00", b"\x20\x00"][int(chance.integers(4))]
    sizes = [content.find(mark) + skip for mark, skip in _SIZES if mark in content]
    if sizes and chance.random() < 0.7:
        place = sizes[int(chance.integers(len(sizes)))]
        content[place : place + 2] = big
        if chance.random() < 0.5:
            content[place + 2 : place + 4] = big
        return
    place = int(chance.integers(min(len(content), 1024)))
    wide = big * int(chance.integers(1, 5))
    content[place : place + len(wide)] = wide


# Marks that stand some bytes before a declared height or width.
_SIZES = (
    (b"\xff\xc0", 5),  # jpeg
    (b"\xff\xc2", 5),  # progressive jpeg
    (b"IHDR", 4),  # png
    (b"IHDR", 8),
    (b"avc1", 28),  # mp4
    (b"hev1", 28),
    (b"tkhd", 80),
    (b"stts", 8),  # number of entries, of frames
    (b"stsz", 12),
    (b"stsz", 8),
    (b"strf", 12),  # avi
    (b"avih", 40),
    (b"\xb0\x81", 2),  # matroska
)


def files_of(sources: list[Path], number: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of each damaged file."""
    contents = [(path, path.read_bytes()) for path in sources if path.stat().st_size > 16]
    for place in range(number):
        chance = np.random.default_rng([seed, place])
        path, source = contents[place % len(contents)]
        other = contents[int(chance.integers(len(contents)))][1]
        yield f"{place:05d}_{path.name}", damaged(source, other, chance)


def open_and_read(path: Path) -> None:
    """Open a video; read a clip of it, then every frame."""
    video = open_video(path)
    video.frames(segment_indices(video.num_frames, 8))
    for _ in video.iter_frames():
        pass


def _child(path: Path, limit_mb: int, answer: Connection) -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    virtual = int(status["VmSize"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (virtual + limit_mb * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        open_and_read(path)
        what, words = "frames", ""
    except VideoError as error:
        what, words = ("error" if "\n" not in str(error) else "other"), str(error)
    except MemoryError as error:
        what, words = "memory", repr(error)
    except BaseException as error:
        what, words = "other", repr(error)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.send((what, words, (after - before) / 1024))


def attempt(name: str, content: bytes, folder: Path) -> Outcome:
    """Open one file in a process of its own."""
    path = folder / name
    if path.suffix in IMAGE_SUFFIXES:  # an image is a frame of a folder
        path.mkdir()
        (path / f"00001{path.suffix}").write_bytes(content)
    else:
        path.write_bytes(content)
    heard, answer = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")  # libraries are loaded once, for all
    process = context.Process(target=_child, args=(path, MEMORY_LIMIT_MB, answer))
    began = time.perf_counter()
    process.start()
    answer.close()
    try:
        if heard.poll(TIME_LIMIT_SECONDS):
            what, words, memory = heard.recv()
        else:
            what, words, memory = "hang", f"no end in {TIME_LIMIT_SECONDS} s", 0.0
    except EOFError:
        process.join()
        what, words, memory = "crash", f"ended with {process.exitcode}", 0.0
    process.kill()
    process.join()
    return Outcome(name, what, words, time.perf_counter() - began, memory)


def run(sources: list[Path], number: int, *, seed: int, keep: Path | None = None) -> list[Outcome]:
    """Open so many damaged files; keep those that did worse than an error."""
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files_of(sources, number, seed=seed):
            outcome = attempt(name, content, Path(folder))
            outcomes.append(outcome)
            if outcome.what not in GOOD and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / name).write_bytes(content)
    return outcomes


def main() -> int:
    """Damage, open, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, help="folder of further files to damage")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that did worse")
    args = parser.parse_args()
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(Path(folder))
        sources += sorted(args.videos.iterdir()) if args.videos else []
        outcomes = run(sources, args.files, seed=args.seed, keep=args.keep)
    print(f"{len(outcomes)} files of {len(sources)} sources, seed {args.seed}:")
    for what, count in Counter(outcome.what for outcome in outcomes).most_common():
        print(f"  {what:<8} {count}")
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    hungriest = max(outcomes, key=lambda outcome: outcome.memory_mb)
    print(f"slowest {slowest.seconds:.1f} s, {slowest.name}")
    print(f"most memory {hungriest.memory_mb:.0f} MB, {hungriest.name} ({hungriest.what})")
    bad = [outcome for outcome in outcomes if outcome.what not in GOOD]
    for outcome in bad:
        print(f"! {outcome.what} {outcome.name}: {outcome.words}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
