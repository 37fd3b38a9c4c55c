"""Damaged files give frames or one clear error, in limited time and memory.

See benchmarks/bad_input.py.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from PIL import Image

from motionaware.data.video import base, container
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "data" / "videos"


@pytest.fixture(scope="module")
def bad_input() -> ModuleType:
    path = REPOSITORY / "benchmarks" / "bad_input.py"
    spec = importlib.util.spec_from_file_location("bad_input", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bad_input"] = module  # its dataclass needs the module here
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sources(bad_input: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return bad_input.write_sources(tmp_path_factory.mktemp("sources"))


def test_a_hundred_damaged_files_give_frames_or_one_clear_error(bad_input, sources):
    outcomes = bad_input.run(sources, 100, seed=5)
    assert [outcome for outcome in outcomes if outcome.kind not in bad_input.EXPECTED] == []
    assert {outcome.kind for outcome in outcomes} == {*bad_input.EXPECTED}
    for outcome in outcomes:
        names_file = outcome.name in outcome.message and "; " in outcome.message
        assert outcome.kind == "frames" or names_file


def test_the_undamaged_sources_can_be_read(bad_input, sources, tmp_path):
    for path in sources:
        outcome = bad_input.attempt(path.name, path.read_bytes(), tmp_path)
        assert (outcome.kind, outcome.message) == ("frames", "")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder of real videos")
def test_every_real_video_gives_frames_or_one_clear_error(bad_input, tmp_path):
    for path in sorted(SHARED.iterdir()):
        outcome = bad_input.attempt(path.name, path.read_bytes(), tmp_path)
        assert outcome.kind in bad_input.EXPECTED, outcome


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("raise ValueError", "other"), ("raise MemoryError", "memory"), ("kill", "crash")],
)
def test_unexpected_outcomes_are_distinguished(fault, kind, bad_input, tmp_path, monkeypatch):
    def read(path: Path) -> None:
        if fault == "kill":
            import os

            os.kill(os.getpid(), 9)
        raise ValueError if fault.endswith("ValueError") else MemoryError

    monkeypatch.setattr(bad_input, "open_and_read", read)
    assert bad_input.attempt("a.mp4", b"", tmp_path).kind == kind


def test_exceeding_the_time_limit_is_a_hang(bad_input, tmp_path, monkeypatch):
    import time

    monkeypatch.setattr(bad_input, "open_and_read", lambda path: time.sleep(60))
    monkeypatch.setattr(bad_input, "TIME_LIMIT_SECONDS", 0.3)
    assert bad_input.attempt("a.mp4", b"", tmp_path).kind == "hang"


def test_an_image_that_declares_a_huge_size_is_refused(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.new("RGB", (32, 24)).save(folder / "1.jpg")
    content = bytearray((folder / "1.jpg").read_bytes())
    offset = content.find(b"\xff\xc0") + 5
    content[offset : offset + 4] = b"\x40\x00\x40\x00"  # 16384 x 16384
    (folder / "1.jpg").write_bytes(content)
    with pytest.raises(VideoError, match=r"1\.jpg (has frames of 16384 x 16384|cannot be read)"):
        open_video(folder)


def test_frames_that_grow_beyond_the_limit_within_a_file_are_refused(tmp_path, monkeypatch):
    for name, size in (("a.ts", 48), ("b.ts", 480)):
        write_ts(tmp_path / name, size)
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert open_video(joined).num_frames == 20
    monkeypatch.setattr(container, "MAX_FRAME_PIXELS", 100_000)
    with pytest.raises(VideoError, match=r"joined\.ts: frame \d+ does not decode: .*; .*fetch it"):
        open_video(joined)


def write_ts(path: Path, size: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        assert isinstance(stream, VideoStream)
        stream.height = stream.width = size
        stream.pix_fmt = "yuv420p"
        for number in range(10):
            frame = np.full((size, size, 3), 20 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_frames_that_do_not_fit_in_memory_are_refused_with_the_size_they_need(
    tmp_path, monkeypatch
):
    Image.new("RGB", (2000, 1000)).save(tmp_path / "1.png")

    def raise_memory_error(shape: tuple[int, ...], dtype: type) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(base.np, "empty", raise_memory_error)
    message = r"50 frames of 1000 x 2000 pixels need 0\.3 GB, more memory than is free; read fewer"
    with pytest.raises(VideoError, match=message):
        open_video(tmp_path).frames([0] * 50)
