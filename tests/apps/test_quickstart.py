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
def short(tiny_recipe: Recipe) -> Recipe:
    return replace(
        RECIPE,
        clip=tiny_recipe.clip,
        data=replace(tiny_recipe.data, num_train_clips=12),
        train=replace(RECIPE.train, epochs=1, batch_size=6),
    )


@pytest.mark.slow
def test_it_compares_predicts_draws_and_goes_on_where_it_was_interrupted(
    short: Recipe, tmp_path: Path
):
    # One of the two runs was finished when quickstart was interrupted.
    data = replace(short.data, root=str(tmp_path / "cache"))
    model = replace(short.model, temporal=BASELINE)
    train(replace(short, data=data, model=model), tmp_path / "none")
    baseline = (tmp_path / "none" / "last.safetensors").read_bytes()

    found = quickstart(tmp_path, recipe=short)
    assert (tmp_path / "none" / "last.safetensors").read_bytes() == baseline
    assert {name: report.num_videos for name, report in found.reports.items()} == {
        BASELINE: 12,
        CHALLENGER: 12,
    }
    assert found.right_class in CLASS_NAMES
    assert found.picture.stat().st_size > 10_000
    assert open_video(found.video).num_frames == 12
    for temporal, checkpoint in found.checkpoints.items():
        assert checkpoint.is_file()
        recipe = RunFolder(checkpoint.parent).recipe()
        assert recipe.model.temporal == temporal
        assert recipe.train.seed == 0

    with pytest.raises(ValueError, match="was begun with another recipe"):
        quickstart(tmp_path, recipe=short, seed=1)


def test_both_models_are_trained_alike_but_for_the_temporal_module(
    short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: dict[str, Recipe] = {}
    monkeypatch.setattr(
        quickstart_module,
        "_train_side_by_side",
        lambda recipes, folders, progress: given.update(recipes),
    )
    with pytest.raises(FileNotFoundError):  # nothing was trained
        quickstart(tmp_path, recipe=short, seed=5)
    none, m2a = given[BASELINE], given[CHALLENGER]
    assert replace(none, model=m2a.model) == m2a
    assert replace(none.model, temporal=CHALLENGER) == m2a.model
    assert none.train.seed == 5


def test_matplotlib_is_missed_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"run: pip install 'motionaware\[plots\]'"):
        quickstart(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_its_recipe_is_also_written_down_for_train():
    written = read_recipe(Path(__file__).parents[2] / "recipes" / "motionpairs.yaml")
    assert written == replace(RECIPE, model=replace(RECIPE.model, temporal=CHALLENGER))
