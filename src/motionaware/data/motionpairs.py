"""MotionPairs: the embedded data set; small moving things, told apart by motion alone.

    clip(partner(label), seed)[j] = clip(label, seed)[t - 1 - j]      bit for bit

Textured shapes move over a drifting textured ground. Twelve classes form six pairs, each class its
partner played backwards: clips of even labels are drawn, those of odd labels are the same frames in
reverse. Whoever ignores the order of frames answers the same for both partners, is wrong about one,
and so cannot pass 50 % of any set that holds both, as every dozen of examples does.

How a clip is drawn   Lengths are fractions of the frame and time runs over [0, 1], so a clip looks
alike at every size and length. The ground is value noise around one colour, seen along a straight
drift in any direction. A shape is a disc bent by a second and a third harmonic, so that no turn
maps it onto itself; its halves and stripes go with it. Soft edges show motion of less than a pixel.

What tells nothing   Colours, textures, outlines, places, sizes, speeds and drifts are drawn apart
from the direction, and every pace is even (of size: an even ratio). Places and sizes range widely
against the way travelled, so that one frame is a poor hint (but for appearing and meeting).

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
SPLITS = ("train", "val", "test")  # the position is part of the clips' seeds: none is shared

_Time = Float32[np.ndarray, " t"]
_Colour = Float64[np.ndarray, "3"]


class _Course(NamedTuple):
    """What a shape does in a clip: curves over time, or one number. Lengths in frames, y down."""

    x: Any
    y: Any
    radius: Any
    angle: Any  # radians, growing clockwise
    opacity: Any = 1.0


def _move_left(rng: Generator, time: _Time) -> list[_Course]:
    x = rng.uniform(0.12, 0.88) + rng.uniform(0.28, 0.44) * (0.5 - time)
    y, radius, angle = rng.uniform(0.2, 0.8), rng.uniform(0.12, 0.18), rng.uniform(0, math.tau)
    return [_Course(x, y, radius, angle)]


def _move_up(rng: Generator, time: _Time) -> list[_Course]:
    return [course._replace(x=course.y, y=course.x) for course in _move_left(rng, time)]


def _approach(rng: Generator, time: _Time) -> list[_Course]:
    radius = math.exp(rng.uniform(math.log(0.1), math.log(0.27)))
    radius = radius * rng.uniform(1.6, 2.1) ** (time - 0.5)
    x, y, angle = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65), rng.uniform(0, math.tau)
    return [_Course(x, y, radius, angle)]


def _turn_clockwise(rng: Generator, time: _Time) -> list[_Course]:
    angle = rng.uniform(0, math.tau) + math.radians(rng.uniform(60, 150)) * time
    x, y, radius = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65), rng.uniform(0.2, 0.3)
    return [_Course(x, y, radius, angle)]


def _appear(rng: Generator, time: _Time) -> list[_Course]:
    begin, end = rng.uniform(0.0, 0.3), rng.uniform(0.7, 1.0)
    x, y, angle = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0, math.tau)
    opacity = np.clip((time - begin) / (end - begin), 0, 1)
    return [_Course(x, y, rng.uniform(0.14, 0.24), angle, opacity)]


def _meet(rng: Generator, time: _Time) -> list[_Course]:
    x, y, way = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0, math.tau)
    apart = rng.uniform(0.26, 0.62) + rng.uniform(0.24, 0.34) * (0.5 - time)
    dx, dy = apart * (math.cos(way) / 2), apart * (math.sin(way) / 2)
    looks = zip((-1, 1), rng.uniform(0.1, 0.14, 2), rng.uniform(0, math.tau, 2), strict=True)
    return [_Course(x + side * dx, y + side * dy, *look) for side, *look in looks]


# What is drawn, its name, and its name when played backwards.
_PAIRS = (
    (_move_left, "moving left", "moving right"),
    (_move_up, "moving up", "moving down"),
    (_approach, "approaching", "receding"),
    (_turn_clockwise, "turning clockwise", "turning anticlockwise"),
    (_appear, "appearing", "vanishing"),
    (_meet, "meeting", "parting"),
)

CLASS_NAMES: tuple[str, ...] = tuple(name for _, *names in _PAIRS for name in names)
"""The class names by label; `2 * p` and `2 * p + 1` are partners."""


def partner(label: int) -> int:
    """The label whose clips are those of `label` played backwards; `ValueError` if none has it."""
    if not 0 <= label < len(CLASS_NAMES):
        raise UsageError(f"{label = } is no class; labels run from 0 to {len(CLASS_NAMES) - 1}")
    return label ^ 1


def render_clip(
    label: int, *, seed: int | Sequence[int], num_frames: int, image_size: int
) -> UInt8[Tensor, "t 3 h w"]:
    """Draw one clip, RGB in [0, 255]; reversed in time it is that of the partner with this seed.

    Args:
        label: Position in `CLASS_NAMES`.
        seed: One or several integers in [0, 2**32); no other chance, nor the process, has a part.
        num_frames: At least 2; frame `j` shows the moment `j / (num_frames - 1)` of [0, 1].
        image_size: Height and width in pixels, at least 16.

    Raises:
        ValueError: An argument is outside its range.
    """
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    _check(seeds=seeds, num_frames=num_frames, image_size=image_size)
    drawn = min(label, partner(label))
    # The count of seeds goes in because numpy takes (1,) and (1, 0) for the same.
    rng = Generator(PCG64([drawn // 2, len(seeds), *seeds]))
    time = np.linspace(0, 1, num_frames, dtype=np.float32)
    colour = rng.uniform(0.2, 0.8, 3)
    clip = _ground(rng, colour, time=time, image_size=image_size)
    for course in _PAIRS[drawn // 2][0](rng, time):
        _paint_shape(clip, rng, course, ground=colour)
    pixels = (np.clip(clip, 0, 1) * 255 + 0.5).astype(np.uint8)
    return torch.from_numpy(pixels if label == drawn else pixels[::-1].copy())


def _check(*, seeds: Sequence[int], num_frames: int, image_size: int) -> None:
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise UsageError(f"seed {seeds} is out of range; take integers in [0, 2**32)")
    if num_frames < 2:
        raise UsageError(f"{num_frames = } shows no motion; take at least 2")
    if image_size < 16:
        raise UsageError(f"{image_size = } is too small to see the shapes; take at least 16 pixels")


def _ground(
    rng: Generator, colour: _Colour, *, time: _Time, image_size: int
) -> Float32[np.ndarray, "t 3 h w"]:
    """Noise around `colour`, seen by a frame that drifts over it at an even pace."""
    direction, length = rng.uniform(0, math.tau), rng.uniform(0.05, 0.19) * image_size
    margin = math.ceil(0.2 * image_size)  # the room to drift
    side = image_size + margin + 1  # one more to interpolate
    canvas = np.full((3, side, side), colour[:, None, None], np.float32)
    for cells, amplitude in ((4, 0.14), (11, 0.1)):
        # Twice the cells of a frame reach over any canvas; the draws may not depend on pixels.
        knots = rng.uniform(-amplitude, amplitude, (3, 2 * cells, 2 * cells)).astype(np.float32)
        place = np.arange(side, dtype=np.float32) * (cells / image_size)
        low = place.astype(np.intp)
        weight = (place - low) ** 2 * (3 - 2 * (place - low))  # eased: no creases at the knots
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
    clip: Float32[np.ndarray, "t 3 h w"], rng: Generator, course: _Course, *, ground: _Colour
) -> None:
    """Draw one shape over the clip, in place."""
    bend2, bend3 = rng.uniform(0.2, 0.28), rng.uniform(0.1, 0.2)
    phase2, phase3, stripe = rng.uniform(0, math.tau, 3).tolist()
    border, stripes, shift = rng.uniform(-0.2, 0.2), rng.uniform(1.0, 1.8), rng.uniform(0, 1)
    # A third of the scale or more from the ground's colour in each channel, unlike each other.
    halves = (ground + rng.uniform(((0.35,), (0.53,)), ((0.47,), (0.65,)), (2, 3))) % 1.0
    one, other = halves.astype(np.float32)[:, None, :, None, None]
    num_frames, _, _, size = clip.shape
    curves = (np.broadcast_to(np.asarray(c, np.float32), num_frames) for c in course)
    x0, y0, radius, angle, opacity = (curve[:, None, None] for curve in curves)
    pixel = (np.arange(size, dtype=np.float32) + 0.5) / size
    dx, dy = (pixel - x0) / radius, (pixel[:, None] - y0) / radius
    # The shape's own axes, its radius the unit: what they draw moves, turns and grows with it.
    x, y = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    squared = x * x + y * y + 1e-6  # of the distance; never zero
    distance = np.sqrt(squared)
    # Cosine and sine of twice and three times the polar angle, without the angle.
    cos2, sin2 = (x * x - y * y) / squared, 2 * x * y / squared
    cos3, sin3 = (x * cos2 - y * sin2) / distance, (x * sin2 + y * cos2) / distance
    outline = 1 + bend2 * (math.cos(phase2) * cos2 + math.sin(phase2) * sin2)
    outline += bend3 * (math.cos(phase3) * cos3 + math.sin(phase3) * sin3)
    sharpness = radius * (size / 1.5)  # one over the width of a soft edge, 1.5 pixels
    alpha = np.clip(0.5 + (outline - distance) * sharpness, 0, 1) * opacity
    along = stripes * (math.cos(stripe) * x + math.sin(stripe) * y) + shift
    wave = np.abs(along - np.floor(along) - 0.5) * 2
    mix = 0.75 * np.clip(0.5 + (x - border) * sharpness, 0, 1) + 0.25 * wave
    clip += alpha[:, None] * (one + mix[:, None] * (other - one) - clip)


class MotionPairs(Dataset[tuple[Tensor, int]]):
    """A map-style data set of clips (uint8 `t 3 h w`, RGB in [0, 255]) and their labels.

    Example `i` has the label `i % 12`, and partners of one dozen share their seed: blind to order,
    exactly 50 % is the most that can be reached on whole dozens.

    Args:
        split: One of `SPLITS`.
        num_clips: At least 1.
        num_frames, image_size: As for `render_clip`.
        seed: Of the whole data set, in [0, 2**32).
        cache_dir: Folder (made if missing) for a file of all clips, drawn at the first construction
            and mapped into memory from then on; None draws every clip when it is asked for. A file
            that is not the one wanted is drawn anew, with a warning that says why.
        progress: Show a bar on the error stream while the file is drawn.

    Raises:
        ValueError: An argument is outside its range.
        OSError: The file cannot be written.
    """

    class_names = CLASS_NAMES

    def __init__(
        self, *, split: str, num_clips: int, num_frames: int, image_size: int, seed: int = 0,
        cache_dir: Path | None = None, progress: bool = False,
    ) -> None:  # fmt: skip
        if split not in SPLITS:
            raise UsageError(f"{split = } is no split; take one of {', '.join(SPLITS)}")
        if num_clips < 1:
            raise UsageError(f"{num_clips = } is too few; take at least 1, best whole dozens")
        _check(seeds=(seed,), num_frames=num_frames, image_size=image_size)
        self.split, self.seed = split, seed
        self.shape = (num_clips, num_frames, 3, image_size, image_size)
        self._path, self._clips = None, None
        if cache_dir is not None:
            size = f"{num_clips}clips-{num_frames}frames-{image_size}pixels"
            name = f"motionpairs-v{DATA_VERSION}-{split}-{size}-seed{seed}.npy"
            self._path = cache_dir.resolve() / name  # a worker may stand in another folder
            if not self._path.exists() or not self._holds_our_clips(self._path):
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
        """The label of each clip."""
        return [i % len(CLASS_NAMES) for i in range(len(self))]

    def __getstate__(self) -> dict[str, Any]:
        # A memory map is pickled with all its numbers; a worker opens the file itself.
        return self.__dict__ | {"_clips": None}

    def _render(self, i: int) -> UInt8[Tensor, "t 3 h w"]:
        dozen, label = divmod(i, len(CLASS_NAMES))
        seed = (self.seed, SPLITS.index(self.split), dozen)
        return render_clip(label, seed=seed, num_frames=self.shape[1], image_size=self.shape[-1])

    def _holds_our_clips(self, path: Path) -> bool:
        try:
            clips = np.load(path, "r")
            if clips.shape != self.shape or clips.dtype != np.uint8:
                raise UsageError(f"it holds {clips.dtype} {clips.shape}, wanted: {self.shape}")
            # Machines may differ in rounding, by 1; beyond, the file is of another drawing.
            last = self._render(len(self) - 1).numpy().astype(np.int16)
            if np.abs(clips[-1] - last).max() > 1:
                raise UsageError("its last clip differs from what is drawn today")
        except (ValueError, EOFError) as error:
            warnings.warn(f"{path} is drawn again: {error}", MotionAwareWarning, stacklevel=3)
            return False
        return True

    def _write(self, path: Path, *, progress: bool) -> None:
        """Draw all clips into the file at `path`."""
        what = f"{math.prod(self.shape) / 1e6:.1f} MB of clips"
        remedy = "take another cache_dir, or None to draw clips when asked for"
        # Plain writes raise when the disk is full; through a memory map they kill the process.
        with atomic_file(path, what=what, remedy=remedy) as part, part.open("xb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for i in tqdm(range(len(self)), f"drawing {self.split}", disable=not progress):
                file.write(self._render(i).numpy().tobytes())
