"""Paths in a recipe become absolute when training starts; moved data are found."""

from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.engine.config import DataConfig, ModelConfig, Recipe
from motionaware.engine.paths import RUN_FOLDER, locate_data, with_absolute_paths
from motionaware.errors import DataError


def test_relative_paths_are_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").touch()
    recipe = Recipe(
        data=DataConfig(root="d", cache_dir="../c"), model=ModelConfig(pretrained="w.safetensors")
    )
    absolute = with_absolute_paths(recipe)
    assert absolute.data.root == str(tmp_path / "d")
    assert absolute.data.cache_dir == f"{tmp_path}/../c"
    assert absolute.model.pretrained == str(tmp_path / "w.safetensors")
    assert with_absolute_paths(absolute) == absolute


@pytest.mark.parametrize("root", [None, "/data/d", "https://example.org/shards"])
@pytest.mark.parametrize("pretrained", [True, False, "package", "gone.safetensors"])
def test_other_values_are_not_changed(root: str | None, pretrained: bool | str):
    recipe = Recipe(data=DataConfig(root=root), model=ModelConfig(pretrained=pretrained))
    assert with_absolute_paths(recipe) == recipe


def test_data_at_their_old_path_are_preferred_to_data_next_to_the_run(tmp_path: Path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old / "d", new / "d"):
        folder.mkdir(parents=True)
    data = DataConfig(root=str(old / "d"))
    trained = {RUN_FOLDER: str(old / "r")}
    assert locate_data(data, checkpoint=new / "r" / "best.safetensors", trained=trained) == data


def test_data_that_were_moved_with_their_run_are_found(tmp_path: Path):
    old, new = tmp_path / "old", tmp_path / "new"
    (new / "d").mkdir(parents=True)
    data, trained = DataConfig(root=str(old / "d")), {RUN_FOLDER: str(old / "runs" / "r")}
    file = new / "runs" / "r" / "best.safetensors"
    found = locate_data(data, checkpoint=file, trained=trained)
    assert found == replace(data, root=str(new / "d"))


def test_a_missing_cache_is_left_out(tmp_path: Path):
    data = DataConfig(root=str(tmp_path), cache_dir=str(tmp_path / "gone"))
    found = locate_data(data, checkpoint=tmp_path / "best.safetensors", trained={})
    assert found == replace(data, cache_dir=None)


def test_data_at_neither_path_are_one_error(tmp_path: Path):
    data, trained = DataConfig(root="/gone/d"), {RUN_FOLDER: "/gone/r"}
    message = rf"looked for /gone/d and {tmp_path}/d, found no folder there; .* with --root"
    with pytest.raises(DataError, match=message):
        locate_data(data, checkpoint=tmp_path / "r" / "best.safetensors", trained=trained)
