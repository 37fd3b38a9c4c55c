"""Indexing and reading video files."""

import pickle
import shlex
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.container import InputContainer
from av.error import FFmpegError

from motionaware.data.video import base
from motionaware.data.video import file as video_file
from motionaware.data.video.container import open_container
from motionaware.data.video.open import open_video
from motionaware.data.video.seek import seek_frames
from motionaware.errors import VideoError

NUM_FRAMES = 48


def test_frames_equal_those_of_decoding_everything_bit_for_bit(sample, check_frames):
    check_frames(sample)


SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "videos"
BROKEN = {
    "derived_empty.mp4": "is an empty file",
    "derived_not_a_video.mp4": "does not open as a video",
    "derived_truncated_60pct_test.avi": "is cut short: 93 of the 164 frames it announces can be",
}
QUARTER_TURNS = {"decord_video_90.mov": -1, "decord_video_180.mov": 2}


def shared_files() -> list[Path]:
    return sorted(SHARED.iterdir()) if SHARED.is_dir() else []


@pytest.mark.skipif(not shared_files(), reason="needs the folder of real videos")
@pytest.mark.parametrize("path", shared_files(), ids=lambda path: path.name)
def test_real_videos_are_read_bit_for_bit_or_refused(path, decode_all, check_frames):
    if path.name in BROKEN:
        with pytest.raises(VideoError, match=f"{path.name} {BROKEN[path.name]}"):
            open_video(path)
    elif path.name in QUARTER_TURNS:
        turns = QUARTER_TURNS[path.name]
        expected = [torch.rot90(frame, turns, (1, 2)) for frame in decode_all(path)]
        video = open_video(path, square_pixels=False)
        assert torch.equal(video.frames(range(len(expected))), torch.stack(expected))
    else:
        check_frames(path)


def test_an_opened_video_is_small_and_can_be_pickled(samples):
    video = open_video(samples / "h264_short_gop.mp4")
    pickled = pickle.dumps(video)
    assert len(pickled) < 3000
    assert torch.equal(pickle.loads(pickled).frames([7, 30]), video.frames([7, 30]))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_follow_a_variable_frame_rate(
    tmp_path, suffix, moving_pattern, encode_video, check_frames
):
    pts_ms = np.cumsum(np.random.default_rng(1).integers(10, 200, NUM_FRAMES)).tolist()
    path = encode_video(tmp_path / f"variable.{suffix}", moving_pattern(), pts_ms=pts_ms, g="10")
    times = open_video(path).times_seconds
    assert times is not None
    np.testing.assert_allclose(times, (np.array(pts_ms) - pts_ms[0]) / 1000, atol=1e-3)
    check_frames(path)


def test_frames_of_a_variable_rate_and_of_an_edit_list_equal_those_of_decoding_everything(
    tmp_path, moving_pattern, encode_video, check_frames
):
    pts_ms = [40 * i + 7 * (i % 5) for i in range(NUM_FRAMES)]
    varied = encode_video(tmp_path / "varied.mp4", moving_pattern(), g="12", bf="3", pts_ms=pts_ms)
    check_frames(varied)
    with av.open(varied) as source, av.open(tmp_path / "edited.mp4", "w") as edited:
        assert isinstance(source, InputContainer)
        old = source.streams.video[0]
        new = edited.add_stream_from_template(old)
        for packet in source.demux(old):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts - 4000, packet.dts - 4000
                packet.stream = new
                edited.mux(packet)
    assert open_video(tmp_path / "edited.mp4").num_frames < NUM_FRAMES
    check_frames(tmp_path / "edited.mp4")
    assert seek_succeeds(tmp_path / "edited.mp4", 40)


def seek_succeeds(path: Path, index: int) -> bool:
    video = open_video(path)
    assert isinstance(video, video_file._VideoFile) and video.pts is not None
    with open_container(path, trust_headers=True) as (container, stream):
        frames = seek_frames(container, stream, [index], pts=video.pts, keyframes=video.keyframes)
        return len(list(frames)) == 1


def test_an_avi_with_b_frames_is_indexed_by_decoding(samples):
    video = open_video(samples / "mpeg4_b_frames.avi")
    assert isinstance(video, video_file._VideoFile) and video.pts is None


def test_decoding_does_not_start_at_an_mpeg4_keyframe_with_other_headers(
    samples, tmp_path, check_frames
):
    content = (samples / "mpeg4.avi").read_bytes()
    assert content.count(b"Lavc") == 4
    (tmp_path / "two_encoders.avi").write_bytes(content.replace(b"Lavc", b"XviD", 1))
    video = open_video(tmp_path / "two_encoders.avi")
    assert isinstance(video, video_file._VideoFile)
    assert video.pts is not None and video.keyframes.tolist() == [0]
    check_frames(tmp_path / "two_encoders.avi")


# --------------------------------------------------------------------------------- truncated files


def truncate(path: Path, folder: Path, share: float) -> Path:
    """Copy the first part of a file."""
    content = path.read_bytes()
    (folder / path.name).write_bytes(content[: int(len(content) * share)])
    return folder / path.name


