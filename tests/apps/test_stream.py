import json
import math
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch

from motionaware.apps.stream import stream
from motionaware.cli import main
from motionaware.clip import ClipSpec
from motionaware.data.video.writer import write_video
from motionaware.errors import NonFiniteScores, VideoError
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


def rewritten(video: Path, path: Path) -> Path:
    """The same packets in another file, of the kind that its name says."""
    import av

    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        given = source.streams.video[0]
        copied = target.add_stream_from_template(given)
        for packet in source.demux(given):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return path


def test_every_frame_of_a_file_is_answered_with_its_time(video):
    said: list[str] = []
    moments = list(stream(tiny(causal=True), video, log=said.append, clock=lambda: 0.0))
    assert [moment.frame for moment in moments] == list(range(20))
    assert [moment.seconds for moment in moments] == pytest.approx([n / 10 for n in range(20)])
    assert said == [
        "20 frames, 1.9 s, in 0.0 s; looked at 20, 0 lay between those asked for, 0 dropped "
        "because they were late, 0 lost by the camera"
    ]


def test_frames_between_those_asked_for_are_counted(video):
    said: list[str] = []
    found = stream(tiny(causal=True), video, fps=2, log=said.append, clock=lambda: 0.0)
    assert [moment.frame for moment in found] == [0, 5, 10, 15]
    assert "looked at 4, 16 lay between" in said[-1]


def test_falling_behind_is_said_and_drops_nothing(video):
    said: list[str] = []
    clock = count(0.0, 0.5)
    moments = list(stream(tiny(causal=True), video, log=said.append, clock=lambda: next(clock)))
    assert len(moments) == 20
    assert "behind real time; look at fewer frames a second" in said[0]
    assert moments[-1].behind_seconds > 5


def test_late_frames_are_dropped_where_asked_counted_and_said(video):
    said: list[str] = []
    clock = count(0.0, 0.3)
    found = stream(tiny(causal=True), video, drop=True, log=said.append, clock=lambda: next(clock))
    moments = list(found)
    dropped = 20 - len(moments)
    assert 0 < dropped < 20
    assert any("late, not looked at; 1 dropped so far" in line for line in said)
    assert f"looked at {len(moments)}, 0 lay between those asked for, {dropped} dropped" in said[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fps": 0}, "fps = 0; it counts frames"),
        ({"fps": float("nan")}, "fps = nan; it counts frames"),
        ({"fps": float("inf")}, "fps = inf; it counts frames"),
        ({"top_k": 0}, "top_k = 0; name at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        stream(tiny(causal=True), "video.mp4", **options)


def test_nan_scores_are_an_error_that_names_the_frame(video):
    model = tiny(causal=True)
    torch.nn.init.constant_(model.head.bias, math.nan)
    with pytest.raises(NonFiniteScores, match=r"video\.mp4, frame 0 \(0\.00 s\) are infinite or"):
        next(stream(model, video))


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


def command(model: Path, source: Path) -> list[str | Path]:
    return [sys.executable, "-m", "motionaware", "stream", model, source]


def test_who_stops_reading_ends_it_without_a_complaint(video, tmp_path):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    words = command(tmp_path / "model.safetensors", video)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        (line,) = run.stderr.read().decode().splitlines()
    assert "looked at" in line
    assert run.returncode == 141


def test_ctrl_c_sums_up_what_was_seen(video, tmp_path):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    words = command(tmp_path / "model.safetensors", Path("-"))
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, **pipes) as run:
        assert run.stdin is not None and run.stdout is not None and run.stderr is not None
        run.stdin.write(rewritten(video, tmp_path / "piped.mkv").read_bytes())
        run.stdin.flush()  # and more may come
        run.stdout.readline()
        run.send_signal(signal.SIGINT)
        summary, last = run.stderr.read().decode().splitlines()
    assert "looked at" in summary and last == "motionaware: interrupted"
    assert run.returncode == 130


def test_the_command_line_says_how_to_get_a_causal_model(video, tmp_path, capsys):
    save(tiny(causal=False), tmp_path / "model.safetensors")
    assert main(["stream", str(tmp_path / "model.safetensors"), str(video)]) == 1
    assert "train one with model.causal: true" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "code"), [(".mkv", 0), (".mp4", 1)])
def test_a_pipe_is_read_or_its_remedy_said(suffix, code, video, tmp_path):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    with rewritten(video, tmp_path / f"piped{suffix}").open("rb") as file:
        words = command(tmp_path / "model.safetensors", Path("-"))
        with subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as pipe:  # cannot seek
            done = subprocess.run(words, stdin=pipe.stdout, capture_output=True, text=True)
    assert done.returncode == code
    assert len(done.stdout.splitlines()) == (20 if code == 0 else 0)
    assert code == 0 or "read from its start" in done.stderr


def test_a_size_that_changes_is_said_once(changing_video):
    told: list[str] = []
    moments = list(stream(tiny(causal=True), changing_video, log=told.append))
    assert len(moments) == 20
    assert sum("the size of its frames changes" in line for line in told) == 1
