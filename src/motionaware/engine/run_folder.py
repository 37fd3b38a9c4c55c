"""A run's folder: recipe, log, checkpoints, and the state from which it can go on.

recipe.yaml         every value, defaults written out
log.csv             one line an epoch
tensorboard/        the same as curves
last.safetensors    the model after the last whole epoch
best.safetensors    the model of the best epoch on validation
resume.pt           all that is needed to go on as if the run had not stopped
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from motionaware.engine.config import Recipe, read_recipe, recipe_to_yaml
from motionaware.models.checkpoint import write_atomically


class RunFolder:
    """The files of one run, each written all or nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.last = self.path / "last.safetensors"
        self.best = self.path / "best.safetensors"
        self._recipe = self.path / "recipe.yaml"
        self._state = self.path / "resume.pt"
        self._log = self.path / "log.csv"

    def begin(self, recipe: Recipe) -> None:
        """Write the recipe of a new run.

        Raises:
            FileExistsError: A run is here already.
        """
        if self._recipe.exists():
            raise FileExistsError(
                f"{self.path} holds a run already; go on with it by --resume {self.path}, "
                "or choose another folder"
            )
        write_atomically(self._recipe, recipe_to_yaml(recipe).encode())

    def recipe(self) -> Recipe:
        """Read the recipe of the run that is here.

        Raises:
            FileNotFoundError: No run is here.
        """
        if not self._recipe.is_file():
            raise FileNotFoundError(
                f"{self.path} holds no run to resume: {self._recipe.name} is not there; "
                "give the folder of a run, or start one from a recipe"
            )
        return read_recipe(self._recipe)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state to resume from."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomically(self._state, buffer.getvalue())

    def load_state(self) -> dict[str, Any] | None:
        """Read the state to resume from; None before the first was written."""
        if not self._state.is_file():
            return None
        return torch.load(self._state, map_location="cpu", weights_only=True)

    def write_log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the whole log, one line an epoch."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._log, text.getvalue().encode())

    def read_log(self) -> list[dict[str, str]]:
        """Read the log as it is now; empty before the first epoch has ended."""
        if not self._log.is_file():
            return []
        return list(csv.DictReader(io.StringIO(self._log.read_text(encoding="utf-8"))))
