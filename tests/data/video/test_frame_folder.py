import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from motionaware.data.video.frame_folder import is_frame_folder
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError


@pytest.fixture
def folder(tmp_path: Path, moving_pattern) -> Path:
    """Return a folder of twelve images, frame1.png to frame12.png, and two other files."""
    for i, frame in enumerate(moving_pattern(12)):
        Image.fromarray(frame).save(tmp_path / f"frame{i + 1}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".frame0.png").write_bytes(b"left by a file manager")
    return tmp_path


def test_images_are_sorted_by_their_numbers(folder, moving_pattern):
    video = open_video(folder)
    assert (video.num_frames, video.height, video.width) == (12, 48, 64)
    assert video.times_seconds is None
    expected = torch.from_numpy(moving_pattern(12)).permute(0, 3, 1, 2)
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
def test_a_file_that_is_not_an_image_is_refused_by_name(folder, content, number):
    (folder / f"frame{number}.png").write_bytes(content)
    with pytest.raises(VideoError, match=rf"frame{number}.png cannot be read as an image"):
        open_video(folder).frames([0, 4])


def test_a_truncated_image_is_refused_by_name(folder):
    content = (folder / "frame5.png").read_bytes()
    (folder / "frame5.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match=r"frame5.png cannot be read as an image"):
        open_video(folder).frames([4])


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(VideoError, match=r"is a folder without images; wanted .*\*\.jpg"):
        open_video(tmp_path)


@pytest.mark.parametrize("other", ["flow_x_00001.png", "thumbnail.png", "frame2.jpg"])
def test_images_of_another_series_are_refused(folder, other):
    Image.new("RGB", (64, 48)).save(folder / other)
    with pytest.raises(VideoError, match=r"holds 13 images of 2 series, .*frame\*\.png.*; wanted"):
        open_video(folder)


def test_names_that_differ_in_several_numbers_are_one_series(tmp_path):
    for name in ("clip_01_t0.5.PNG", "clip_01_t12.75.png", "clip_02_t3.0.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    assert open_video(tmp_path).num_frames == 3


def test_images_without_numbers_are_not_a_video(tmp_path):
    for name in ("cat.jpg", "dog.jpg"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    with pytest.raises(VideoError, match="2 images of 2 series, cat.jpg, dog.jpg; wanted the"):
        open_video(tmp_path)


def test_a_frame_folder_is_a_folder_that_contains_an_image(folder):
    assert is_frame_folder(folder)
    assert not is_frame_folder(folder / "frame1.png")
    assert not is_frame_folder(folder / "missing")
    assert not is_frame_folder(folder.parent)


# --------------------------------------------------------- folders that contain other files


def fill(folder: Path, names: Sequence[str]) -> Path:
    """Write small images for the names that end in .jpg, and text files for the others."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jpg":
            Image.new("RGB", (16, 16)).save(path)
        else:
            path.write_text("not an image")
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
    ("names", "message"),
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
def test_a_folder_of_other_things_is_refused(names: tuple[str, ...], message: str, tmp_path: Path):
    with pytest.raises(VideoError, match=message):
        open_video(fill(tmp_path, names))


def test_a_folder_of_videos_is_refused_with_the_patterns_to_give(tmp_path):
    fill(tmp_path, ("a.mp4", "b.mp4", "c.AVI", "notes.txt"))
    message = rf"{tmp_path} is a folder of 3 videos, .*; give {tmp_path}/\*.AVI {tmp_path}/\*.mp4$"
    with pytest.raises(VideoError, match=message):
        open_video(tmp_path)


def test_the_patterns_to_give_are_quoted_for_the_shell(tmp_path: Path):
    folder = fill(tmp_path / "my videos", ("a.mp4", "b.mp4"))
    with pytest.raises(VideoError) as error:
        open_video(folder)
    assert str(error.value).endswith(f"give '{folder}'/*.mp4")
