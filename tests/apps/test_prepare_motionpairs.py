from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.apps.prepare_motionpairs import prepare_motionpairs
from motionaware.data.annotations.table import read_split
from motionaware.data.motionpairs import CLASS_NAMES, MotionPairs
from motionaware.data.video.open import open_video
from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.train import train

FEW = {"train": 12, "val": 12}


def test_each_clip_is_written_as_a_video_of_its_class(video_folder: Path):
    split = read_split("folder", video_folder, "train")
    assert split.class_names == CLASS_NAMES  # in the order of the data set
    clips = MotionPairs(split="train", num_clips=12, num_frames=6, image_size=32)
    assert len(split.examples) == 12
    for example in split.examples:
        clip, label = clips[int(example.path.stem)]
        assert CLASS_NAMES[label] == split.class_names[example.label]
        frames = open_video(example.path).frames(range(6))
        assert (frames.float() - clip.float()).abs().mean() < 8  # H.264 is lossy


def test_a_repeated_call_writes_only_missing_files(tmp_path: Path):
    assert prepare_motionpairs(tmp_path, num_clips=FEW, num_frames=4, image_size=32) == 24
    videos = sorted(tmp_path.glob("*/*/*.mp4"))
    content = videos[5].read_bytes()
    videos[5].unlink()
    before = {path: path.stat().st_mtime_ns for path in videos if path.exists()}
    assert prepare_motionpairs(tmp_path, num_clips=FEW, num_frames=4, image_size=32) == 1
    assert videos[5].read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"image_size": 64}, {"num_frames": 5}])
def test_other_settings_in_the_same_folder_are_refused(change: dict[str, int], tmp_path: Path):
    def write(*, num_frames: int = 4, image_size: int = 32, seed: int = 0) -> None:
        prepare_motionpairs(
            tmp_path,
            num_clips={"train": 1},
            num_frames=num_frames,
            image_size=image_size,
            seed=seed,
        )

    write()
    with pytest.raises(ValueError, match="holds videos with the settings .* choose another folder"):
        write(**change)


def test_the_error_names_an_unknown_split(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"splits \['trian'\] are unknown; choose train, val, test"
    ):
        prepare_motionpairs(tmp_path, num_clips={"trian": 1})


def test_a_wrong_number_of_clips_creates_no_folder(tmp_path: Path):
    with pytest.raises(ValueError, match="num_clips = 0 is too few"):
        prepare_motionpairs(tmp_path / "out", num_clips={"train": 12, "val": 0})
    assert not (tmp_path / "out").exists()


def test_a_model_trains_on_the_videos(tiny_recipe: Recipe, video_folder: Path, tmp_path: Path):
    data = DataConfig(kind="folder", root=str(video_folder), num_workers=1)
    recipe = replace(tiny_recipe, data=data, train=replace(tiny_recipe.train, epochs=1))
    assert train(recipe, tmp_path / "run").num_videos == 12
