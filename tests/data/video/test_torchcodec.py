"""torchcodec is optional, and rarely there: a stand-in takes its place where it is asked for."""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from motionaware.data.motionpairs import render_clip
from motionaware.data.video import torchcodec as video_torchcodec
from motionaware.data.video.open import open_video
from motionaware.data.video.torchcodec import Decoder, open_for_torchcodec
from motionaware.data.video.writer import write_video

FPS = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    clip = render_clip(0, seed=0, num_frames=20, image_size=24)
    write_video(tmp_path / "video.mp4", clip, fps=FPS)
    return tmp_path / "video.mp4"


class StandIn:
    """Gives frames of one colour, 100 + their number, at the times and of the size it is told."""

    num_frames, size, late, asked = 20, (24, 24), 0.0, 0

    def __init__(self, path: str, *, seek_mode: str, num_ffmpeg_threads: int) -> None:
        assert (seek_mode, num_ffmpeg_threads) == ("exact", 1)
        self.metadata = SimpleNamespace(num_frames=self.num_frames, begin_stream_seconds=0.0)

    def get_frames_at(self, indices: list[int]) -> SimpleNamespace:
        type(self).asked += 1
        numbers = torch.tensor(indices)
        data = torch.zeros(len(indices), 3, *self.size, dtype=torch.uint8)
        data += (100 + numbers)[:, None, None, None].to(torch.uint8)
        return SimpleNamespace(data=data, pts_seconds=numbers.double() / FPS + self.late)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    class Fresh(StandIn):
        pass

    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=Fresh))
    return Fresh


def test_a_decoder_is_made_before_torchcodec_is_chosen(stand_in):
    both: list[tuple[Decoder, object]] = [("torchcodec", open_for_torchcodec), ("pyav", open_video)]
    for decoder, opens in both:
        opener = video_opener(decoder, square_pixels=False, size_change="refuse")
        assert isinstance(opener, partial) and opener.func is opens
        assert opener.keywords == {"square_pixels": False, "size_change": "refuse"}


def test_where_no_decoder_can_be_made_it_is_said_what_to_install(stand_in, monkeypatch):
    def no_ffmpeg(*facts, **more):
        raise RuntimeError("Could not load libtorchcodec.\nA page of reasons")

    monkeypatch.setattr(stand_in, "__init__", no_ffmpeg)
    words = (
        r"\(Could not load libtorchcodec\.\); install it and FFmpeg's libraries .* data\.decoder"
    )
    with pytest.raises(ImportError, match=words):
        video_opener("torchcodec")


def test_without_torchcodec_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.delitem(sys.modules, "torchcodec.decoders", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'motionaware\[torchcodec\]'"):
        video_opener("torchcodec")


def test_frames_are_torchcodecs_where_it_agrees_with_the_index(stand_in, path):
    frames = open_for_torchcodec(path).frames([7, 2, 2])
    assert frames[:, 0, 0, 0].tolist() == [107, 102, 102]


@pytest.mark.parametrize(
    "differs", [{"num_frames": 19}, {"size": (24, 26)}, {"late": 1 / FPS}], ids=str
)
def test_a_file_on_which_it_does_not_agree_is_read_by_pyav(stand_in, path, monkeypatch, differs):
    for name, value in differs.items():
        monkeypatch.setattr(stand_in, name, value)
    assert torch.equal(open_for_torchcodec(path).frames([7, 2]), open_video(path).frames([7, 2]))


def test_a_file_it_cannot_read_is_read_by_pyav(stand_in, path, monkeypatch):
    def broken(self, indices):
        raise RuntimeError("Requested next frame while there are no more frames left to decode.")

    monkeypatch.setattr(stand_in, "get_frames_at", broken)
    assert torch.equal(open_for_torchcodec(path).frames([7]), open_video(path).frames([7]))


def test_few_frames_are_in_memory_at_once(stand_in, path, monkeypatch):
    monkeypatch.setattr(video_torchcodec, "_AT_ONCE", 8)
    assert len(list(open_for_torchcodec(path).pictures())) == 20
    assert stand_in.asked == 3


def test_a_folder_of_frames_is_read_as_ever(stand_in, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), (3, 0, 0)).save(tmp_path / "1.png")
    assert open_for_torchcodec(tmp_path).frames([0])[0, 0, 0, 0] == 3


def test_torchcodec_itself_gives_the_same_frames_of_h264(path):
    try:
        opener = video_opener("torchcodec")
    except ImportError as error:
        pytest.skip(str(error))
    assert list(opener(path)._agreed(list(range(20))))  # type: ignore[attr-defined]
    assert torch.equal(opener(path).frames(range(20)), open_video(path).frames(range(20)))
