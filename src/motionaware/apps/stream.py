"""Stream: name what happens in a video while it comes, frame by frame."""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from motionaware.clip import ClipSpec
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.video.live import LiveFrame, live_frames
from motionaware.engine.scores import check_scores
from motionaware.errors import UsageError
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.streaming import Stream

BEHIND_SECONDS = 1.0  # so far behind real time is said; dropping, where asked for, begins there


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a model sees up to one frame.

    Attributes:
        frame: Number of the frame in its source, from 0.
        seconds: When it is shown; None where the source has no clock.
        classes: With their probabilities, the likeliest first.
        behind_seconds: How much later than in real time the answer came, or 0.
        num_dropped: Frames so far that were not looked at because they came late.
        num_lost: Frames so far that the camera did not deliver.
    """

    frame: int
    seconds: float | None
    classes: list[tuple[str, float]]
    behind_seconds: float
    num_dropped: int
    num_lost: int


def stream(
    model: VideoRecognizer | str | Path,
    source: str | Path,
    *,
    fps: float | int | None = None,
    drop: bool = False,
    top_k: int = 1,
    log: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Moment, None, None]:
    """Name what happens after each frame that is looked at.

    Args:
        model: A causal recognizer, or the path of its checkpoint.
        source: A file, a folder of frames, a camera (`0`, `/dev/video0`), or `-` for the standard
            input.
        fps: Frames a second to look at; None looks at every frame, or, of a model that was trained
            on dense clips, at every frame `clip.frame_stride` apart.
        drop: Leave frames out where the answers fall more than a second behind real time.
        top_k: Classes to name.
        log: Takes lines about how it goes: frames left out, real time.
        clock: Seconds that pass.

    Raises:
        VideoError: The source cannot be read.
        NonFiniteScores: The model's scores are infinite or NaN.
        ValueError: A number is out of range, or the model is not causal.
        FileNotFoundError: The checkpoint does not exist.
    """
    if top_k < 1:
        raise UsageError(f"{top_k = }; name at least 1 class")
    if fps is not None and not 0 < fps < math.inf:
        raise UsageError(f"{fps = }; it counts frames a second and lies above 0")
    if not isinstance(model, VideoRecognizer):
        model = load(model)
    run = _Run(log or (lambda _: None), clock)
    return _moments(model, Stream(model), source, fps=fps, drop=drop, top_k=top_k, run=run)


def _moments(
    model: VideoRecognizer,
    seen: Stream,
    source: str | Path,
    *,
    fps: float | int | None,
    drop: bool,
    top_k: int,
    run: "_Run",
) -> Generator[Moment, None, None]:
    chosen = _Chooser(model.clip, fps)
    try:
        square = model.clip.square_pixels
        for frame in live_frames(source, square_pixels=square, note=run.log):
            run.meet(frame)
            if not chosen.takes(frame):
                continue
            if drop and run.behind_seconds(frame) > BEHIND_SECONDS:
                run.drop(frame)
                continue
            picture = crop_for_testing(frame.image[None], spec=model.clip)
            scores = seen.push(picture)
            check_scores(scores, model, [f"{source}, {_at(frame)}"])
            (row,) = scores.softmax(dim=-1)
            values, places = row.topk(min(top_k, len(row)))
            names = [model.class_names[place] for place in places.tolist()]
            yield Moment(
                frame=frame.number,
                seconds=frame.seconds,
                classes=list(zip(names, values.tolist(), strict=True)),
                behind_seconds=run.answer(frame),
                num_dropped=run.num_dropped,
                num_lost=run.num_lost,
            )
    finally:  # also where the source breaks off, or who asked goes away
        run.sum_up()


@dataclass
class _Chooser:
    """Which frames are looked at."""

    clip: ClipSpec
    fps: float | int | None
    due_seconds: float = 0.0

    def takes(self, frame: LiveFrame) -> bool:
        if self.fps is None:
            stride = self.clip.frame_stride if self.clip.sampling == "dense" else 1
            return frame.number % stride == 0
        if frame.seconds is None:
            raise UsageError(
                f"fps = {self.fps}, but the frames have no times; leave fps out to look at every "
                "frame"
            )
        if frame.seconds < self.due_seconds - 1e-6:
            return False
        self.due_seconds = (int((frame.seconds + 1e-6) * self.fps) + 1) / self.fps
        return True


@dataclass
class _Run:
    """Counts frames, and holds the time that passes against that of the source."""

    log: Callable[[str], None]
    clock: Callable[[], float]
    start: float | None = None
    last_seconds: float = 0.0
    num_frames: int = 0
    num_looked: int = 0
    num_dropped: int = 0
    num_lost: int = 0
    said_seconds: float = field(default=BEHIND_SECONDS / 2)

    def meet(self, frame: LiveFrame) -> None:
        self.start = self.clock() if self.start is None else self.start
        self.last_seconds = frame.seconds or 0.0
        self.num_frames += 1
        if frame.num_lost:
            self.num_lost += frame.num_lost
            self.log(f"{_at(frame)}: the camera lost {frame.num_lost} frames before this one")

    def behind_seconds(self, frame: LiveFrame) -> float:
        if frame.seconds is None or self.start is None:
            return 0.0
        return max(0.0, self.clock() - self.start - frame.seconds)

    def answer(self, frame: LiveFrame) -> float:
        self.num_looked += 1
        behind = self.behind_seconds(frame)
        if behind >= 2 * self.said_seconds:  # at 1 s, 2 s, 4 s, ...: not with every frame
            self.said_seconds = behind
            self.log(
                f"{_at(frame)}: {behind:.1f} s behind real time; look at fewer frames a second "
                "(fps), or let late frames be dropped (drop)"
            )
        return behind

    def drop(self, frame: LiveFrame) -> None:
        self.num_dropped += 1
        if self.num_dropped.bit_count() == 1:  # the 1st, 2nd, 4th, ...
            self.log(f"{_at(frame)}: late, not looked at; {self.num_dropped} dropped so far")

    def sum_up(self) -> None:
        if self.start is None:
            return
        rest = self.num_frames - self.num_looked - self.num_dropped
        self.log(
            f"{self.num_frames} frames, {self.last_seconds:.1f} s, in "
            f"{self.clock() - self.start:.1f} s; looked at {self.num_looked}, {rest} lay between "
            f"those asked for, {self.num_dropped} dropped because they were late, {self.num_lost} "
            "lost by the camera"
        )


def _at(frame: LiveFrame) -> str:
    return f"frame {frame.number}" + ("" if frame.seconds is None else f" ({frame.seconds:.2f} s)")
