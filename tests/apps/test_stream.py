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


def remux(video: Path, path: Path) -> Path:
    """Copy the packets to another container format, which the suffix of `path` selects."""
    import av

    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        given = source.streams.video[0]
        copied = target.add_stream_from_template(given)
        for packet in source.demux(given):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return path


def test_each_frame_of_a_file_has_a_prediction_and_a_time(video):
    lines: list[str] = []
    moments = list(stream(tiny(causal=True), video, log=lines.append, clock=lambda: 0.0))
    assert [moment.frame for moment in moments] == list(range(20))
    assert [moment.seconds for moment in moments] == pytest.approx([n / 10 for n in range(20)])
    assert lines == [
        "20 frames, 1.9 s, in 0.0 s; 20 processed, 0 not selected, 0 dropped because they were "
        "late, 0 lost by the camera"
    ]


def test_frames_that_fps_does_not_select_are_counted(video):
    lines: list[str] = []
    found = stream(tiny(causal=True), video, fps=2, log=lines.append, clock=lambda: 0.0)
    assert [moment.frame for moment in found] == [0, 5, 10, 15]
    assert "4 processed, 16 not selected" in lines[-1]


def test_a_lag_is_logged_and_drops_no_frames(video):
    lines: list[str] = []
    clock = count(0.0, 0.5)
    moments = list(stream(tiny(causal=True), video, log=lines.append, clock=lambda: next(clock)))
    assert len(moments) == 20
    assert "behind real time; process fewer frames per second" in lines[0]
    assert moments[-1].behind_seconds > 5


def test_drop_drops_late_frames_counts_and_logs_them(video):
    lines: list[str] = []
    clock = count(0.0, 0.3)
    found = stream(tiny(causal=True), video, drop=True, log=lines.append, clock=lambda: next(clock))
    moments = list(found)
    dropped = 20 - len(moments)
    assert 0 < dropped < 20
    assert any("late, dropped; 1 dropped so far" in line for line in lines)
    assert f"{len(moments)} processed, 0 not selected, {dropped} dropped" in lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps = 0; wanted frames per second"),
        ({"fps": float("nan")}, "fps = nan; wanted frames per second"),
        ({"fps": float("inf")}, "fps = inf; wanted frames per second"),
        ({"top_k": 0}, "top_k = 0; wanted at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        stream(tiny(causal=True), "video.mp4", **options)


def test_the_old_keyword_tell_is_accepted_with_a_warning(video):
    lines: list[str] = []
    with pytest.warns(DeprecationWarning, match="stream.*'tell' is now 'log'"):
        list(stream(tiny(causal=True), video, tell=lines.append))  # pyright: ignore[reportCallIssue]
    assert lines


def test_the_error_of_nan_scores_names_the_frame(video):
    model = tiny(causal=True)
    torch.nn.init.constant_(model.head.bias, math.nan)
    with pytest.raises(NonFiniteScores, match=r"video\.mp4, frame 0 \(0\.00 s\) are infinite or"):
        next(stream(model, video))


def test_the_error_names_a_missing_file_or_camera():
    with pytest.raises(VideoError, match="none.mp4 does not exist; wanted a video file, a folder"):
        list(stream(tiny(causal=True), "none.mp4"))
    with pytest.raises(VideoError, match="/dev/video9876 does not open .* check that it is plug"):
        list(stream(tiny(causal=True), "9876"))


def test_the_command_prints_json_lines(video, tmp_path, capsys):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    arguments = ["stream", str(tmp_path / "model.safetensors"), str(video), "--json", "--fps", "5"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(0, 20, 2))


def command(model: Path, source: Path) -> list[str | Path]:
    return [sys.executable, "-m", "motionaware", "stream", model, source]


def test_a_closed_pipe_ends_the_command_without_an_error_message(video, tmp_path):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    arguments = command(tmp_path / "model.safetensors", video)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        (line,) = run.stderr.read().decode().splitlines()
    assert "processed" in line
    assert run.returncode == 141


def test_ctrl_c_prints_the_totals(video, tmp_path):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    arguments = command(tmp_path / "model.safetensors", Path("-"))
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(arguments, **pipes) as run:
        assert run.stdin is not None and run.stdout is not None and run.stderr is not None
        run.stdin.write(remux(video, tmp_path / "piped.mkv").read_bytes())
        run.stdin.flush()  # without closing it
        run.stdout.readline()
        run.send_signal(signal.SIGINT)
        summary, last = run.stderr.read().decode().splitlines()
    assert "processed" in summary and last == "motionaware: interrupted"
    assert run.returncode == 130


def test_the_error_for_a_model_that_is_not_causal_says_how_to_train_one(video, tmp_path, capsys):
    save(tiny(causal=False), tmp_path / "model.safetensors")
    assert main(["stream", str(tmp_path / "model.safetensors"), str(video)]) == 1
    assert "train one with model.causal: true" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "code"), [(".mkv", 0), (".mp4", 1)])
def test_a_pipe_is_read_or_the_error_says_what_to_do(suffix, code, video, tmp_path):
    save(tiny(causal=True), tmp_path / "model.safetensors")
    with remux(video, tmp_path / f"piped{suffix}").open("rb") as file:
        arguments = command(tmp_path / "model.safetensors", Path("-"))
        with subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as pipe:  # cannot seek
            done = subprocess.run(arguments, stdin=pipe.stdout, capture_output=True, text=True)
    assert done.returncode == code
    assert len(done.stdout.splitlines()) == (20 if code == 0 else 0)
    assert code == 0 or "read from its start" in done.stderr


def test_a_changing_frame_size_is_logged_once(changing_video):
    logged: list[str] = []
    moments = list(stream(tiny(causal=True), changing_video, log=logged.append))
    assert len(moments) == 20
    assert sum("the size of its frames changes" in line for line in logged) == 1
