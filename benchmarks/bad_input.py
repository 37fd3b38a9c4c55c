"""Fuzz test of video input: opens thousands of damaged videos and images.

    python benchmarks/bad_input.py --videos ../shared/data/videos     # 2 000 files
    python benchmarks/bad_input.py --files 200 --seed 1

The script writes small source files (h264, hevc, mpeg4, vp9 in mp4, mkv, avi, webm, ts; jpeg, png)
and may take more from a folder. Each damaged file is a function of the seed and its number. The
damage is one of five kinds: a few bytes are changed; the file is truncated; its head is replaced by
the head of another file; a large number is written near its head; a block of it is overwritten,
doubled or removed. A child process with limits on time and memory opens the file, reads eight
frames and then all. Outcomes:

    frames    the file can still be read
    error     one VideoError with a message of one line
    other     any other exception: a bug of motionaware
    memory    the memory limit was exceeded: a bug of motionaware
    crash     a signal ended the process: a bug of a decoder
    hang      the time limit was exceeded

The exit status is 1 if one of the last four occurred; `--keep` stores those files.
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

EXPECTED = ("frames", "error")
TIME_LIMIT_SECONDS = 20.0
MEMORY_LIMIT_MB = 1024  # in addition to the memory of the process before it opens the file
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
    """Outcome of one file; `kind` is one of those listed at the top."""

    name: str
    kind: str
    message: str
    seconds: float
    memory_mb: float


def write_sources(folder: Path) -> list[Path]:
    """Write the source files: 24 frames of a moving pattern, 48 x 64 pixels; return their paths."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    frames = [np.ascontiguousarray(pattern[i : i + 48, i : i + 64]) for i in range(24)]
    for name, codec in CODECS.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=12)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width = 48, 64
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    for name in ("picture.jpg", "picture.png", "progressive.jpg"):
        options = {"progressive": True} if name.startswith("progressive") else {}
        Image.fromarray(frames[0]).save(folder / name, **options)
    return sorted(folder.iterdir())


