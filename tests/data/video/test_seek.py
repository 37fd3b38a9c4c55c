"""How many frames are decoded to read some, and what happens when a seek fails."""

import av
import pytest
import torch

from motionaware.data.video import container, seek
from motionaware.data.video import file as video_file
from motionaware.data.video.open import open_video

NUM_FRAMES = 48


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Collect the timestamp of every frame that is decoded; clear the list to start again."""
    decoded: list[int | None] = []
    decode_packet, decode_until = container.decode_packet, seek._decode_until

    def counted_packet(packet):
        frames = decode_packet(packet)
        decoded.extend(frame.pts for frame in frames)
        return frames

    def counted_run(*args, **kwargs):
        for frame in decode_until(*args, **kwargs):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(container, "decode_packet", counted_packet)
    monkeypatch.setattr(video_file, "decode_packet", counted_packet)
    monkeypatch.setattr(seek, "_decode_until", counted_run)
    return decoded


def test_a_late_frame_is_decoded_from_its_keyframe(samples, decoded):
    video = open_video(samples / "h264_short_gop.mp4")
    decoded.clear()
    video.frames([45])
    assert 1 <= len(decoded) < 12


def test_decoding_stops_at_the_last_wanted_frame(samples, decoded):
    video = open_video(samples / "h264_long_gop.mp4")
    decoded.clear()
    video.frames([5, 2])
    assert 2 <= len(decoded) <= 6


def test_frames_that_are_not_reference_frames_are_skipped(samples, decoded):
    video = open_video(samples / "h264_long_gop.mp4")
    decoded.clear()
    video.frames([0, NUM_FRAMES - 1])
    assert 2 <= len(decoded) < 0.8 * NUM_FRAMES


@pytest.mark.parametrize(
    "name", ["h264_short_gop.mp4", "h264_open_gop.mp4", "vp9_hidden_frames.webm"]
)
def test_no_frame_is_decoded_twice_for_one_clip(samples, decoded, name):
    video = open_video(samples / name)
    decoded.clear()
    video.frames(range(0, NUM_FRAMES, 3))
    assert len(decoded) <= NUM_FRAMES


@pytest.mark.parametrize(
    "name", ["h264_long_gop.mp4", "h264_fragments.mp4", "vp9_hidden_frames.webm"]
)
def test_a_file_with_timestamps_is_opened_once_and_one_frame_is_decoded(
    samples, decoded, monkeypatch, name
):
    opened = []
    av_open = av.open
    monkeypatch.setattr(
        av, "open", lambda *args, **kwargs: opened.append(1) or av_open(*args, **kwargs)
    )
    open_video(samples / name)
    assert len(opened) == 1
    assert len(decoded) <= 1  # 0 if the first frame needs a flush, which is not counted


def test_an_avi_of_mpeg4_in_display_order_is_indexed_without_decoding_all(samples, decoded):
    assert open_video(samples / "mpeg4.avi").num_frames == NUM_FRAMES
    assert len(decoded) == 1
    open_video(samples / "mpeg4.avi").frames([40])
    assert len(decoded) < 15


@pytest.mark.parametrize("name", ["h264_short_gop.mp4", "mpeg4.avi"])
def test_frames_are_decoded_from_the_start_after_a_failed_seek(samples, monkeypatch, name):
    video = open_video(samples / name)
    expected = video.frames([2, 35])
    decode_until = seek._decode_until

    def miss_the_keyframe(*args, start):
        return decode_until(*args, start=start and start + 1)

    monkeypatch.setattr(seek, "_decode_until", miss_the_keyframe)
    assert torch.equal(video.frames([2, 35]), expected)


def test_a_frame_that_seeking_does_not_find_is_decoded_from_the_start(samples, monkeypatch):
    video = open_video(samples / "h264_long_gop.mp4")
    assert isinstance(video, video_file._VideoFile) and video.pts is not None
    missing_pts, expected = video.pts[20], video.frames([2, 20, 35])
    decode_until = seek._decode_until

    def without_frame_20(*args, **kwargs):
        return (frame for frame in decode_until(*args, **kwargs) if frame.pts != missing_pts)

    monkeypatch.setattr(seek, "_decode_until", without_frame_20)
    assert torch.equal(video.frames([2, 20, 35]), expected)


def test_indices_are_grouped_by_the_keyframe_they_are_decoded_from():
    groups = seek._group_by_keyframe([0, 3, 9, 25], [0, 10, 20])
    assert groups == [(0, [0, 3, 9]), (20, [25])]
    assert seek._group_by_keyframe([9, 10], [0, 10, 20]) == [(0, [9]), (10, [10])]
