"""Every recipe reads; those of published data sets run for two steps on trees true to form."""

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
def test_a_recipe_says_nothing_that_its_groups_refuse(path: Path):
    assert isinstance(read_recipe(path), Recipe)


@pytest.mark.parametrize("path", [*RECIPES, *GRIDS], ids=lambda path: path.stem)
def test_a_recipe_says_when_and_where_it_was_measured_or_that_it_was_not(path: Path):
    words = " ".join(line[1:].strip() for line in path.read_text().splitlines() if line[:1] == "#")
    measured = re.search(r"[Mm]easured on \d{4}-\d\d-\d\d on .*(minutes|seconds|hours).* %", words)
    assert f"recipes/{path.parent.name + '/' if path in GRIDS else ''}{path.name}" in words
    assert measured or "Not run here: needs" in words


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_recipe_that_was_not_run_says_so_and_names_itself(path: Path):
    head = path.read_text().partition("model:")[0]
    assert "Not run here: needs the data set and a GPU." in head
    assert f"motionaware train recipes/{path.name} --data.root DATA" in head


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_recipe_runs_for_two_steps_on_its_data_set(path: Path, trees, plant, tmp_path: Path):
    recipe = read_recipe(path, SMALL)
    tree = trees[recipe.data.kind]
    root = plant(tree, tmp_path / "data", real=True)
    recipe = replace(recipe, data=replace(recipe.data, root=str(root)))
    report = train(recipe, tmp_path / "run")
    assert report.num_videos == len(tree.videos["val"])
    assert len(RunFolder(tmp_path / "run").read_log()) == 1
    assert load(tmp_path / "run" / "last.safetensors").class_names == tree.class_names


@pytest.mark.parametrize("temporal", ["none", "m2a", "tsm"])
def test_the_papers_other_rows_run_too(temporal: str, trees, plant, tmp_path: Path):
    path = next(path for path in RECIPES if path.stem == "something-v1-resnet18")
    recipe = read_recipe(path, [*SMALL, f"--model.temporal={temporal}"])
    root = plant(trees["something-v1"], tmp_path / "data", real=True)
    recipe = replace(recipe, data=replace(recipe.data, root=str(root)))
    assert train(recipe, tmp_path / "run").num_videos == 1


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_grid_names_a_recipe_that_can_be_read(path: Path):
    assert grid_recipes(read_grid(path), path)