def damage(source: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return a copy of `source` with one of five kinds of damage; `other` gives a foreign head."""
    content = bytearray(source)
    size = len(content)
    kind = int(rng.integers(5))
    if kind == 0:
        end = size if rng.random() < 0.5 else min(size, 2048)
        for offset in rng.integers(end, size=int(2 ** rng.integers(8))):
            content[offset] ^= int(rng.integers(1, 256))
    elif kind == 1:
        del content[int(rng.integers(1, size)) :]
    elif kind == 2:
        head_bytes = int(2 ** rng.integers(3, 11))
        content[:head_bytes] = other[:head_bytes]
    elif kind == 3:
        _write_large_number(content, rng)
    else:
        begin, end = sorted(int(offset) for offset in rng.integers(size, size=2))
        block = bytes(content[begin:end])
        content[begin:end] = [b"", block * 2, bytes(len(block)), rng.bytes(len(block))][
            int(rng.integers(4))
        ]
    return bytes(content)


def _write_large_number(content: bytearray, rng: np.random.Generator) -> None:
    """Overwrite a declared size if one is found, else a random offset near the head."""
    large = [b"\xff\xff", b"\x7f\xff", b"\x40\x00", b"\x20\x00"][int(rng.integers(4))]
    offsets = [content.find(mark) + skip for mark, skip in _SIZE_FIELDS if mark in content]
    if offsets and rng.random() < 0.7:
        offset = offsets[int(rng.integers(len(offsets)))]
        content[offset : offset + 2] = large
        if rng.random() < 0.5:
            content[offset + 2 : offset + 4] = large
        return
    offset = int(rng.integers(min(len(content), 1024)))
    repeated = large * int(rng.integers(1, 5))
    content[offset : offset + len(repeated)] = repeated


# A mark, and the distance from its start to a declared size.
_SIZE_FIELDS = (
    (b"\xff\xc0", 5),  # jpeg
    (b"\xff\xc2", 5),  # progressive jpeg
    (b"IHDR", 4),  # png
    (b"IHDR", 8),
    (b"avc1", 28),  # mp4
    (b"hev1", 28),
    (b"tkhd", 80),
    (b"stts", 8),  # number of entries
    (b"stsz", 12),
    (b"stsz", 8),
    (b"strf", 12),  # avi
    (b"avih", 40),
    (b"\xb0\x81", 2),  # matroska
)


def damaged_files(sources: list[Path], num_files: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each damaged file."""
    contents = [(path, path.read_bytes()) for path in sources if path.stat().st_size > 16]
    for number in range(num_files):
        rng = np.random.default_rng([seed, number])
        path, source = contents[number % len(contents)]
        other = contents[int(rng.integers(len(contents)))][1]
        yield f"{number:05d}_{path.name}", damage(source, other, rng)


def open_and_read(path: Path) -> None:
    """Open a video; read a clip of it, then all frames."""
    video = open_video(path)
    video.frames(segment_indices(video.num_frames, 8))
    for _ in video.iter_frames():
        pass


def _read_in_child(path: Path, limit_mb: int, result: Connection) -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    virtual_bytes = int(status["VmSize"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (virtual_bytes + limit_mb * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        open_and_read(path)
        kind, message = "frames", ""
    except VideoError as error:
        kind, message = ("error" if "\n" not in str(error) else "other"), str(error)
    except MemoryError as error:
        kind, message = "memory", repr(error)
    except BaseException as error:
        kind, message = "other", repr(error)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result.send((kind, message, (after - before) / 1024))


def attempt(name: str, content: bytes, folder: Path) -> Outcome:
    """Open one file in a child process and return what happened."""
    path = folder / name
    if path.suffix in IMAGE_SUFFIXES:  # an image is a frame of a folder
        path.mkdir()
        (path / f"00001{path.suffix}").write_bytes(content)
    else:
        path.write_bytes(content)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")  # the libraries are loaded already
    process = context.Process(target=_read_in_child, args=(path, MEMORY_LIMIT_MB, sender))
    start = time.perf_counter()
    process.start()
    sender.close()
    try:
        if receiver.poll(TIME_LIMIT_SECONDS):
            kind, message, memory_mb = receiver.recv()
        else:
            kind, message, memory_mb = "hang", f"no result after {TIME_LIMIT_SECONDS} s", 0.0
    except EOFError:
        process.join()
        kind, message, memory_mb = "crash", f"exit code {process.exitcode}", 0.0
    process.kill()
    process.join()
    return Outcome(name, kind, message, time.perf_counter() - start, memory_mb)


def run(
    sources: list[Path], num_files: int, *, seed: int, keep: Path | None = None
) -> list[Outcome]:
    """Open damaged files; store those with an unexpected outcome in `keep`."""
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for name, content in damaged_files(sources, num_files, seed=seed):
            outcome = attempt(name, content, Path(folder))
            outcomes.append(outcome)
            if outcome.kind not in EXPECTED and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / name).write_bytes(content)
    return outcomes


def main() -> int:
    """Run the fuzz test; print the number of files by outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, help="folder of further files to damage")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files with an unexpected outcome")
    args = parser.parse_args()
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(Path(folder))
        sources += sorted(args.videos.iterdir()) if args.videos else []
        outcomes = run(sources, args.files, seed=args.seed, keep=args.keep)
    print(f"{len(outcomes)} files of {len(sources)} sources, seed {args.seed}:")
    for kind, count in Counter(outcome.kind for outcome in outcomes).most_common():
        print(f"  {kind:<8} {count}")
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    largest = max(outcomes, key=lambda outcome: outcome.memory_mb)
    print(f"slowest {slowest.seconds:.1f} s, {slowest.name}")
    print(f"most memory {largest.memory_mb:.0f} MB, {largest.name} ({largest.kind})")
    unexpected = [outcome for outcome in outcomes if outcome.kind not in EXPECTED]
    for outcome in unexpected:
        print(f"! {outcome.kind} {outcome.name}: {outcome.message}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
