"""torchcodec is optional and rarely installed: most tests replace it by a fake."""

import pickle
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from motionaware.data.motionpairs import render_clip
from motionaware.data.video import torchcodec
from motionaware.data.video.base import Video
from motionaware.data.video.open import open_video, video_opener
from motionaware.data.video.writer import write_video

FPS = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    clip = render_clip(0, seed=0, num_frames=20, image_size=24)
    write_video(tmp_path / "video.mp4", clip, fps=FPS)
    return tmp_path / "video.mp4"


class FakeDecoder:
    """Returns frames of one grey value, 100 + index, with the times and the size it is set to."""

    num_frames, size, delay_seconds, num_calls = 20, (24, 24), 0.0, 0

    def __init__(self, path: str, *, seek_mode: str, num_ffmpeg_threads: int) -> None:
        assert (seek_mode, num_ffmpeg_threads) == ("exact", 1)
        self.metadata = SimpleNamespace(num_frames=self.num_frames, begin_stream_seconds=0.0)

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        type(self).num_calls += 1
        index = torch.tensor(indices)
        data = torch.zeros(len(indices), 3, *self.size, dtype=torch.uint8)
        data += (100 + index)[:, None, None, None].to(torch.uint8)
        return SimpleNamespace(data=data, pts_seconds=index.double() / FPS + self.delay_seconds)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeDecoder]:
    """Install a fake torchcodec; return its decoder, a new class whose attributes may be set."""

    class Fresh(FakeDecoder):
        pass

    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=Fresh))
    return Fresh


def open_for_torchcodec(path: Path) -> Video:
    return video_opener("torchcodec")(path)


def test_a_failing_decoder_is_reported_with_what_to_install(fake, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Could not load libtorchcodec.\nMany more lines")

    monkeypatch.setattr(fake, "__init__", fail)
    message = (
        r"\(Could not load libtorchcodec\.\); install it and FFmpeg's libraries .* data\.decoder"
    )
    with pytest.raises(ImportError, match=message):
        video_opener("torchcodec")


def test_a_missing_torchcodec_is_reported_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.delitem(sys.modules, "torchcodec.decoders", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'motionaware\[torchcodec\]'"):
        video_opener("torchcodec")


def test_torchcodec_decodes_a_file_that_matches_the_index(fake, path):
    frames = open_for_torchcodec(path).frames([7, 2, 2])
    assert frames[:, 0, 0, 0].tolist() == [107, 102, 102]


@pytest.mark.parametrize(
    "differs", [{"num_frames": 19}, {"size": (24, 26)}, {"delay_seconds": 1 / FPS}], ids=str
)
def test_pyav_decodes_a_file_that_does_not_match_the_index(fake, path, monkeypatch, differs):
    for name, value in differs.items():
        monkeypatch.setattr(fake, name, value)
    assert torch.equal(open_for_torchcodec(path).frames([7, 2]), open_video(path).frames([7, 2]))


def test_pyav_decodes_a_file_that_torchcodec_cannot(fake, path, monkeypatch):
    def fail(self, indices):
        raise RuntimeError("Requested next frame while there are no more frames left to decode.")

    monkeypatch.setattr(fake, "get_frames_at", fail)
    assert torch.equal(open_for_torchcodec(path).frames([7]), open_video(path).frames([7]))


def test_frames_are_decoded_in_small_batches(fake, path, monkeypatch):
    monkeypatch.setattr(torchcodec, "_BATCH_FRAMES", 8)
    assert len(list(open_for_torchcodec(path).iter_frames())) == 20
    assert fake.num_calls == 3


def test_options_are_passed_on_to_open_video(fake, tmp_path, moving_pattern, encode_video):
    path = encode_video(tmp_path / "a.mp4", moving_pattern(2), aspect_ratio=Fraction(2))
    assert video_opener("torchcodec", square_pixels=False)(path).width == 64
    assert video_opener("torchcodec")(path).width == 128


def test_an_opener_can_be_sent_to_a_worker(fake):
    assert pickle.loads(pickle.dumps(video_opener("torchcodec"))).func


def test_a_folder_of_frames_is_read_without_torchcodec(fake, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), (3, 0, 0)).save(tmp_path / "1.png")
    assert open_for_torchcodec(tmp_path).frames([0])[0, 0, 0, 0] == 3


def test_the_real_torchcodec_decodes_h264_to_the_frames_of_pyav(path):
    try:
        opener = video_opener("torchcodec")
    except ImportError as error:
        pytest.skip(str(error))
    assert list(opener(path)._decode_verified(list(range(20))))  # type: ignore[attr-defined]
    assert torch.equal(opener(path).frames(range(20)), open_video(path).frames(range(20)))
