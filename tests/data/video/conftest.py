"""Writes small video files of many formats with PyAV, and decodes them without our own code."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream

from motionaware.data.video.open import open_video

NUM_FRAMES = 48
OPEN_GOP = "open-gop=1:bframes=3:keyint=12:min-keyint=12:scenecut=0"
HIDDEN_FRAMES = {"g": "12", "cpu_used": "8", "auto_alt_ref": "1", "lag_in_frames": "10"}

# File name -> arguments of `encode_video`.
FORMATS = {
    "h264_short_gop.mp4": {"g": "10"},
    "h264_long_gop.mp4": {"g": "250", "bf": "3"},
    "h264_intra_only.mp4": {"g": "1"},
    "h264_open_gop.mp4": {"x264_params": OPEN_GOP},
    "h264_open_gop.mkv": {"x264_params": OPEN_GOP},
    "h264_intra_refresh.mkv": {"g": "12", "x264_params": "intra-refresh=1:bframes=0"},
    "h264_fragments.mp4": {
        "g": "10",
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "h264.ts": {"g": "10"},
    "h264.avi": {"g": "10"},
    "hevc_open_gop.mp4": {
        "codec": "libx265",
        "x265_params": "open-gop=1:bframes=3:keyint=12:min-keyint=12:log-level=none",
    },
    "vp9_hidden_frames.webm": {"codec": "libvpx-vp9", **HIDDEN_FRAMES},
    "vp8_hidden_frames.webm": {"codec": "libvpx", **HIDDEN_FRAMES},
    "mpeg4.avi": {"codec": "mpeg4", "g": "12"},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "g": "12", "bf": "2"},
    "mpeg2.mpg": {"codec": "mpeg2video", "g": "12", "bf": "2"},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "lossless.mkv": {"codec": "ffv1"},
}


def _moving_pattern(num_frames: int = NUM_FRAMES, height: int = 48, width: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 4 + 40, width // 4 + 40, 3), dtype=np.uint8)
    fine = coarse.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([fine[i : i + height, 2 * i : 2 * i + width] for i in range(num_frames)])


def _encode_video(
    path: Path,
    frames: np.ndarray | Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts_ms: Sequence[int] | None = None,
    rotation: int | None = None,
    flips: tuple[bool, bool] = (False, False),
    aspect_ratio: Fraction | None = None,
    container_options: dict[str, str] | None = None,
    **codec_options: str,
) -> Path:
    with av.open(path, "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.options = {name.replace("_", "-"): value for name, value in codec_options.items()}
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=flips[0], vflip=flips[1])
        if aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = aspect_ratio
        if pts_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            if pts_ms is not None:
                frame.pts, frame.time_base = pts_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _decode_all(path: Path) -> list[torch.Tensor]:
    with av.open(path) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, VideoStream)
        stream.thread_type = "NONE"  # how damaged parts are concealed depends on the threads
        return [
            torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            for frame in container.decode(stream)
        ]


def _check_frames(path: Path) -> None:
    expected = _decode_all(path)
    video = open_video(path, square_pixels=False)
    last = len(expected) - 1
    assert video.num_frames == len(expected)
    assert video.times_seconds is not None
    assert len(video.times_seconds) == len(expected)
    assert video.times_seconds[0] == 0
    assert (np.diff(video.times_seconds) > 0).all()
    rng = np.random.default_rng(0)
    for indices in (
        list(range(len(expected))),
        *([i] for i in range(0, len(expected), max(7, len(expected) // 8))),
        [last],
        [last, 0, last // 2, last],
        *(rng.integers(0, len(expected), 8).tolist() for _ in range(4)),
    ):
        frames = video.frames(indices)
        assert frames.shape == (len(indices), 3, video.height, video.width)
        assert all(
            torch.equal(frame, expected[index])
            for frame, index in zip(frames, indices, strict=True)
        )


@pytest.fixture(scope="session")
def moving_pattern() -> Callable[..., np.ndarray]:
    """Return the frames of a random pattern that moves, all different: t h w 3."""
    return _moving_pattern


@pytest.fixture(scope="session")
def encode_video() -> Callable[..., Path]:
    """Encode frames as a video file; return its path."""
    return _encode_video


@pytest.fixture(scope="session")
def decode_all() -> Callable[[Path], list[torch.Tensor]]:
    """Return all frames of a file as PyAV decodes them from its start: 3 h w each."""
    return _decode_all


@pytest.fixture(scope="session")
def check_frames() -> Callable[[Path], None]:
    """Assert that the frames of a file, read in many orders, equal those of `decode_all`."""
    return _check_frames


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one video of 48 frames, 48 x 64 pixels, in each format of FORMATS."""
    folder = tmp_path_factory.mktemp("samples")
    for name, options in FORMATS.items():
        _encode_video(folder / name, _moving_pattern(), **options)
    return folder


@pytest.fixture(params=sorted(FORMATS))
def sample(request: pytest.FixtureRequest, samples: Path) -> Path:
    """Return each video of `samples` in turn."""
    return samples / request.param