FASTSTART = {"container_options": {"movflags": "faststart"}}
WITH_ANNOUNCED_LENGTH = {
    "h264.mp4": {"bf": "2", **FASTSTART},
    "hevc.mp4": {"codec": "libx265", "x265_params": "log-level=none", **FASTSTART},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p", **FASTSTART},
    "variable.mp4": {"pts_ms": [int(40 * i**1.5) for i in range(NUM_FRAMES)], **FASTSTART},
    "fragments.mp4": {
        "g": "10",
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "mpeg4.avi": {"codec": "mpeg4", "g": "12", "bf": "2"},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "h264.avi": {"g": "10"},
}


@pytest.mark.parametrize("name", sorted(WITH_ANNOUNCED_LENGTH))
def test_a_truncated_file_is_refused_with_the_frames_left_and_a_command(
    tmp_path, capfd, name, moving_pattern, encode_video
):
    (tmp_path / "complete").mkdir()
    complete = encode_video(
        tmp_path / "complete" / name, moving_pattern(), **WITH_ANNOUNCED_LENGTH[name]
    )
    assert open_video(complete).num_frames == NUM_FRAMES
    message = rf"{name} is cut short: \d+ of the \d+ frames it announces .*fetch it again, or "
    with pytest.raises(VideoError, match=rf"{message}.*ffmpeg -i {tmp_path}/{name} "):
        open_video(truncate(complete, tmp_path, 0.6))
    assert capfd.readouterr() == ("", "")


def test_the_command_for_a_truncated_file_is_quoted_for_the_shell(
    tmp_path, moving_pattern, encode_video
):
    (tmp_path / "complete").mkdir()
    complete = encode_video(
        tmp_path / "complete" / "a cat's day.avi",
        moving_pattern(),
        **WITH_ANNOUNCED_LENGTH["mjpeg.avi"],
    )
    with pytest.raises(VideoError) as raised:
        open_video(truncate(complete, tmp_path, 0.6))
    command = str(raised.value).rpartition("ffmpeg ")[2]
    names = [str(tmp_path / name) for name in ("a cat's day.avi", "a cat's day_short.mp4")]
    assert shlex.split(command) == ["-i", *names]  # absolute: it works in any folder


@pytest.mark.parametrize("name", ["h264_open_gop.mkv", "vp9_hidden_frames.webm", "h264.ts"])
def test_a_truncated_file_without_an_announced_length_has_its_remaining_frames(
    samples, tmp_path, capfd, name
):
    video = open_video(truncate(samples / name, tmp_path, 0.6))
    assert 3 < video.num_frames < NUM_FRAMES
    frames = video.frames(range(video.num_frames))
    intact = range(video.num_frames - 3)  # the last ones may be concealed from half a packet
    assert torch.equal(frames[: len(intact)], open_video(samples / name).frames(intact))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["mpeg4_b_frames.avi", "mjpeg.avi"])
@pytest.mark.parametrize(("more", "opens"), [(-9, True), (2, True), (9, False)])
def test_an_avi_may_announce_a_few_frames_too_many(samples, tmp_path, name, more, opens):
    content = bytearray((samples / name).read_bytes())
    offset = content.index(b"vids") + 32  # dwLength of the stream header
    assert int.from_bytes(content[offset : offset + 4], "little") == NUM_FRAMES
    content[offset : offset + 4] = (NUM_FRAMES + more).to_bytes(4, "little")
    path = tmp_path / name
    path.write_bytes(content)
    if opens:
        assert open_video(path).num_frames == NUM_FRAMES
    else:
        with pytest.raises(VideoError, match="is cut short: 48 of the 57 frames"):
            open_video(path)


def test_dropped_frames_of_an_avi_are_not_missing(tmp_path, moving_pattern, encode_video):
    pts_ms = [0, 1000, 1040, 1080, 3000, 3040]  # an avi stores empty packets in the gaps
    path = encode_video(tmp_path / "dropped.avi", moving_pattern(6), codec="mpeg4", pts_ms=pts_ms)
    assert open_video(path).num_frames == 6


def test_frames_that_an_edit_list_hides_are_not_missing(
    tmp_path, moving_pattern, encode_video, check_frames
):
    complete = encode_video(tmp_path / "complete.mp4", moving_pattern(), g="12", bf="0")
    path = tmp_path / "trimmed.mp4"
    with av.open(complete) as source, av.open(path, "w") as target:
        assert isinstance(source, InputContainer)
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size][12:]
        start = packets[5].pts  # the five packets before it get negative timestamps
        assert start is not None
        for packet in packets:
            assert packet.pts is not None and packet.dts is not None
            packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, stream
            target.mux(packet)
    with av.open(path) as container:
        assert isinstance(container, InputContainer)
        assert sum(packet.is_discard for packet in container.demux(video=0)) == 5
    assert open_video(path).num_frames == NUM_FRAMES - 12 - 5
    check_frames(path)


