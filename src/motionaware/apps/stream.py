"""Predict the classes of a live video, frame by frame."""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from motionaware.clip import ClipSpec
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.video.live import LiveFrame, live_frames
from motionaware.deprecation import renamed_keyword
from motionaware.engine.scores import check_scores
from motionaware.errors import UsageError
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.streaming import Stream

MAX_LAG_SECONDS = 1.0  # a larger lag behind real time is logged, and frames are dropped if allowed


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The prediction after one frame.

    Attributes:
        frame: Number of the frame in its source, from 0.
        seconds: Time of the frame; None if the source has no timestamps.
        classes: Class names and probabilities, the most probable first.
        behind_seconds: Delay of this prediction behind real time, at least 0.
        num_dropped: Frames dropped so far because they were late.
        num_lost: Frames lost so far by the camera.
    """

    frame: int
    seconds: float | None
    classes: list[tuple[str, float]]
    behind_seconds: float
    num_dropped: int
    num_lost: int


@renamed_keyword("tell", "log")
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
    """Yield the predicted classes after each processed frame.

    Args:
        model: A causal recognizer, or the path of its checkpoint.
        source: A video file, a folder of frames, a camera (`0`, `/dev/video0`), or `-` for
            standard input.
        fps: Frames per second to process. None processes every frame; for a model with
            `clip.sampling: dense`, every `clip.frame_stride`-th frame.
        drop: Drop frames while the predictions are more than 1 s behind real time.
        top_k: Number of classes to return.
        log: Called with messages on dropped frames, lag and the totals.
        clock: Returns the current time in seconds.

    Raises:
        VideoError: The source cannot be read.
        NonFiniteScores: The model's scores are infinite or NaN.
        UsageError: A number is out of range, or the model is not causal.
        FileNotFoundError: The checkpoint does not exist.
    """
    if top_k < 1:
        raise UsageError(f"{top_k = }; wanted at least 1 class")
    if fps is not None and not 0 < fps < math.inf:
        raise UsageError(f"{fps = }; wanted frames per second, above 0 and finite")
    if not isinstance(model, VideoRecognizer):
        model = load(model)
    monitor = _Monitor(log or (lambda _: None), clock)
    return _moments(model, Stream(model), source, fps=fps, drop=drop, top_k=top_k, monitor=monitor)


def _moments(
    model: VideoRecognizer,
    state: Stream,
    source: str | Path,
    *,
    fps: float | int | None,
    drop: bool,
    top_k: int,
    monitor: "_Monitor",
) -> Generator[Moment, None, None]:
    selector = _FrameSelector(model.clip, fps)
    try:
        square = model.clip.square_pixels
        for frame in live_frames(source, square_pixels=square, note=monitor.log):
            monitor.receive(frame)
            if not selector.selects(frame):
                continue
            if drop and monitor.lag_seconds(frame) > MAX_LAG_SECONDS:
                monitor.drop(frame)
                continue
            picture = crop_for_testing(frame.image[None], spec=model.clip)
            scores = state.push(picture)
            check_scores(scores, model, [f"{source}, {_name(frame)}"])
            (row,) = scores.softmax(dim=-1)
            values, places = row.topk(min(top_k, len(row)))
            names = [model.class_names[place] for place in places.tolist()]
            yield Moment(
                frame=frame.number,
                seconds=frame.seconds,
                classes=list(zip(names, values.tolist(), strict=True)),
                behind_seconds=monitor.finish(frame),
                num_dropped=monitor.num_dropped,
                num_lost=monitor.num_lost,
            )
    finally:  # also after an error, or if the caller stops early
        monitor.log_totals()


@dataclass
class _FrameSelector:
    """Selects the frames to process."""

    clip: ClipSpec
    fps: float | int | None
    next_seconds: float = 0.0

    def selects(self, frame: LiveFrame) -> bool:
        if self.fps is None:
            stride = self.clip.frame_stride if self.clip.sampling == "dense" else 1
            return frame.number % stride == 0
        if frame.seconds is None:
            raise UsageError(
                f"fps = {self.fps} needs timestamps, but the frames have none; leave fps out to "
                "process every frame"
            )
        if frame.seconds < self.next_seconds - 1e-6:
            return False
        self.next_seconds = (int((frame.seconds + 1e-6) * self.fps) + 1) / self.fps
        return True


@dataclass
class _Monitor:
    """Counts frames, and measures the lag behind real time."""

    log: Callable[[str], None]
    clock: Callable[[], float]
    start: float | None = None
    last_seconds: float = 0.0
    num_frames: int = 0
    num_processed: int = 0
    num_dropped: int = 0
    num_lost: int = 0
    logged_lag_seconds: float = field(default=MAX_LAG_SECONDS / 2)

    def receive(self, frame: LiveFrame) -> None:
        """Count a frame, and log frames that the camera lost before it."""
        self.start = self.clock() if self.start is None else self.start
        self.last_seconds = frame.seconds or 0.0
        self.num_frames += 1
        if frame.num_lost:
            self.num_lost += frame.num_lost
            self.log(f"{_name(frame)}: the camera lost {frame.num_lost} frames before this one")

    def lag_seconds(self, frame: LiveFrame) -> float:
        if frame.seconds is None or self.start is None:
            return 0.0
        return max(0.0, self.clock() - self.start - frame.seconds)

    def finish(self, frame: LiveFrame) -> float:
        """Count a processed frame; log the lag if it has doubled, and return it in seconds."""
        self.num_processed += 1
        lag = self.lag_seconds(frame)
        if lag >= 2 * self.logged_lag_seconds:  # at 1 s, 2 s, 4 s, ...: not for every frame
            self.logged_lag_seconds = lag
            self.log(
                f"{_name(frame)}: {lag:.1f} s behind real time; process fewer frames per second "
                "(fps), or drop late frames (drop)"
            )
        return lag

    def drop(self, frame: LiveFrame) -> None:
        """Count a dropped frame, and log it with decreasing frequency."""
        self.num_dropped += 1
        if self.num_dropped.bit_count() == 1:  # the 1st, 2nd, 4th, ...
            self.log(f"{_name(frame)}: late, dropped; {self.num_dropped} dropped so far")

    def log_totals(self) -> None:
        if self.start is None:
            return
        num_unselected = self.num_frames - self.num_processed - self.num_dropped
        self.log(
            f"{self.num_frames} frames, {self.last_seconds:.1f} s, in "
            f"{self.clock() - self.start:.1f} s; {self.num_processed} processed, {num_unselected} "
            f"not selected, {self.num_dropped} dropped because they were late, {self.num_lost} "
            "lost by the camera"
        )


def _name(frame: LiveFrame) -> str:
    return f"frame {frame.number}" + ("" if frame.seconds is None else f" ({frame.seconds:.2f} s)")
