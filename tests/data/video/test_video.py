import pickle
import shlex
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from PIL import Image

from motionaware.data.video import base, seek
from motionaware.data.video import container as video_container
from motionaware.data.video import file as video_file
from motionaware.data.video import writer as video_writer
from motionaware.data.video.frame_folder import is_frame_folder
from motionaware.data.video.live import live_frames
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video
from motionaware.errors import VideoError

NUM_FRAMES = 48
OPEN_GROUPS = "open-gop=1:bframes=3:keyint=12:min-keyint=12:scenecut=0"


def scene(num_frames: int = NUM_FRAMES, height: int = 48, width: int = 64) -> np.ndarray:
    """A random pattern that moves: every frame differs from every other. Shape t h w 3."""
    chance = np.random.default_rng(0)
    small = chance.integers(0, 256, (height // 4 + 40, width // 4 + 40, 3), dtype=np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([large[i : i + height, 2 * i : 2 * i + width] for i in range(num_frames)])


def encode(
    path: Path,
    pictures: np.ndarray,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    turn: tuple[int, bool, bool] | None = None,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    with av.open(path, "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        stream.options = {name.replace("_", "-"): value for name, value in options.items()}
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if ticks is not None:
                frame.pts, frame.time_base = ticks[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_everything(path: Path) -> list[torch.Tensor]:
    with av.open(path) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, VideoStream)
        stream.thread_type = "NONE"  # what stands in for damaged parts depends on the threads
        return [
            torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            for frame in container.decode(stream)
        ]


FILES = {
    "h264_short_groups.mp4": {"g": "10"},
    "h264_long_group.mp4": {"g": "250", "bf": "3"},
    "h264_intra_only.mp4": {"g": "1"},
    "h264_open_groups.mp4": {"x264_params": OPEN_GROUPS},
    "h264_open_groups.mkv": {"x264_params": OPEN_GROUPS},
    "h264_intra_refresh.mkv": {"g": "12", "x264_params": "intra-refresh=1:bframes=0"},
    "h264_fragments.mp4": {
        "g": "10",
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "h264.ts": {"g": "10"},
    "h264.avi": {"g": "10"},
    "hevc_open_groups.mp4": {
        "codec": "libx265",
        "x265_params": "open-gop=1:bframes=3:keyint=12:min-keyint=12:log-level=none",
    },
    "vp9_hidden_frames.webm": {
        "codec": "libvpx-vp9",
        "g": "12",
        "cpu_used": "8",
        "auto_alt_ref": "1",
        "lag_in_frames": "10",
    },
    "vp8_hidden_frames.webm": {
        "codec": "libvpx",
        "g": "12",
        "cpu_used": "8",
        "auto_alt_ref": "1",
        "lag_in_frames": "10",
    },
    "mpeg4.avi": {"codec": "mpeg4", "g": "12"},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "g": "12", "bf": "2"},
    "mpeg2.mpg": {"codec": "mpeg2video", "g": "12", "bf": "2"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "lossless.mkv": {"codec": "ffv1"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short video of each kind."""
    folder = tmp_path_factory.mktemp("videos")
    for name, options in FILES.items():
        encode(folder / name, scene(), **options)
    return folder


def assert_frames_are_those_of_decoding_everything(path: Path) -> None:
    expected = decode_everything(path)
    video = open_video(path, square_pixels=False)
    last = len(expected) - 1
    assert video.num_frames == len(expected)
    assert video.times_seconds is not None
    assert len(video.times_seconds) == len(expected)
    assert video.times_seconds[0] == 0
    assert (np.diff(video.times_seconds) > 0).all()
    chance = np.random.default_rng(0)
    for indices in (
        list(range(len(expected))),
        *([i] for i in range(0, len(expected), max(7, len(expected) // 8))),
        [last],
        [last, 0, last // 2, last],
        *(chance.integers(0, len(expected), 8).tolist() for _ in range(4)),
    ):
        frames = video.frames(indices)
        assert frames.shape == (len(indices), 3, video.height, video.width)
        assert all(
            torch.equal(frame, expected[index])
            for frame, index in zip(frames, indices, strict=True)
        )


@pytest.mark.parametrize("name", sorted(FILES))
def test_frames_are_bit_for_bit_those_of_decoding_everything(made, name):
    assert_frames_are_those_of_decoding_everything(made / name)


SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "videos"
BROKEN = {
    "derived_empty.mp4": "is an empty file",
    "derived_not_a_video.mp4": "does not open as a video",
    "derived_truncated_60pct_test.avi": "is cut short: 93 of the 164 frames it announces can be",
}
TURNED = {"decord_video_90.mov", "decord_video_180.mov"}


def shared_files() -> list[Path]:
    return sorted(SHARED.iterdir()) if SHARED.is_dir() else []


@pytest.mark.skipif(not shared_files(), reason="the folder of real videos is not beside this repo")
@pytest.mark.parametrize("path", shared_files(), ids=lambda path: path.name)
def test_real_videos_are_read_bit_for_bit_or_refused(path):
    if path.name in BROKEN:
        with pytest.raises(VideoError, match=f"{path.name} {BROKEN[path.name]}"):
            open_video(path)
    elif path.name in TURNED:
        quarters = {"decord_video_90.mov": -1, "decord_video_180.mov": 2}[path.name]
        expected = [torch.rot90(frame, quarters, (1, 2)) for frame in decode_everything(path)]
        video = open_video(path, square_pixels=False)
        assert torch.equal(video.frames(range(len(expected))), torch.stack(expected))
    else:
        assert_frames_are_those_of_decoding_everything(path)


def decoded_counter(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Collect the time of every frame that is decoded from now on."""
    seen: list[int | None] = []
    plain = video_container.frames_of

    def counted(packet):
        frames = plain(packet)
        seen.extend(frame.pts for frame in frames)
        return frames

    plain_run = seek._run

    def counted_run(*facts, **more):
        for frame in plain_run(*facts, **more):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_container, "frames_of", counted)
    monkeypatch.setattr(video_file, "frames_of", counted)
    monkeypatch.setattr(seek, "_run", counted_run)
    return seen


def test_a_late_frame_is_read_from_its_keyframe_not_from_the_start(made, monkeypatch):
    video = open_video(made / "h264_short_groups.mp4")
    seen = decoded_counter(monkeypatch)
    video.frames([45])
    assert len(seen) < 12


def test_decoding_stops_at_the_last_frame_wanted(made, monkeypatch):
    video = open_video(made / "h264_long_group.mp4")
    seen = decoded_counter(monkeypatch)
    video.frames([5, 2])
    assert 2 <= len(seen) <= 6


def test_frames_that_nothing_is_made_from_are_not_decoded(made, monkeypatch):
    video = open_video(made / "h264_long_group.mp4")
    seen = decoded_counter(monkeypatch)
    video.frames([0, NUM_FRAMES - 1])
    assert len(seen) < 0.8 * NUM_FRAMES


def test_no_frame_is_decoded_twice_for_one_clip(made, monkeypatch):
    for name in ("h264_short_groups.mp4", "h264_open_groups.mp4", "vp9_hidden_frames.webm"):
        video = open_video(made / name)
        seen = decoded_counter(monkeypatch)
        video.frames(range(0, NUM_FRAMES, 3))
        assert len(seen) <= NUM_FRAMES, name


@pytest.mark.parametrize(
    "name", ["h264_long_group.mp4", "h264_fragments.mp4", "vp9_hidden_frames.webm"]
)
def test_a_file_of_trusted_times_is_opened_once_by_decoding_one_frame(made, monkeypatch, name):
    seen = decoded_counter(monkeypatch)
    opened = []
    plain = av.open
    monkeypatch.setattr(
        av, "open", lambda *facts, **more: opened.append(1) or plain(*facts, **more)
    )
    open_video(made / name)
    assert len(opened) == 1
    assert len(seen) <= 1  # one that the decoder would hold back is asked for by draining it


def test_an_opened_video_is_small_and_can_be_sent_to_a_worker(made):
    video = open_video(made / "h264_short_groups.mp4")
    sent = pickle.dumps(video)
    assert len(sent) < 3000
    assert torch.equal(pickle.loads(sent).frames([7, 30]), video.frames([7, 30]))


def test_no_indices_give_an_empty_clip(made):
    assert open_video(made / "mjpeg.avi").frames([]).shape == (0, 3, 48, 64)


@pytest.mark.parametrize("index", [-1, NUM_FRAMES])
def test_an_index_outside_the_video_is_named(made, index):
    with pytest.raises(IndexError, match=rf"frame {index} .* has 48 frames: wanted 0 to 47"):
        open_video(made / "mjpeg.avi").frames([0, index])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_are_those_of_a_variable_frame_rate(tmp_path, suffix):
    ticks = np.cumsum(np.random.default_rng(1).integers(10, 200, NUM_FRAMES)).tolist()
    path = encode(tmp_path / f"variable.{suffix}", scene(), ticks=ticks, g="10")
    times = open_video(path).times_seconds
    assert times is not None
    np.testing.assert_allclose(times, (np.array(ticks) - ticks[0]) / 1000, atol=1e-3)
    assert_frames_are_those_of_decoding_everything(path)


@pytest.mark.parametrize("vflip", [False, True])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turn_noted_in_the_file_is_undone(tmp_path, degrees, hflip, vflip):
    path = encode(tmp_path / "turned.mp4", scene(3), turn=(degrees, hflip, vflip))
    expected = torch.stack(decode_everything(path))
    # The matrix turns (counter-clockwise), then mirrors what is shown.
    expected = torch.rot90(expected, degrees // 90, (2, 3))
    expected = expected.flip(3) if hflip else expected
    expected = expected.flip(2) if vflip else expected
    video = open_video(path)
    assert (video.height, video.width) == expected.shape[2:]
    assert torch.equal(video.frames([0, 1, 2]), expected)


# ------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.mp4", None, "missing.mp4 does not exist; wanted a video file or a folder"),
        ("empty.mp4", b"", "empty.mp4 is an empty file"),
        ("text.mp4", b"not a video\n" * 50, "text.mp4 does not open as a video"),
    ],
)
def test_what_is_no_video_is_refused_by_name(tmp_path, capfd, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=words):
        open_video(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_file_with_sound_only_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match=r"sound.mp4 has no video stream; found audio"):
        open_video(path)


def cut(path: Path, folder: Path, share: float) -> Path:
    """Copy the first part of a file."""
    content = path.read_bytes()
    (folder / path.name).write_bytes(content[: int(len(content) * share)])
    return folder / path.name


ANNOUNCING = {
    "h264.mp4": {"bf": "2", "container_options": {"movflags": "faststart"}},
    "hevc.mp4": {
        "codec": "libx265",
        "x265_params": "log-level=none",
        "container_options": {"movflags": "faststart"},
    },
    "mjpeg.mov": {
        "codec": "mjpeg",
        "pixels": "yuvj420p",
        "container_options": {"movflags": "faststart"},
    },
    "variable.mp4": {
        "ticks": [int(40 * i**1.5) for i in range(NUM_FRAMES)],
        "container_options": {"movflags": "faststart"},
    },
    "fragments.mp4": FILES["h264_fragments.mp4"],
    "mpeg4.avi": FILES["mpeg4_b_frames.avi"],
    "mjpeg.avi": FILES["mjpeg.avi"],
    "h264.avi": FILES["h264.avi"],
}


@pytest.mark.parametrize("name", sorted(ANNOUNCING))
def test_a_file_cut_short_is_refused_with_what_is_left_and_what_to_do(tmp_path, capfd, name):
    (tmp_path / "whole").mkdir()
    whole = encode(tmp_path / "whole" / name, scene(), **ANNOUNCING[name])
    assert open_video(whole).num_frames == NUM_FRAMES
    words = rf"{name} is cut short: \d+ of the \d+ frames it announces .*fetch it again, or "
    with pytest.raises(VideoError, match=rf"{words}.*ffmpeg -i {tmp_path}/{name} "):
        open_video(cut(whole, tmp_path, 0.6))
    assert capfd.readouterr() == ("", "")


def test_the_command_that_saves_a_cut_file_survives_a_shell(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = encode(tmp_path / "whole" / "a cat's day.avi", scene(), **FILES["mjpeg.avi"])
    with pytest.raises(VideoError) as raised:
        open_video(cut(whole, tmp_path, 0.6))
    command = str(raised.value).rpartition("ffmpeg ")[2]
    names = [str(tmp_path / name) for name in ("a cat's day.avi", "a cat's day_short.mp4")]
    assert shlex.split(command) == ["-i", *names]  # it works from any folder


@pytest.mark.parametrize("name", ["h264_open_groups.mkv", "vp9_hidden_frames.webm", "h264.ts"])
def test_a_file_that_announces_no_count_has_the_frames_that_are_left(made, tmp_path, capfd, name):
    video = open_video(cut(made / name, tmp_path, 0.6))
    assert 3 < video.num_frames < NUM_FRAMES
    frames = video.frames(range(video.num_frames))
    unhurt = range(video.num_frames - 3)  # the last may be patched up from half a packet
    assert torch.equal(frames[: len(unhurt)], open_video(made / name).frames(unhurt))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["mpeg4_b_frames.avi", "mjpeg.avi"])
@pytest.mark.parametrize(("more", "opens"), [(-9, True), (2, True), (9, False)])
def test_an_avi_may_announce_a_few_frames_too_many(made, tmp_path, name, more, opens):
    content = bytearray((made / name).read_bytes())
    place = content.index(b"vids") + 32  # dwLength of the stream's header
    assert int.from_bytes(content[place : place + 4], "little") == NUM_FRAMES
    content[place : place + 4] = (NUM_FRAMES + more).to_bytes(4, "little")
    path = tmp_path / name
    path.write_bytes(content)
    if opens:
        assert open_video(path).num_frames == NUM_FRAMES
    else:
        with pytest.raises(VideoError, match="is cut short: 48 of the 57 frames"):
            open_video(path)


def test_frames_that_an_avi_drops_are_not_missing(tmp_path):
    ticks = [0, 1000, 1040, 1080, 3000, 3040]  # in an avi the places between are empty packets
    path = encode(tmp_path / "dropped.avi", scene(6), codec="mpeg4", ticks=ticks)
    assert open_video(path).num_frames == 6


def test_frames_that_an_edit_list_hides_are_not_missing(tmp_path):
    whole = encode(tmp_path / "whole.mp4", scene(), g="12", bf="0")
    path = tmp_path / "trimmed.mp4"
    with av.open(whole) as source, av.open(path, "w") as target:
        assert isinstance(source, InputContainer)
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size][12:]
        late = packets[5].pts  # the five before it come to lie before the beginning
        assert late is not None
        for packet in packets:
            assert packet.pts is not None and packet.dts is not None
            packet.pts, packet.dts, packet.stream = packet.pts - late, packet.dts - late, stream
            target.mux(packet)
    with av.open(path) as container:
        assert isinstance(container, InputContainer)
        assert sum(packet.is_discard for packet in container.demux(video=0)) == 5
    assert open_video(path).num_frames == NUM_FRAMES - 12 - 5
    assert_frames_are_those_of_decoding_everything(path)


def test_a_damaged_frame_is_named_and_no_other_takes_its_place(made, tmp_path, capfd):
    name = "h264_intra_only.mp4"  # every packet a frame: damage to one is damage to no other
    with av.open(made / name) as container:
        assert isinstance(container, InputContainer)
        packets = [packet for packet in container.demux(video=0) if packet.size]
        start, size = packets[20].pos, packets[20].size
        assert start is not None
    content = bytearray((made / name).read_bytes())
    content[start : start + size] = bytes(size)
    path = tmp_path / name
    path.write_bytes(content)
    whole, damaged = open_video(made / name), open_video(path)
    assert torch.equal(damaged.frames([3, 40]), whole.frames([3, 40]))
    for indices in ([20], [3, 20, 40]):
        with pytest.raises(VideoError, match=rf"{name}: frame 20 of 48 does not decode"):
            damaged.frames(indices)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["h264_short_groups.mp4", "mpeg4.avi"])
def test_a_jump_that_goes_astray_is_made_good_from_the_start(made, monkeypatch, name):
    video = open_video(made / name)
    expected = video.frames([2, 35])
    plain = seek._run

    def astray(*facts, start):
        return plain(*facts, start=start and start + 1)

    monkeypatch.setattr(seek, "_run", astray)
    assert torch.equal(video.frames([2, 35]), expected)


def test_a_frame_that_a_quick_reading_does_not_give_is_read_from_the_start(made, monkeypatch):
    video = open_video(made / "h264_long_group.mp4")
    assert isinstance(video, video_file._VideoFile) and video.ticks is not None
    late, expected = video.ticks[20], video.frames([2, 20, 35])
    plain = seek._run

    def without_the_second(*facts, **more):
        return (frame for frame in plain(*facts, **more) if frame.pts != late)

    monkeypatch.setattr(seek, "_run", without_the_second)
    assert torch.equal(video.frames([2, 20, 35]), expected)


def test_an_avi_of_mpeg4_pictures_in_order_is_indexed_without_decoding_all(made, monkeypatch):
    seen = decoded_counter(monkeypatch)
    assert open_video(made / "mpeg4.avi").num_frames == NUM_FRAMES
    assert len(seen) == 1
    open_video(made / "mpeg4.avi").frames([40])
    assert len(seen) < 15


def test_an_avi_whose_pictures_come_out_of_order_is_counted(made):
    video = open_video(made / "mpeg4_b_frames.avi")
    assert isinstance(video, video_file._VideoFile) and video.ticks is None


def test_keyframes_that_a_header_puts_elsewhere_give_no_wrong_frame(made, tmp_path):
    content = bytearray((made / "h264_short_groups.mp4").read_bytes())
    begin = content.find(b"stss") + 8
    (count,) = struct.unpack(">I", content[begin : begin + 4])
    table = slice(begin + 4, begin + 4 + 4 * count)
    first, *others = struct.unpack(f">{count}I", content[table])
    content[table] = struct.pack(f">{count}I", first, *(key + 3 for key in others))
    (tmp_path / "lying.mp4").write_bytes(content)
    assert_frames_are_those_of_decoding_everything(tmp_path / "lying.mp4")


@pytest.mark.parametrize("name", ["h264_short_groups.mp4", "hevc_open_groups.mp4"])
def test_a_header_that_calls_every_frame_a_keyframe_gives_no_wrong_frame(made, tmp_path, name):
    path = tmp_path / name
    path.write_bytes((made / name).read_bytes().replace(b"stss", b"free"))
    assert_frames_are_those_of_decoding_everything(path)


@pytest.mark.parametrize("more", [-5, 5])
@pytest.mark.parametrize(("box", "place"), [(b"stsz", 12), (b"stts", 12)])
def test_a_header_that_says_another_number_of_frames_gives_those_that_are_there(
    made, tmp_path, box, place, more
):
    content = bytearray((made / "h264_short_groups.mp4").read_bytes())
    number = slice(content.find(box) + place, content.find(box) + place + 4)
    content[number] = struct.pack(">I", struct.unpack(">I", content[number])[0] + more)
    path = tmp_path / "lying.mp4"
    path.write_bytes(content)
    assert_frames_are_those_of_decoding_everything(path)


def test_an_avi_that_announces_more_frames_than_it_holds_is_cut_short(made, tmp_path):
    content = bytearray((made / "mpeg4.avi").read_bytes())
    for mark, skip in ((b"avih", 24), (b"strh", 40)):
        place = content.find(mark) + skip
        content[place : place + 4] = struct.pack("<I", NUM_FRAMES + 12)
    (tmp_path / "lying.avi").write_bytes(content)
    with pytest.raises(VideoError, match=r"is cut short: 48 of the 60 frames it announces"):
        open_video(tmp_path / "lying.avi")


def test_frames_of_a_variable_rate_and_behind_an_edit_list_are_those_of_decoding_everything(
    made, tmp_path
):
    ticks = [40 * i + 7 * (i % 5) for i in range(NUM_FRAMES)]
    varied = encode(tmp_path / "varied.mp4", scene(), g="12", bf="3", ticks=ticks)
    assert_frames_are_those_of_decoding_everything(varied)
    with av.open(varied) as source, av.open(tmp_path / "edited.mp4", "w") as edited:
        before = source.streams.video[0]
        after = edited.add_stream_from_template(before)
        for packet in source.demux(before):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts - 4000, packet.dts - 4000
                packet.stream = after
                edited.mux(packet)
    assert open_video(tmp_path / "edited.mp4").num_frames < NUM_FRAMES
    assert_frames_are_those_of_decoding_everything(tmp_path / "edited.mp4")
    assert is_read_quickly(tmp_path / "edited.mp4", 40)


def is_read_quickly(path: Path, number: int) -> bool:
    video = open_video(path)
    assert isinstance(video, video_file._VideoFile) and video.ticks is not None
    with video_container.opened_file(path, trust_headers=True) as (container, stream):
        frames = seek.wanted_frames(container, stream, [number], ticks=video.ticks, keys=video.keys)
        return len(list(frames)) == 1


def test_frames_the_decoder_calls_damaged_are_those_of_decoding_everything(
    made: Path, tmp_path: Path
):
    with av.open(made / "h264_long_group.mp4") as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0)]
    path = tmp_path / "damaged.mp4"
    for begin, size in places[1:]:  # which damage shows depends on how the encoder's threads ran
        if begin is None or size < 150:
            continue
        content = bytearray((made / "h264_long_group.mp4").read_bytes())
        content[begin + size // 3 : begin + size // 3 + 40] = b"\xaa" * 40
        path.write_bytes(content)
        if is_called_damaged(path):
            break
    assert is_called_damaged(path)
    assert_frames_are_those_of_decoding_everything(path)


def is_called_damaged(path: Path) -> bool:
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1  # several may hide the damage
        try:
            return any(frame.is_corrupt for frame in container.decode(video=0))
        except FFmpegError:  # damage that is an error is another test's
            return False


def test_a_keyframe_of_mpeg4_whose_headers_differ_is_no_place_to_start(made, tmp_path):
    content = (made / "mpeg4.avi").read_bytes()
    assert content.count(b"Lavc") == 4
    (tmp_path / "two_encoders.avi").write_bytes(content.replace(b"Lavc", b"XviD", 1))
    video = open_video(tmp_path / "two_encoders.avi")
    assert isinstance(video, video_file._VideoFile)
    assert video.ticks is not None and video.keys.tolist() == [0]
    assert_frames_are_those_of_decoding_everything(tmp_path / "two_encoders.avi")


def test_a_side_too_long_to_be_true_is_refused(made, tmp_path):
    content = bytearray((made / "mjpeg.avi").read_bytes())
    place = content.find(b"strf") + 12
    content[place : place + 2] = b"\x7f\xff"
    (tmp_path / "wide.avi").write_bytes(content)
    words = r"wide.avi has frames of 48 x 65407 pixels; wanted at most 33554432 pixels a frame and"
    with pytest.raises(VideoError, match=words):
        open_video(tmp_path / "wide.avi")


def test_a_frame_too_large_to_be_true_is_refused(made, monkeypatch):
    monkeypatch.setattr(base, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(VideoError, match=r"mjpeg.avi has frames of 48 x 64 pixels; wanted at most"):
        open_video(made / "mjpeg.avi")


# --------------------------------------------------------------------------- folders of frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images, frame1.png to frame12.png, and a file that is none of them."""
    for i, picture in enumerate(scene(12)):
        Image.fromarray(picture).save(tmp_path / f"frame{i + 1}.png")
    (tmp_path / "notes.txt").write_text("taken on a Monday")
    (tmp_path / ".frame0.png").write_bytes(b"left behind by a file manager")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_numbers(folder):
    video = open_video(folder)
    assert (video.num_frames, video.height, video.width) == (12, 48, 64)
    assert video.times_seconds is None
    expected = torch.from_numpy(scene(12)).permute(0, 3, 1, 2)
    assert torch.equal(video.frames([1, 9, 0, 9]), expected[[1, 9, 0, 9]])
    assert torch.equal(pickle.loads(pickle.dumps(video)).frames([11]), expected[[11]])


def test_grey_and_transparent_images_become_rgb(tmp_path):
    Image.new("L", (8, 6), 70).save(tmp_path / "1.png")
    Image.new("RGBA", (8, 6), (1, 2, 3, 0)).save(tmp_path / "2.png")
    frames = open_video(tmp_path).frames([0, 1])
    assert frames[:, :, 0, 0].tolist() == [[70, 70, 70], [1, 2, 3]]


def test_images_of_two_sizes_are_refused_with_both_named(folder):
    Image.new("RGB", (64, 40)).save(folder / "frame5.png")
    with pytest.raises(VideoError, match=r"frame5.png is 40 pixels high.*frame1.png is 48 high"):
        open_video(folder).frames([0, 4])


@pytest.mark.parametrize("content", [b"", b"not an image"])
@pytest.mark.parametrize("number", [1, 5])
def test_an_image_that_is_none_is_refused_by_name(folder, content, number):
    (folder / f"frame{number}.png").write_bytes(content)
    with pytest.raises(VideoError, match=rf"frame{number}.png cannot be read as an image"):
        open_video(folder).frames([0, 4])


def test_an_image_cut_short_is_refused_by_name(folder):
    content = (folder / "frame5.png").read_bytes()
    (folder / "frame5.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match=r"frame5.png cannot be read as an image"):
        open_video(folder).frames([4])


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(VideoError, match=r"is a folder without images; wanted .*\*\.jpg"):
        open_video(tmp_path)


@pytest.mark.parametrize("other", ["flow_x_00001.png", "thumbnail.png", "frame2.jpg"])
def test_images_of_another_series_are_not_taken_for_frames(folder, other):
    Image.new("RGB", (64, 48)).save(folder / other)
    with pytest.raises(VideoError, match=r"holds 13 images of 2 series, .*frame\*\.png.*; wanted"):
        open_video(folder)


def test_images_whose_names_differ_in_any_numbers_are_one_series(tmp_path):
    for name in ("clip_01_t0.5.PNG", "clip_01_t12.75.png", "clip_02_t3.0.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    assert open_video(tmp_path).num_frames == 3


def test_pictures_without_numbers_are_no_video(tmp_path):
    for name in ("cat.jpg", "dog.jpg"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    with pytest.raises(VideoError, match="2 images of 2 series, cat.jpg, dog.jpg; wanted the"):
        open_video(tmp_path)


def test_a_frame_folder_is_told_by_its_images(folder):
    assert is_frame_folder(folder)
    assert not is_frame_folder(folder / "frame1.png")
    assert not is_frame_folder(folder / "missing")
    assert not is_frame_folder(folder.parent)


# ------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 64), (48, 63), (47, 63)])
def test_what_is_written_is_read_back_in_size_time_and_nearly_in_colour(tmp_path, height, width):
    smooth = torch.arange(width).mul(255 // width).byte().expand(12, 3, height, width)
    write_video(tmp_path / "made.mp4", smooth, fps=12.5)
    video = open_video(tmp_path / "made.mp4")
    assert (video.num_frames, video.height, video.width) == (12, height, width)
    assert video.times_seconds is not None
    np.testing.assert_allclose(video.times_seconds, np.arange(12) / 12.5)
    assert (video.frames(range(12)).int() - smooth.int()).abs().float().mean() < 2


@pytest.mark.parametrize(
    ("num_frames", "fps", "crf", "words"),
    [
        (0, 25, 17, r"made.mp4: got num_frames = 0; wanted 1 or more"),
        (1, 0, 17, r"made.mp4: got fps = 0; wanted more than 0"),
        (1, 25, 52, r"made.mp4: got crf = 52; wanted 0 to 51"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, num_frames, fps, crf, words):
    frames = torch.zeros(num_frames, 3, 48, 64, dtype=torch.uint8)
    with pytest.raises(VideoError, match=words):
        write_video(tmp_path / "made.mp4", frames, fps=fps, crf=crf)
    assert not list(tmp_path.iterdir())


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "made.mp4"
    path.write_bytes(b"the old file")

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(video_writer, "VideoFrame", SimpleNamespace(from_ndarray=interrupt))
    with pytest.raises(KeyboardInterrupt):
        write_video(path, torch.zeros(1, 3, 48, 64, dtype=torch.uint8), fps=25)
    assert [file.name for file in tmp_path.iterdir()] == ["made.mp4"]
    assert path.read_bytes() == b"the old file"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "notes").write_text("a file, no folder")
    with pytest.raises(
        OSError, match=r"notes.made.mp4: cannot write the video \(.* is a file, wanted"
    ):
        write_video(
            tmp_path / "notes" / "made.mp4", torch.zeros(1, 3, 4, 4, dtype=torch.uint8), fps=1
        )


def test_frames_too_large_for_the_codec_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(VideoError, match=r"made.mp4 cannot be written as a video"):
        write_video(tmp_path / "made.mp4", torch.zeros(1, 3, 2, 17000, dtype=torch.uint8), fps=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_videos_is_told_from_a_folder_of_frames(tmp_path):
    for name in ("a.mp4", "b.mp4", "c.AVI", "notes.txt"):
        (tmp_path / name).touch()
    words = rf"{tmp_path} is a folder of 3 videos, .*; give {tmp_path}/\*.AVI {tmp_path}/\*.mp4$"
    with pytest.raises(VideoError, match=words):
        open_video(tmp_path)


# ------------------------------------------------------- which folders are videos


def fill(folder: Path, names: Sequence[str]) -> Path:
    """Write small images, and other files that hold no picture."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jpg":
            Image.new("RGB", (16, 16)).save(path)
        else:
            path.write_text("no picture")
    return folder


@pytest.mark.parametrize(
    ("names", "num_frames"),
    [
        (("1.jpg",), 1),
        (("img_00001.jpg", "img_00002.jpg"), 2),
        (("1.jpg", "2.jpg", "n_frames", "notes.txt"), 2),
        (("1.jpg", "2.jpg", "flow/1.jpg"), 2),
        (("1.jpg", ".DS_Store"), 1),
    ],
)
def test_a_folder_of_frames_is_a_video(names: tuple[str, ...], num_frames: int, tmp_path: Path):
    assert open_video(fill(tmp_path, names)).num_frames == num_frames


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.mp4", "thumb.jpg"), r"is a folder of 1 video and 1 image, .*; give \S+/\*\.mp4"),
        (("a.mp4", "b.AVI", "1.jpg", "2.jpg"), "is a folder of 2 videos and 2 images"),
        (("thumb.jpg", "notes.txt"), r"holds 1 image \(thumb.jpg\) and other things \(notes.txt\)"),
        (("thumb.jpg", "walk/a.mp4"), r"holds 1 image \(thumb.jpg\) and other things \(walk\)"),
        (("cat.jpg", "dog.jpg", "walk/notes.txt"), r"holds 2 images .* and other things \(walk\)"),
        (("1.jpg", "2.jpg", "train/walk/a.mp4"), r"holds 2 images .* and other things \(train\)"),
        (("walk/a.mp4", "run/a.mp4"), "is a folder without images; it holds the folders run, walk"),
    ],
)
def test_a_folder_of_other_things_is_no_video(names: tuple[str, ...], words: str, tmp_path: Path):
    with pytest.raises(VideoError, match=words):
        open_video(fill(tmp_path, names))


def test_a_folder_of_videos_names_what_to_give_in_words_for_a_shell(tmp_path: Path):
    folder = fill(tmp_path / "my videos", ("a.mp4", "b.mp4"))
    with pytest.raises(VideoError) as error:
        open_video(folder)
    assert str(error.value).endswith(f"give '{folder}'/*.mp4")


def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(fill(tmp_path, ("1.jpg", "2.jpg")))
    with pytest.raises(VideoError, match="the path of the video is empty"):
        open_video("")
    with pytest.raises(VideoError, match="the path of the video is empty"):
        next(live_frames(""))
