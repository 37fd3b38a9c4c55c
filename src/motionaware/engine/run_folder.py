"""The files of a run: recipe, log, checkpoints and the state to resume from.

recipe.yaml         all keys and values, defaults included
log.csv             one row for each epoch
tensorboard/        the same values as TensorBoard curves
curves.png          the same as a picture if matplotlib is installed; see report/run_curves.py
last.safetensors    the model after the last complete epoch
best.safetensors    the model of the epoch with the highest validation top-1
skipped.csv         videos that were left out, with the reason; absent if there are none
resume.pt           the training state; see training_state.py. It contains the recipe, too
lock                held by the process that trains; otherwise an empty file
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

_STATE_HEADER = b"motionaware state "


def _checksum_line(content: bytes) -> bytes:
    return _STATE_HEADER + f"sha256:{hashlib.sha256(content).hexdigest()}\n".encode()


class RunFolder:
    """Reads and writes the files of one run. Each file is written atomically."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.last = self.path / "last.safetensors"
        self.best = self.path / "best.safetensors"
        self.skipped = self.path / "skipped.csv"
        self.recipe_file = self.path / "recipe.yaml"
        self._state_file = self.path / "resume.pt"
        self._log_file = self.path / "log.csv"
        self._state: dict[str, Any] | None = None

    # ------------------------------------------------------------------------------------- recipe

    def begin(self, recipe: Recipe) -> None:
        """Write the recipe of a new run; raises like `check_free`."""
        self.check_free()
        self.write_recipe(recipe)

    def check_free(self) -> None:
        """Check that a new run can be started in this folder.

        Raises:
            FileExistsError: The folder holds a run.
            NotADirectoryError: The path is a file.
        """
        check_folder(self.path)
        if self.holds_run():
            raise FileExistsError(
                f"{self.path} already holds a run; resume it with --resume {self.path}, or choose "
                "another folder"
            )

    def holds_run(self) -> bool:
        """Return True if a run was started in this folder."""
        return self.recipe_file.is_file()

    def recipe(self, overrides: Sequence[str] = ()) -> Recipe:
        """Read the recipe of the run, with dotted overrides.

        Raises:
            FileNotFoundError: The folder holds no run.
            RecipeError: The recipe cannot be read, or an override is wrong.
        """
        if not self.holds_run():
            raise FileNotFoundError(
                f"{self.path} holds no run to resume: there is no {self.recipe_file.name}; "
                "give the folder of a run, or start one from a recipe"
            )
        return read_stored_recipe(self.recipe_file, overrides)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write or replace the recipe of the run."""
        write_atomically(self.recipe_file, recipe_to_yaml(recipe, folder=self.path).encode())

    # -------------------------------------------------------------------------------------- state

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the run for this process.

        Raises:
            BlockingIOError: Another process trains the run.
        """
        message = (
            f"{self.path} is being trained by another process; wait until it has ended, or end it: "
            "its progress is saved"
        )
        with lock_folder(self.path, busy_message=message):
            yield

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the state to resume from, after a line with its checksum."""
        self.release_state()
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        write_atomically(self._state_file, _checksum_line(content) + content)

    def load_state(self) -> dict[str, Any] | None:
        """Return the state to resume from; None if there is none yet.

        The file is read once. The result is kept until `release_state` or `save_state`.

        Raises:
            UsageError: The file is damaged.
        """
        if self._state is None and self._state_file.is_file():
            self._state = self._read_state()
        return self._state

    def release_state(self) -> None:
        """Free the memory of the loaded state."""
        self._state = None

    def history(self) -> list[dict[str, int | float]]:
        """Return the log rows of the saved state; raises like `load_state`."""
        state = self.load_state()
        return state["log"] if state else []

    def _read_state(self) -> dict[str, Any]:
        content = self._state_file.read_bytes()
        is_intact = True  # early versions wrote no checksum; read_torch checks what it can
        if content.startswith(_STATE_HEADER):
            line, _, content = content.partition(b"\n")
            is_intact = line + b"\n" == _checksum_line(content)
        try:
            if not is_intact:
                raise UsageError("its content does not match its checksum")
            return read_torch(io.BytesIO(content))
        except ValueError as error:
            remedy = (
                f"start a new run with --model.pretrained {self.last}, which is a separate file"
                if self.last.is_file()
                else "start a new run"
            )
            raise UsageError(
                f"{self._state_file} is damaged ({error}), the run cannot be resumed from it; "
                f"{remedy}"
            ) from error

    # --------------------------------------------------------------------------- log, skipped files

    def write_log(self, rows: Sequence[Mapping[str, int | float]]) -> None:
        """Write log.csv, one row for each epoch."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._log_file, text.getvalue().encode())

    def read_log(self) -> list[dict[str, str]]:
        """Return the rows of log.csv as text; empty before the first epoch has ended."""
        if not self._log_file.is_file():
            return []
        return list(csv.DictReader(io.StringIO(self._log_file.read_text(encoding="utf-8"))))

    def count_skipped(self) -> int:
        """Return the number of videos in skipped.csv."""
        if not self.skipped.is_file():
            return 0
        text = self.skipped.read_text(encoding="utf-8")
        return sum(1 for _ in csv.DictReader(io.StringIO(text, newline="")))

    @contextmanager
    def curves(self, *, first_epoch: int) -> Iterator[SummaryWriter]:
        """Open the TensorBoard curves and drop values from `first_epoch` on."""
        writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=first_epoch)
        try:
            yield writer
        finally:
            with suppress(OSError):  # a full disk must not hide the error that ended the run
                writer.close()
