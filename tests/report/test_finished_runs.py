from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import UsageError
from motionaware.report.finished_runs import open_finished_run


def test_a_finished_run_whose_data_were_moved_names_the_recipe_to_change(
    tiny_recipe: Recipe, tmp_path: Path
):
    data = DataConfig(kind="folder", root=str(tmp_path / "missing"))
    folder = RunFolder(tmp_path / "run")
    folder.begin(replace(tiny_recipe, data=data))
    folder.write_log([{"epoch": 1}, {"epoch": 2}])
    folder.last.touch()
    message = (
        rf"data\.root {tmp_path}/missing, which is not a folder; if the data set was moved, "
        rf"change data\.root in {tmp_path}/run/recipe\.yaml"
    )
    with pytest.raises(UsageError, match=message):
        open_finished_run(folder.path, tmp_path)
