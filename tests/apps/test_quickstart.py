import sys
from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.apps import quickstart as quickstart_module
from motionaware.apps.quickstart import BASELINE, CHALLENGER, RECIPE, quickstart
from motionaware.data.motionpairs import CLASS_NAMES
from motionaware.data.video.open import open_video
from motionaware.engine.config import Recipe
from motionaware.engine.config_io import read_recipe
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import train


@pytest.fixture(scope="module")
def short_recipe(tiny_recipe: Recipe) -> Recipe:
    return replace(
        RECIPE,
        clip=tiny_recipe.clip,
        data=replace(tiny_recipe.data, num_train_clips=12),
        train=replace(RECIPE.train, epochs=1, batch_size=6),
    )


@pytest.mark.slow
def test_quickstart_continues_an_interrupted_run_and_evaluates_predicts_and_draws(
    short_recipe: Recipe, tmp_path: Path
):
    # One of the two runs had finished before the interruption.
    data = replace(short_recipe.data, root=str(tmp_path / "cache"))
    model = replace(short_recipe.model, temporal=BASELINE)
    train(replace(short_recipe, data=data, model=model), tmp_path / "none")
    baseline = (tmp_path / "none" / "last.safetensors").read_bytes()

    result = quickstart(tmp_path, recipe=short_recipe)
    assert (tmp_path / "none" / "last.safetensors").read_bytes() == baseline
    assert {name: report.num_videos for name, report in result.reports.items()} == {
        BASELINE: 12,
        CHALLENGER: 12,
    }
    assert result.true_class in CLASS_NAMES
    assert result.picture.stat().st_size > 10_000
    assert open_video(result.video).num_frames == 12
    for temporal, checkpoint in result.checkpoints.items():
        assert checkpoint.is_file()
        recipe = RunFolder(checkpoint.parent).recipe()
        assert recipe.model.temporal == temporal
        assert recipe.train.seed == 0

    with pytest.raises(ValueError, match="was begun with another recipe"):
        quickstart(tmp_path, recipe=short_recipe, seed=1)


def test_the_recipes_differ_only_in_the_temporal_module(
    short_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipes_by_name: dict[str, Recipe] = {}
    monkeypatch.setattr(
        quickstart_module,
        "_train_side_by_side",
        lambda recipes, folders, progress: recipes_by_name.update(recipes),
    )
    with pytest.raises(FileNotFoundError):  # the training is replaced
        quickstart(tmp_path, recipe=short_recipe, seed=5)
    none, m2a = recipes_by_name[BASELINE], recipes_by_name[CHALLENGER]
    assert replace(none, model=m2a.model) == m2a
    assert replace(none.model, temporal=CHALLENGER) == m2a.model
    assert none.train.seed == 5


def test_a_missing_matplotlib_is_an_error_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"run: pip install 'motionaware\[plots\]'"):
        quickstart(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_recipes_motionpairs_yaml_is_the_recipe_of_quickstart():
    written = read_recipe(Path(__file__).parents[2] / "recipes" / "motionpairs.yaml")
    assert written == replace(RECIPE, model=replace(RECIPE.model, temporal=CHALLENGER))
