"""A run's folder: recipe, log, checkpoints, and the state from which it can go on.

recipe.yaml         every value, defaults written out; resume.pt holds them too, to be compared
log.csv             one line an epoch
tensorboard/        the same as curves
curves.png          the same as a picture, where matplotlib is installed; see report/run_curves.py
last.safetensors    the model after the last whole epoch
best.safetensors    the model of the best epoch on validation
skipped.csv         videos left out, with the reason; only where there are any
resume.pt           all that is needed to go on as if the run had not stopped
lock                held by the process that trains; else an empty file
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from motionaware.engine.config import Recipe
from motionaware.engine.config_io import read_stored_recipe, recipe_to_yaml
from motionaware.errors import UsageError
from motionaware.files import check_folder, lock_folder, write_atomically
from motionaware.models.weights import read_torch

_STATE_MARK = b"motionaware state "


def _checksum_line(content: bytes) -> bytes:
    return _STATE_MARK + f"sha256:{hashlib.sha256(content).hexdigest()}\n".encode()


class RunFolder:
    """The files of one run, each written all or nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.last = self.path / "last.safetensors"
        self.best = self.path / "best.safetensors"
        self.skipped = self.path / "skipped.csv"
        self.recipe_file = self.path / "recipe.yaml"
        self._state = self.path / "resume.pt"
        self._log = self.path / "log.csv"

    def begin(self, recipe: Recipe) -> None:
        """Write the recipe of a new run.

        Raises:
            FileExistsError: A run is here already.
        """
        self.check_free()
        write_atomically(self.recipe_file, self._text(recipe))

    def check_free(self) -> None:
        """Refuse a folder that holds a run, and a file in its place.

        Raises:
            FileExistsError: A run is here already.
            NotADirectoryError: A file is.
        """
        check_folder(self.path)
        if self.holds_run():
            raise FileExistsError(
                f"{self.path} holds a run already; go on with it by --resume {self.path}, "
                "or choose another folder"
            )

    def holds_run(self) -> bool:
        """Whether a run was begun here."""
        return self.recipe_file.is_file()

    def recipe(self, overrides: Sequence[str] = ()) -> Recipe:
        """Read the recipe of the run that is here, with dotted overrides.

        Raises:
            FileNotFoundError: No run is here.
            RecipeError: It cannot be read, or an override does not fit.
        """
        if not self.holds_run():
            raise FileNotFoundError(
                f"{self.path} holds no run to resume: {self.recipe_file.name} is not there; "
                "give the folder of a run, or start one from a recipe"
            )
        return read_stored_recipe(self.recipe_file, overrides)

    def write_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe, for a run that goes on with other values."""
        write_atomically(self.recipe_file, self._text(recipe))

    def _text(self, recipe: Recipe) -> bytes:
        return recipe_to_yaml(recipe, folder=self.path).encode()

    def num_epochs(self) -> int:
        """How many whole epochs the saved state has behind it."""
        state = self.load_state()
        return state["epoch"] if state else 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from training the run that is here.

        Raises:
            BlockingIOError: Another process trains it.
        """
        words = (
            f"{self.path} is being trained by another process; wait until it has ended, or end it: "
            "what it did is saved"
        )
        with lock_folder(self.path, busy_message=words):
            yield

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state to resume from, behind a line with its checksum."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        write_atomically(self._state, _checksum_line(content) + content)

    def load_state(self) -> dict[str, Any] | None:
        """Read the state to resume from; None before the first was written.

        Raises:
            ValueError: The file is damaged.
        """
        if not self._state.is_file():
            return None
        content = self._state.read_bytes()
        if content.startswith(_STATE_MARK):
            line, _, content = content.partition(b"\n")
            is_whole = line + b"\n" == _checksum_line(content)
        else:
            is_whole = True  # of an early version; read_torch verifies what its format allows
        try:
            if not is_whole:
                raise UsageError("its content does not match its checksum")
            return read_torch(io.BytesIO(content))
        except ValueError as error:
            remedy = (
                f"begin a new run with --model.pretrained {self.last}, which is a separate file"
                if self.last.is_file()
                else "begin a new run"
            )
            raise UsageError(
                f"{self._state} is damaged ({error}), the run cannot go on from it; {remedy}"
            ) from error

    def write_log(self, rows: Sequence[Mapping[str, int | float]]) -> None:
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

    def count_skipped(self) -> int:
        """How many videos are listed as left out."""
        if not self.skipped.is_file():
            return 0
        text = self.skipped.read_text(encoding="utf-8")
        return sum(1 for _ in csv.DictReader(io.StringIO(text, newline="")))

    @contextmanager
    def curves(self, *, first_epoch: int) -> Iterator[SummaryWriter]:
        """Open the curves for more epochs; those that an earlier try left behind are dropped."""
        writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=first_epoch)
        try:
            yield writer
        finally:
            with suppress(OSError):  # a full disk: what ended the run has better words for it
                writer.close()
