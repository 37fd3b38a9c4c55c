from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.engine.config import Recipe
from motionaware.errors import UsageError
from motionaware.report.runs import plan_runs, recipe_differences, safe_name


def test_a_run_that_stopped_early_is_finished(tiny_recipe: Recipe, tmp_path: Path):
    train = replace(tiny_recipe.train, epochs=9, early_stopping_epochs=1)
    (run,) = plan_runs({("b", "none", 0): replace(tiny_recipe, train=train)}, tmp_path)
    run.folder.begin(run.recipe)
    run.folder.last.touch()
    run.folder.write_log([{"epoch": 1, "val_top1": 0.5}])
    assert not run.is_finished()
    run.folder.write_log([{"epoch": 1, "val_top1": 0.5}, {"epoch": 2, "val_top1": 0.5}])
    assert run.is_finished()


def test_two_cells_with_the_same_folder_name_are_refused(tiny_recipe: Recipe, tmp_path: Path):
    assert safe_name("a/b:c") == "a_b_c"
    recipes = {("b", temporal, 0): tiny_recipe for temporal in ("m2a, tsm", "m2a,  tsm")}
    with pytest.raises(UsageError, match="two names of the grid give the same folder name"):
        plan_runs(recipes, tmp_path)


def test_recipes_that_differ_only_in_device_and_cache_have_no_differences(tiny_recipe: Recipe):
    data = replace(tiny_recipe.data, root="elsewhere", num_workers=3)
    train = replace(tiny_recipe.train, device="cuda", num_threads=4, keep_freed_memory=True)
    other = replace(tiny_recipe, data=data, train=train)
    assert recipe_differences(tiny_recipe, other) == {}
    other = replace(tiny_recipe, data=replace(data, seed=7), train=train)
    assert recipe_differences(tiny_recipe, other) == {"data.seed": (0, 7)}
