from pathlib import Path

import pytest

from motionaware.engine.grid import CellConfig, Grid, grid_recipes, read_grid
from motionaware.errors import RecipeError

RECIPE = "clip: {num_frames: 4}\ntrain: {epochs: 5}\ndata: {kind: motionpairs}\n"
GRID = """
recipe: shared/recipe.yaml
backbones: [resnet18_quarter, resnet18]
temporal: [none, m2a, "m2a,tsm"]
seeds: [0, 3]
overrides: {train.epochs: 7, optim.milestones_epochs: [2, 4]}
cells:
  - {temporal: m2a, overrides: {optim.learning_rate: 0.5}}
  - {backbone: resnet18, temporal: m2a, overrides: {optim.learning_rate: 0.25}}
pairs: [["m2a,tsm", m2a]]
"""


@pytest.fixture
def write_grid(tmp_path: Path):
    """Writes a grid next to a folder with its recipe, and returns its path."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "recipe.yaml").write_text(RECIPE)

    def write(text: str) -> Path:
        path = tmp_path / "grid.yaml"
        path.write_text(text)
        return path

    return write


def test_a_grid_is_read_from_yaml(write_grid):
    grid = read_grid(write_grid(GRID))
    assert grid == Grid(
        recipe="shared/recipe.yaml",
        backbones=("resnet18_quarter", "resnet18"),
        temporal=("none", "m2a", "m2a,tsm"),
        seeds=(0, 3),
        overrides={"train.epochs": 7, "optim.milestones_epochs": [2, 4]},
        cells=(
            CellConfig(temporal="m2a", overrides={"optim.learning_rate": 0.5}),
            CellConfig(
                backbone="resnet18", temporal="m2a", overrides={"optim.learning_rate": 0.25}
            ),
        ),
        pairs=(("m2a,tsm", "m2a"),),
    )


def test_every_run_has_the_recipe_with_its_overrides(write_grid):
    path = write_grid(GRID)
    recipes = grid_recipes(read_grid(path), path)
    assert len(recipes) == 2 * 3 * 2
    for (backbone, temporal, seed), recipe in recipes.items():
        assert (recipe.model.backbone, recipe.model.temporal) == (backbone, temporal)
        assert recipe.train.seed == seed
        assert recipe.clip.num_frames == 4
        assert (recipe.train.epochs, recipe.optim.milestones_epochs) == (7, (2, 4))
        overridden = {"resnet18_quarter": 0.5, "resnet18": 0.25}[backbone]
        assert recipe.optim.learning_rate == (overridden if temporal == "m2a" else 0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("temporal:", "tempural:"), "key tempural is unknown; did you mean 'temporal'?"),
        (("temporal:", "zzz:"), "key zzz is unknown; a grid has recipe, backbones, temporal"),
        (("recipe: shared/recipe.yaml", ""), "key recipe is missing; every grid needs it"),
        (("[0, 3]", "[0, 0]"), r"seeds is \[0, 0\]; wanted at least one value, each only once"),
        (("[0, 3]", "[]"), r"seeds is \[\]; wanted at least one value"),
        (("[0, 3]", "[one]"), "seeds is "),
        (("seeds: [0, 3]", "split: train"), "split is "),
        (('tsm", m2a]]', 'tsm", tea]]'), "pairs names 'tea', which is not in the grid"),
        (('tsm", m2a]]', 'tsm", m2a], [m2a, "m2a,tsm"]]'), "pair m2a, m2a,tsm: is given twice"),
        (('["m2a,tsm", m2a]]', "[m2a, m2a]]"), "pair m2a, m2a: both modules are the same"),
        (('["m2a,tsm", m2a]]', "[none, m2a]]"), "none is the baseline and must come second"),
        (("seeds: [0, 3]", "baseline: nnone"), "baseline is 'nnone', which is not in the grid"),
        (("- {temporal: m2a,", "- {temporal: m2b,"), "cells names 'm2b'"),
        (("{backbone: resnet18,", "{backbone: resnet50,"), "cells names 'resnet50'"),
    ],
)
def test_a_wrong_grid_is_refused(write_grid, change: tuple[str, str], message: str):
    before, after = change
    assert before in GRID
    with pytest.raises(RecipeError, match=message):
        read_grid(write_grid(GRID.replace(before, after)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch: 7", "overrides: key train.epoch is unknown; did you mean 'train.epochs'?"),
        ("train: 7", "overrides: train is a group; give a key below it"),
        ("train.epochs: many", "train.epochs is many, wanted int"),
        ("train.seed: 7", "overrides contain train.seed, which the grid varies"),
    ],
)
def test_a_wrong_override_is_refused(write_grid, override: str, message: str):
    path = write_grid(GRID.replace("train.epochs: 7", override))
    with pytest.raises(RecipeError, match=message):
        grid_recipes(read_grid(path), path)


def test_the_error_about_a_missing_recipe_has_its_full_path(write_grid):
    path = write_grid(GRID.replace("shared/", "sharde/"))
    with pytest.raises(FileNotFoundError, match=r"tried .*sharde/recipe.yaml, because paths in"):
        grid_recipes(read_grid(path), path)


def test_the_error_about_a_missing_grid_names_the_documentation(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"does not exist; docs/comparing.md"):
        read_grid(tmp_path / "grid.yaml")


def test_a_grid_that_is_a_list_is_refused(write_grid):
    with pytest.raises(RecipeError, match="contains a list; wanted a mapping"):
        read_grid(write_grid("[1, 2]"))


def test_the_grid_in_the_documentation_is_valid(tmp_path: Path):
    root = Path(__file__).parents[2]
    page = (root / "docs" / "comparing.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "grids" / "grid.yaml"
    path.parent.mkdir()
    path.write_text(text)
    (tmp_path / "recipes").symlink_to(root / "recipes")
    recipes = grid_recipes(read_grid(path), path)
    assert recipes["mobilenetv2_035", "tsm", 2].train.epochs == 24
    assert recipes["mobilenetv2_035", "tsm", 2].optim.learning_rate == 0.05


def test_user_modules_are_searched_next_to_the_grid_then_next_to_the_recipe(
    write_grid, tmp_path: Path
):
    text = GRID.replace('"m2a,tsm"]\nseeds', '"mix.py:Mix(kernel=5)"]\nseeds')
    path = write_grid(text.replace('[["m2a,tsm", m2a]]', '[["mix.py:Mix(kernel=5)", m2a]]'))
    grid = read_grid(path)
    for folder in (tmp_path / "shared", tmp_path):
        (folder / "mix.py").touch()
        recipe = grid_recipes(grid, path)["resnet18", "mix.py:Mix(kernel=5)", 3]
        assert recipe.model.temporal == f"{folder}/mix.py:Mix(kernel=5)"
