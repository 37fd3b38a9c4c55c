import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch

from motionaware.apps.stream import stream
from motionaware.cli import main
from motionaware.clip import ClipSpec
from motionaware.data.video import VideoError
from motionaware.data.video_writer import write_video
from motionaware.models.checkpoint import save
from motionaware.models.recognizer import VideoRecognizer, create_model


def tiny(*, causal: bool) -> VideoRecognizer:
    torch.manual_seed(0)
    clip = ClipSpec(num_frames=4, image_size=32)
    return create_model(
        "resnet18_quarter",
        temporal="m2a",
        num_frames=4,
        class_names=["cat", "dog"],
        clip=clip,
        causal=causal,
    ).eval()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two seconds at ten frames a second."""
    path = tmp_path / "video.mp4"
    write_video(path, torch.randint(256, (20, 3, 48, 64), dtype=torch.uint8), fps=10)
    return path


def test_every_frame_of_a_file_is_answered_with_its_time(video):
    said: list[str] = []
    moments = list(stream(tiny(causal=True), video, tell=said.append, clock=lambda: 0.0))
    assert [moment.frame for moment in moments] == list(range(20))
    assert [moment.seconds for moment in moments] == pytest.approx([n / 10 for n in range(20)])
    assert said == [
        "20 frames, 1.9 s, in 0.0 s; looked at 20, 0 lay between those asked for, 0 dropped "
        "because they were late, 0 lost by the camera"
    ]


def test_frames_between_those_asked_for_are_counted(video):
    said: list[str] = []
    found = stream(tiny(causal=True), video, fps=2, tell=said.append, clock=lambda: 0.0)
    assert [moment.frame for moment in found] == [0, 5, 10, 15]
    assert "looked at 4, 16 lay between" in said[-1]


def test_falling_behind_is_said_and_drops_nothing(video):
    said: list[str] = []
    clock = count(0.0, 0.5)
    moments = list(stream(tiny(causal=True), video, tell=said.append, clock=lambda: next(clock)))
    assert len(moments) == 20
    assert "behind real time; look at fewer frames a second" in said[0]
    assert moments[-1].behind_seconds > 5


def test_late_frames_are_dropped_where_asked_counted_and_said(video):
    said: list[str] = []
    clock = count(0.0, 0.3)
    found = stream(tiny(causal=True), video, drop=True, tell=said.append, clock=lambda: next(clock))
    moments = list(found)
    dropped = 20 - len(moments)
    assert 0 < dropped < 20
    assert any("late, not looked at; 1 dropped so far" in line for line in said)
    assert f"looked at {len(moments)}, 0 lay between those asked for, {dropped} dropped" in said[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"fps": 0}, "fps = 0; it counts frames"), ({"top_k": 0}, "top_k = 0; name at least 1")],
)
def test_numbers_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        stream(tiny(causal=True), "video.mp4", **options)


def test_what_is_not_there_is_said():
    with pytest.raises(VideoError, match="none.mp4 does not exist; wanted a video file, a folder"):
        list(stream(tiny(causal=True), "none.mp4"))
    with pytest.raises(VideoError, match="/dev/video9876 does not open .* check that it is plug"):
        list(stream(tiny(causal=True), "9876"))


def test_the_command_line_prints_json_lines(video, tmp_path, capsys):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    words = ["stream", str(tmp_path / "model.safetensors"), str(video), "--json", "--fps", "5"]
    assert main(words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(0, 20, 2))


def test_the_command_line_says_how_to_get_a_causal_model(video, tmp_path, capsys):
    save(tiny(causal=False), tmp_path / "model.safetensors")
    assert main(["stream", str(tmp_path / "model.safetensors"), str(video)]) == 1
    assert "train one with model.causal: true" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "code"), [(".mkv", 0), (".mp4", 1)])
def test_a_pipe_is_read_or_its_remedy_said(suffix, code, video, tmp_path):
    import av

    save(tiny(causal=True), tmp_path / "model.safetensors")
    piped = tmp_path / f"piped{suffix}"
    with av.open(str(video)) as source, av.open(str(piped), "w") as target:
        given = source.streams.video[0]
        copied = target.add_stream_from_template(given)
        for packet in source.demux(given):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    with piped.open("rb") as file:
        words = [sys.executable, "-m", "motionaware", "stream", tmp_path / "model.safetensors", "-"]
        with subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as pipe:  # cannot seek
            done = subprocess.run(words, stdin=pipe.stdout, capture_output=True, text=True)
    assert done.returncode == code
    assert len(done.stdout.splitlines()) == (20 if code == 0 else 0)
    assert code == 0 or "read from its start" in done.stderr
