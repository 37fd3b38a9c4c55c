"""Chooses the indices of the video frames that form a clip.

    segments    floor((i + u_i) n / t)      one frame of each of t equal parts of the video
    dense       start + i stride            t neighbours, `stride` frames apart

With a generator the frames are random (training). Without one they are a function of the view
(validation, test).

Source   segments: Wang et al., Temporal Segment Networks, 2016, https://arxiv.org/abs/1608.00859
         dense: Wang et al., Non-local Neural Networks, 2018, https://arxiv.org/abs/1711.07971
Changed  segments: the usual code rounds the length of a segment down and never draws the last
         frames of a video. Here all segments are equally long, and every frame can be drawn.
"""

import torch

from motionaware.errors import UsageError

# u is a multiple of 1 / _STEPS_PER_SEGMENT. Integers avoid rounding errors: no index reaches n.
_STEPS_PER_SEGMENT = 2**32


def segment_indices(
    num_video_frames: int,
    num_frames: int,
    *,
    generator: torch.Generator | None = None,
    view: int = 0,
    num_views: int = 1,
) -> list[int]:
    """Divide the video into `num_frames` equal segments and return one frame index of each.

    With a generator, u is drawn in [0, 1) for each segment. Without one, u = (view + 1/2) /
    num_views: a single view takes the middle frames; several views take evenly spaced frames of
    each segment. A video with fewer frames than segments repeats frames.

    Raises:
        UsageError: A count is below 1, or `view` is not in `[0, num_views)`.

    >>> segment_indices(80, 8)
    [5, 15, 25, 35, 45, 55, 65, 75]
    >>> segment_indices(80, 8, view=0, num_views=2)
    [2, 12, 22, 32, 42, 52, 62, 72]
    >>> segment_indices(3, 8)
    [0, 0, 0, 1, 1, 2, 2, 2]
    """
    _check_counts(num_video_frames, num_frames, view=view, num_views=num_views)
    if generator is None:
        steps, offsets = 2 * num_views, [2 * view + 1] * num_frames
    else:
        steps = _STEPS_PER_SEGMENT
        offsets = torch.randint(steps, (num_frames,), generator=generator).tolist()
    return [
        (i * steps + offset) * num_video_frames // (steps * num_frames)
        for i, offset in enumerate(offsets)
    ]


def dense_indices(
    num_video_frames: int,
    num_frames: int,
    *,
    frame_stride: int,
    generator: torch.Generator | None = None,
    view: int = 0,
    num_views: int = 1,
) -> list[int]:
    """Return the indices of `num_frames` frames at a distance of `frame_stride`.

    With a generator, the first index is drawn so that the clip fits into the video. Without one, a
    single view is centred in the video; several views are evenly spaced from its start to its end.
    In a video too short for the stride, the frames are evenly spaced from its first to its last;
    they repeat if it has fewer frames than the clip.

    Raises:
        UsageError: A count or the stride is below 1, or `view` is not in `[0, num_views)`.

    >>> dense_indices(100, 4, frame_stride=8)
    [37, 45, 53, 61]
    >>> [dense_indices(100, 4, frame_stride=8, view=view, num_views=3)[0] for view in range(3)]
    [0, 37, 75]
    >>> dense_indices(10, 4, frame_stride=8)
    [0, 3, 6, 9]
    >>> dense_indices(2, 4, frame_stride=8)
    [0, 0, 1, 1]
    """
    _check_counts(num_video_frames, num_frames, view=view, num_views=num_views)
    if frame_stride < 1:
        raise UsageError(f"{frame_stride = }; wanted 1 frame or more")
    last_start = num_video_frames - 1 - (num_frames - 1) * frame_stride
    if last_start < 0:
        gaps = num_frames - 1
        return [(2 * i * (num_video_frames - 1) + gaps) // (2 * gaps) for i in range(num_frames)]
    if generator is not None:
        start = int(torch.randint(last_start + 1, (), generator=generator))
    elif num_views == 1:
        start = last_start // 2
    else:
        start = last_start * view // (num_views - 1)
    return [start + i * frame_stride for i in range(num_frames)]


def _check_counts(num_video_frames: int, num_frames: int, *, view: int, num_views: int) -> None:
    counts = {
        "num_video_frames": num_video_frames,
        "num_frames": num_frames,
        "num_views": num_views,
    }
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} is {count}; wanted 1 or more")
    if not 0 <= view < num_views:
        raise UsageError(f"{view = } of {num_views = }; wanted 0 to {num_views - 1}")
