from dataclasses import replace

from motionaware.engine.config import Recipe
from motionaware.report.provenance import provenance_lines, shareable_recipe


def test_keys_in_which_runs_differ_are_listed(none, make_results):
    first, second = none.runs
    recipe = Recipe()
    other = replace(recipe, optim=replace(recipe.optim, learning_rate=0.5))
    runs = (first, replace(second, run=replace(second.run, recipe=other)))
    lines = provenance_lines(make_results([replace(none, runs=runs)]))
    rate = recipe.optim.learning_rate
    assert f"optim.learning_rate differs between runs: b none: {rate}; b none: 0.5" in lines
    assert not any("differs" in line for line in provenance_lines(make_results([none])))


def test_a_shared_recipe_has_no_absolute_folder():
    recipe = Recipe()
    data = replace(recipe.data, root="/home/someone/videos", cache_dir="relative/cache")
    text = shareable_recipe(replace(recipe, data=data))
    assert "root: videos" in text
    assert "cache_dir: relative/cache" in text
    assert "/home" not in text
