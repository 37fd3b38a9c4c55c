"""MotionPairs: a synthetic data set whose classes differ only in the order of the frames.

    clip(partner(label), seed)[j] = clip(label, seed)[t - 1 - j]      bit for bit

Textured shapes move over a drifting textured background. The twelve classes form six pairs of
partners. Clips of even labels are drawn; clips of odd labels are the same frames in reverse order.
A model that ignores the order of frames gives the same answer for both partners, so its accuracy is
at most 50 % on any set that holds both, as each 12 consecutive examples do.

Drawing   Lengths are fractions of the frame and time runs over [0, 1], so a clip looks the same at
every size and length. The background is value noise around one colour; it drifts along a straight
line in a random direction. A shape is a disc deformed by a second and a third harmonic, so that no
rotation maps it onto itself; its two halves and its stripes move with it. Edges are soft, so motion
of less than a pixel is visible.

Not informative   Colours, textures, outlines, positions, sizes, speeds and drifts are drawn
independently of the direction. Every speed is constant (for sizes: the ratio per unit of time).
Positions and sizes vary widely compared with the distance travelled, so one frame says little about
the direction, except for appearing and meeting.

Source   our own design, nothing recorded: a motion module can be tested in minutes, offline.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from numpy.random import PCG64, Generator
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from motionaware.errors import MotionAwareWarning, UsageError
from motionaware.files import atomic_file

DATA_VERSION = 1  # part of a cache file's name; raise it with any change to the numbers of a clip
SPLITS = ("train", "val", "test")  # the position is part of a clip's seed: splits differ

_Time = Float32[np.ndarray, " t"]
_Colour = Float64[np.ndarray, "3"]


class _Trajectory(NamedTuple):
    """Position and size of a shape over time: arrays `t` or constants; the frame is 1 long."""

    x: Any  # to the right
    y: Any  # downwards
    radius: Any
    angle: Any  # radians, clockwise
    opacity: Any = 1.0


def _move_left(rng: Generator, time: _Time) -> list[_Trajectory]:
    x = rng.uniform(0.12, 0.88) + rng.uniform(0.28, 0.44) * (0.5 - time)
    y, radius, angle = rng.uniform(0.2, 0.8), rng.uniform(0.12, 0.18), rng.uniform(0, math.tau)
    return [_Trajectory(x, y, radius, angle)]


def _move_up(rng: Generator, time: _Time) -> list[_Trajectory]:
    return [
        trajectory._replace(x=trajectory.y, y=trajectory.x) for trajectory in _move_left(rng, time)
    ]


def _approach(rng: Generator, time: _Time) -> list[_Trajectory]:
    radius = math.exp(rng.uniform(math.log(0.1), math.log(0.27)))
    radius = radius * rng.uniform(1.6, 2.1) ** (time - 0.5)
    x, y, angle = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65), rng.uniform(0, math.tau)
    return [_Trajectory(x, y, radius, angle)]


def _turn_clockwise(rng: Generator, time: _Time) -> list[_Trajectory]:
    angle = rng.uniform(0, math.tau) + math.radians(rng.uniform(60, 150)) * time
    x, y, radius = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65), rng.uniform(0.2, 0.3)
    return [_Trajectory(x, y, radius, angle)]


def _appear(rng: Generator, time: _Time) -> list[_Trajectory]:
    begin, end = rng.uniform(0.0, 0.3), rng.uniform(0.7, 1.0)
    x, y, angle = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0, math.tau)
    opacity = np.clip((time - begin) / (end - begin), 0, 1)
    return [_Trajectory(x, y, rng.uniform(0.14, 0.24), angle, opacity)]


def _meet(rng: Generator, time: _Time) -> list[_Trajectory]:
    x, y, direction = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0, math.tau)
    distance = rng.uniform(0.26, 0.62) + rng.uniform(0.24, 0.34) * (0.5 - time)
    dx, dy = distance * (math.cos(direction) / 2), distance * (math.sin(direction) / 2)
    shapes = zip((-1, 1), rng.uniform(0.1, 0.14, 2), rng.uniform(0, math.tau, 2), strict=True)
    return [_Trajectory(x + side * dx, y + side * dy, *size) for side, *size in shapes]


# Function that draws the trajectory, class name, and class name when played backwards.
_PAIRS = (
    (_move_left, "moving left", "moving right"),
    (_move_up, "moving up", "moving down"),
    (_approach, "approaching", "receding"),
    (_turn_clockwise, "turning clockwise", "turning anticlockwise"),
    (_appear, "appearing", "vanishing"),
    (_meet, "meeting", "parting"),
)

CLASS_NAMES: tuple[str, ...] = tuple(name for _, *names in _PAIRS for name in names)
"""Class names by label; labels `2 * p` and `2 * p + 1` are partners."""


def partner(label: int) -> int:
    """Return the label whose clips are those of `label` played backwards.

    Raises:
        UsageError: There is no such label.
    """
    if not 0 <= label < len(CLASS_NAMES):
        raise UsageError(f"{label = } is not a class; labels are 0 to {len(CLASS_NAMES) - 1}")
    return label ^ 1


def render_clip(
    label: int, *, seed: int | Sequence[int], num_frames: int, image_size: int
) -> UInt8[Tensor, "t 3 h w"]:
    """Draw one clip, RGB in [0, 255]; a pure function of its arguments.

    Reversed in time, it is the clip of the partner label with the same seed.

    Args:
        label: Position in `CLASS_NAMES`.
        seed: One or several integers in [0, 2**32).
        num_frames: At least 2; frame `j` shows the time `j / (num_frames - 1)` in [0, 1].
        image_size: Height and width in pixels, at least 16.

    Raises:
        UsageError: An argument is outside its range.
    """
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    _check(seeds=seeds, num_frames=num_frames, image_size=image_size)
    drawn = min(label, partner(label))
    # The number of seeds is included because numpy treats (1,) and (1, 0) as equal.
    rng = Generator(PCG64([drawn // 2, len(seeds), *seeds]))
    time = np.linspace(0, 1, num_frames, dtype=np.float32)
    colour = rng.uniform(0.2, 0.8, 3)
    clip = _background(rng, colour, time=time, image_size=image_size)
    for trajectory in _PAIRS[drawn // 2][0](rng, time):
        _paint_shape(clip, rng, trajectory, background=colour)
    pixels = (np.clip(clip, 0, 1) * 255 + 0.5).astype(np.uint8)
    return torch.from_numpy(pixels if label == drawn else pixels[::-1].copy())


def _check(*, seeds: Sequence[int], num_frames: int, image_size: int) -> None:
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise UsageError(f"seed {seeds} is out of range; take integers in [0, 2**32)")
    if num_frames < 2:
        raise UsageError(f"{num_frames = } shows no motion; take at least 2")
    if image_size < 16:
        raise UsageError(f"{image_size = } is too small to see the shapes; take at least 16 pixels")


def _background(
    rng: Generator, colour: _Colour, *, time: _Time, image_size: int
) -> Float32[np.ndarray, "t 3 h w"]:
    """Draw value noise around `colour`, with the frame drifting over it at constant speed."""
    direction, length = rng.uniform(0, math.tau), rng.uniform(0.05, 0.19) * image_size
    margin = math.ceil(0.2 * image_size)  # room for the drift
    side = image_size + margin + 1  # one more pixel for the interpolation
    canvas = np.full((3, side, side), colour[:, None, None], np.float32)
    for cells, amplitude in ((4, 0.14), (11, 0.1)):
        # Twice the cells of a frame cover any canvas: the number of draws must not depend on its
        # size in pixels.
        knots = rng.uniform(-amplitude, amplitude, (3, 2 * cells, 2 * cells)).astype(np.float32)
        place = np.arange(side, dtype=np.float32) * (cells / image_size)
        low = place.astype(np.intp)
        weight = (place - low) ** 2 * (3 - 2 * (place - low))  # smoothstep: no creases at the knots
        rows = knots[:, low] + weight[:, None] * (knots[:, low + 1] - knots[:, low])
        canvas += rows[..., low] + weight * (rows[..., low + 1] - rows[..., low])
    frames = np.empty((len(time), 3, image_size, image_size), np.float32)
    for frame, moment in zip(frames, time.tolist(), strict=True):
        top, down = divmod(margin / 2 + (moment - 0.5) * length * math.sin(direction), 1)
        left, right = divmod(margin / 2 + (moment - 0.5) * length * math.cos(direction), 1)
        part = canvas[:, int(top) :, int(left) :][:, : image_size + 1, : image_size + 1]
        rows = part[:, :-1] + down * (part[:, 1:] - part[:, :-1])
        frame[:] = rows[..., :-1] + right * (rows[..., 1:] - rows[..., :-1])
    return frames


def _paint_shape(
    clip: Float32[np.ndarray, "t 3 h w"],
    rng: Generator,
    trajectory: _Trajectory,
    *,
    background: _Colour,
) -> None:
    """Draw one shape onto the clip, in place."""
    bend2, bend3 = rng.uniform(0.2, 0.28), rng.uniform(0.1, 0.2)
    phase2, phase3, stripe = rng.uniform(0, math.tau, 3).tolist()
    border, stripes, shift = rng.uniform(-0.2, 0.2), rng.uniform(1.0, 1.8), rng.uniform(0, 1)
    # Each channel differs from the background by more than a third of its range; the halves differ.
    halves = (background + rng.uniform(((0.35,), (0.53,)), ((0.47,), (0.65,)), (2, 3))) % 1.0
    left, right = halves.astype(np.float32)[:, None, :, None, None]
    num_frames, _, _, size = clip.shape
    curves = (np.broadcast_to(np.asarray(c, np.float32), num_frames) for c in trajectory)
    x0, y0, radius, angle, opacity = (curve[:, None, None] for curve in curves)
    pixel = (np.arange(size, dtype=np.float32) + 0.5) / size
    dx, dy = (pixel - x0) / radius, (pixel[:, None] - y0) / radius
    # Axes of the shape, in units of its radius: its texture moves, turns and grows with it.
    x, y = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    squared = x * x + y * y + 1e-6  # squared distance; never zero
    distance = np.sqrt(squared)
    # Cosine and sine of two and three times the polar angle, without computing the angle.
    cos2, sin2 = (x * x - y * y) / squared, 2 * x * y / squared
    cos3, sin3 = (x * cos2 - y * sin2) / distance, (x * sin2 + y * cos2) / distance
    outline = 1 + bend2 * (math.cos(phase2) * cos2 + math.sin(phase2) * sin2)
    outline += bend3 * (math.cos(phase3) * cos3 + math.sin(phase3) * sin3)
    sharpness = radius * (size / 1.5)  # 1 / width of a soft edge, which is 1.5 pixels
    alpha = np.clip(0.5 + (outline - distance) * sharpness, 0, 1) * opacity
    along = stripes * (math.cos(stripe) * x + math.sin(stripe) * y) + shift
    wave = np.abs(along - np.floor(along) - 0.5) * 2
    mix = 0.75 * np.clip(0.5 + (x - border) * sharpness, 0, 1) + 0.25 * wave
    clip += alpha[:, None] * (left + mix[:, None] * (right - left) - clip)


class MotionPairs(Dataset[tuple[Tensor, int]]):
    """A map-style data set of clips (uint8 `t 3 h w`, RGB in [0, 255]) and their labels.

    Example `i` has the label `i % 12`. Partners among 12 consecutive examples share their seed, so
    a model that ignores the order of frames reaches at most 50 % on any multiple of 12 clips.

    Args:
        split: One of `SPLITS`.
        num_clips: At least 1; best a multiple of 12.
        num_frames, image_size: See `render_clip`.
        seed: Seed of the whole data set, in [0, 2**32).
        cache_dir: Folder for a file with all clips; created if missing. The file is drawn once and
            then memory-mapped. A file with other contents is drawn again, with a
            `MotionAwareWarning` that gives the reason. If None, each clip is drawn when it is read.
        progress: Show a bar on the error stream while the file is drawn.

    Raises:
        UsageError: An argument is outside its range.
        OSError: The file cannot be written.
    """

    class_names = CLASS_NAMES

    def __init__(
        self, *, split: str, num_clips: int, num_frames: int, image_size: int, seed: int = 0,
        cache_dir: Path | None = None, progress: bool = False,
    ) -> None:  # fmt: skip
        if split not in SPLITS:
            raise UsageError(f"{split = } is not a split; take one of {', '.join(SPLITS)}")
        if num_clips < 1:
            raise UsageError(f"{num_clips = } is too few; take at least 1, best a multiple of 12")
        _check(seeds=(seed,), num_frames=num_frames, image_size=image_size)
        self.split, self.seed = split, seed
        self.shape = (num_clips, num_frames, 3, image_size, image_size)
        self._path, self._clips = None, None
        if cache_dir is not None:
            size = f"{num_clips}clips-{num_frames}frames-{image_size}pixels"
            name = f"motionpairs-v{DATA_VERSION}-{split}-{size}-seed{seed}.npy"
            self._path = cache_dir.resolve() / name  # a worker may have another working directory
            if not self._path.exists() or not self._is_valid(self._path):
                self._write(self._path, progress=progress)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: SupportsIndex) -> tuple[UInt8[Tensor, "t 3 h w"], int]:
        i = range(len(self))[index]
        if self._path is None:
            return self._render(i), i % len(CLASS_NAMES)
        clips = self._clips = np.load(self._path, "r") if self._clips is None else self._clips
        return torch.from_numpy(np.array(clips[i])), i % len(CLASS_NAMES)

    def labels(self) -> list[int]:
        """Return the label of each clip."""
        return [i % len(CLASS_NAMES) for i in range(len(self))]

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with its contents; a worker opens the file itself.
        return self.__dict__ | {"_clips": None}

    def _render(self, i: int) -> UInt8[Tensor, "t 3 h w"]:
        group, label = divmod(i, len(CLASS_NAMES))
        seed = (self.seed, SPLITS.index(self.split), group)
        return render_clip(label, seed=seed, num_frames=self.shape[1], image_size=self.shape[-1])

    def _is_valid(self, path: Path) -> bool:
        """Return True if a file holds the clips of this data set; else warn with the reason."""
        try:
            clips = np.load(path, "r")
            if clips.shape != self.shape or clips.dtype != np.uint8:
                raise UsageError(
                    f"it holds {clips.dtype} {clips.shape}, wanted: uint8 {self.shape}"
                )
            # Rounding may differ by 1 between machines; more means that the drawing has changed.
            last = self._render(len(self) - 1).numpy().astype(np.int16)
            if np.abs(clips[-1] - last).max() > 1:
                raise UsageError("its last clip differs from the clip that this version draws")
        except (ValueError, EOFError) as error:
            warnings.warn(f"{path} is drawn again: {error}", MotionAwareWarning, stacklevel=3)
            return False
        return True

    def _write(self, path: Path, *, progress: bool) -> None:
        """Draw all clips into the file at `path`."""
        what = f"{math.prod(self.shape) / 1e6:.1f} MB of clips"
        remedy = "take another cache_dir, or None to draw each clip when it is read"
        # A write raises if the disk is full; a write through a memory map kills the process.
        with atomic_file(path, what=what, remedy=remedy) as part, part.open("xb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for i in tqdm(range(len(self)), f"drawing {self.split}", disable=not progress):
                file.write(self._render(i).numpy().tobytes())
