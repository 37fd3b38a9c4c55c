"""Every recipe can be read; those of published data sets train for two steps on small copies."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.engine.config import Recipe
from motionaware.engine.config_io import read_recipe
from motionaware.engine.grid import grid_recipes, read_grid
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import train
from motionaware.models.checkpoint import load

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
GRIDS = sorted((Path(__file__).parents[1] / "recipes" / "grids").glob("*.yaml"))
PUBLISHED = [
    path for path in RECIPES if path.stem.split("-")[0] in ("something", "jester", "kinetics")
]
SMALL = [
    *("--model.pretrained=false", "--clip.num_frames=4", "--clip.image_size=32"),
    *("--data.num_workers=0", "--train.epochs=1", "--train.batch_size=2", "--train.accumulate=1"),
    *("--train.device=cpu", "--train.num_threads=1", "--optim.milestones_epochs=[1]"),
    *("--eval.num_views=1", "--eval.num_crops=3"),
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_only_known_keys_and_valid_values(path: Path):
    assert isinstance(read_recipe(path), Recipe)


@pytest.mark.parametrize("path", [*RECIPES, *GRIDS], ids=lambda path: path.stem)
def test_a_header_states_the_measured_accuracy_or_that_none_was_measured(path: Path):
    header = " ".join(line[1:].strip() for line in path.read_text().splitlines() if line[:1] == "#")
    measured = re.search(r"[Mm]easured on \d{4}-\d\d-\d\d on .*(minutes|seconds|hours).* %", header)
    assert f"recipes/{path.parent.name + '/' if path in GRIDS else ''}{path.name}" in header
    assert measured or "Not run yet" in header or path in GRIDS


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_header_says_that_a_recipe_was_not_run_and_gives_its_command(path: Path):
    header = path.read_text().partition("model:")[0]
    assert "Not run yet: it needs the data set and a GPU." in header
    assert f"motionaware train recipes/{path.name} --data.root DATA" in header


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_recipe_trains_for_two_steps_on_a_small_copy_of_its_data_set(
    path: Path, trees, plant, tmp_path: Path
):
    recipe = read_recipe(path, SMALL)
    tree = trees[recipe.data.kind]
    root = plant(tree, tmp_path / "data", real=True)
    recipe = replace(recipe, data=replace(recipe.data, root=str(root)))
    report = train(recipe, tmp_path / "run")
    assert report.num_videos == len(tree.videos["val"])
    assert len(RunFolder(tmp_path / "run").read_log()) == 1
    assert load(tmp_path / "run" / "last.safetensors").class_names == tree.class_names


@pytest.mark.parametrize("temporal", ["none", "m2a", "tsm"])
def test_the_paper_s_other_temporal_modules_train_too(temporal: str, trees, plant, tmp_path: Path):
    path = next(path for path in RECIPES if path.stem == "something-v1-resnet18")
    recipe = read_recipe(path, [*SMALL, f"--model.temporal={temporal}"])
    root = plant(trees["something-v1"], tmp_path / "data", real=True)
    recipe = replace(recipe, data=replace(recipe.data, root=str(root)))
    assert train(recipe, tmp_path / "run").num_videos == 1


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_the_recipe_of_a_grid_can_be_read(path: Path):
    assert grid_recipes(read_grid(path), path)