# ----------------------------------------------------------------------------------- damaged files


def test_a_damaged_frame_is_named_and_not_replaced_by_another(samples, tmp_path, capfd):
    name = "h264_intra_only.mp4"  # no frame refers to another, so that one packet is one frame
    with av.open(samples / name) as container:
        assert isinstance(container, InputContainer)
        packets = [packet for packet in container.demux(video=0) if packet.size]
        start, size = packets[20].pos, packets[20].size
        assert start is not None
    content = bytearray((samples / name).read_bytes())
    content[start : start + size] = bytes(size)
    path = tmp_path / name
    path.write_bytes(content)
    intact, damaged = open_video(samples / name), open_video(path)
    assert torch.equal(damaged.frames([3, 40]), intact.frames([3, 40]))
    for indices in ([20], [3, 20, 40]):
        with pytest.raises(VideoError, match=rf"{name}: frame 20 of 48 does not decode"):
            damaged.frames(indices)
    assert capfd.readouterr() == ("", "")


def test_wrong_keyframes_in_a_header_give_no_wrong_frame(samples, tmp_path, check_frames):
    content = bytearray((samples / "h264_short_gop.mp4").read_bytes())
    begin = content.find(b"stss") + 8
    (count,) = struct.unpack(">I", content[begin : begin + 4])
    table = slice(begin + 4, begin + 4 + 4 * count)
    first, *others = struct.unpack(f">{count}I", content[table])
    content[table] = struct.pack(f">{count}I", first, *(keyframe + 3 for keyframe in others))
    (tmp_path / "wrong.mp4").write_bytes(content)
    check_frames(tmp_path / "wrong.mp4")


@pytest.mark.parametrize("name", ["h264_short_gop.mp4", "hevc_open_gop.mp4"])
def test_a_header_that_calls_every_frame_a_keyframe_gives_no_wrong_frame(
    samples, tmp_path, name, check_frames
):
    path = tmp_path / name
    path.write_bytes((samples / name).read_bytes().replace(b"stss", b"free"))
    check_frames(path)


@pytest.mark.parametrize("more", [-5, 5])
@pytest.mark.parametrize("box", [b"stsz", b"stts"])
def test_a_header_with_a_wrong_number_of_frames_gives_the_frames_that_exist(
    samples, tmp_path, box, more, check_frames
):
    content = bytearray((samples / "h264_short_gop.mp4").read_bytes())
    number = slice(content.find(box) + 12, content.find(box) + 16)
    content[number] = struct.pack(">I", struct.unpack(">I", content[number])[0] + more)
    path = tmp_path / "wrong.mp4"
    path.write_bytes(content)
    check_frames(path)


def test_an_avi_that_announces_many_more_frames_than_it_holds_is_truncated(samples, tmp_path):
    content = bytearray((samples / "mpeg4.avi").read_bytes())
    for mark, skip in ((b"avih", 24), (b"strh", 40)):
        offset = content.find(mark) + skip
        content[offset : offset + 4] = struct.pack("<I", NUM_FRAMES + 12)
    (tmp_path / "wrong.avi").write_bytes(content)
    with pytest.raises(VideoError, match=r"is cut short: 48 of the 60 frames it announces"):
        open_video(tmp_path / "wrong.avi")


def test_frames_that_the_decoder_marks_as_corrupt_equal_those_of_decoding_everything(
    samples: Path, tmp_path: Path, check_frames
):
    with av.open(samples / "h264_long_gop.mp4") as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0)]
    path = tmp_path / "damaged.mp4"
    for begin, size in packets[1:]:  # the encoded bytes, and so the effect of damage, vary
        if begin is None or size < 150:
            continue
        content = bytearray((samples / "h264_long_gop.mp4").read_bytes())
        content[begin + size // 3 : begin + size // 3 + 40] = b"\xaa" * 40
        path.write_bytes(content)
        if has_corrupt_frame(path):
            break
    assert has_corrupt_frame(path)
    check_frames(path)


def has_corrupt_frame(path: Path) -> bool:
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1  # more threads hide the damage
        try:
            return any(frame.is_corrupt for frame in container.decode(video=0))
        except FFmpegError:  # covered by another test
            return False


def test_a_side_beyond_the_limit_is_refused(samples, tmp_path):
    content = bytearray((samples / "mjpeg.avi").read_bytes())
    offset = content.find(b"strf") + 12
    content[offset : offset + 2] = b"\x7f\xff"
    (tmp_path / "wide.avi").write_bytes(content)
    message = (
        r"wide.avi has frames of 48 x 65407 pixels; wanted at most 33554432 pixels a frame and"
    )
    with pytest.raises(VideoError, match=message):
        open_video(tmp_path / "wide.avi")


def test_a_frame_beyond_the_limit_is_refused(samples, monkeypatch):
    monkeypatch.setattr(base, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(VideoError, match=r"mjpeg.avi has frames of 48 x 64 pixels; wanted at most"):
        open_video(samples / "mjpeg.avi")
