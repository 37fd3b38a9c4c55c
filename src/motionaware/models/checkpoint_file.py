"""The layout of a checkpoint file: one safetensors file, with a checksum over all of it.

tensors     state dict of the VideoRecognizer
metadata    format, version, and as JSON: clip, class_names, plan, recipe, origin
            checksum: see `checksum_of`; absent in files of early versions

This module knows no networks: `checkpoint.py` builds a model from a file, `transfer.py` takes
weights from one.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from motionaware.clip import ClipSpec, upgrade_clip_fields
from motionaware.errors import MotionAwareWarning, UsageError
from motionaware.files import write_atomically
from motionaware.models.weights import CHECKSUM, checksum_of, read_metadata, read_safetensors

FORMAT = "motionaware-1"

# The metadata of early versions, which wrote no checksum. Other keys without a checksum are damage.
_EARLY_KEYS = {"format", "version", "clip", "class_names", "plan", "recipe"}

_PLAN = ("backbone", "temporal", "where", "dropout")  # early files have these, and no others


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the weights came from that a training began with.

    Attributes:
        file: The file, as it was given.
        checksum: SHA-256 of the file.
        num_taken: Tensors taken from it.
        num_tensors: Tensors of the model.
        notes: What was left out, replaced or fitted, and why; a sentence each.
    """

    file: str
    checksum: str
    num_taken: int
    num_tensors: int
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_dict(facts: Mapping[str, Any] | None) -> "Origin | None":
        """Rebuild it from plain values, as `dataclasses.asdict` gives them."""
        return Origin(**{**facts, "notes": tuple(facts["notes"])}) if facts else None

    def lines(self) -> list[str]:
        """The facts as lines of a log."""
        first = f"weights from {self.file}: {self.num_taken} of {self.num_tensors} tensors"
        return [first, *(f"  {note}" for note in self.notes)]


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckpointFile:
    """The content of a checkpoint file.

    Attributes:
        path: The file.
        tensors: State dict of the model.
        clip: What the model expects of a clip.
        class_names: One name a class, in the order of the scores.
        plan: How to build the model; the fields of `recognizer.Plan`.
        recipe: How it was trained.
        origin: Where its initial weights came from, if from a file.
        own_code: Digests of the user's code that `plan` names, by the name of the file.
    """

    path: Path
    tensors: dict[str, Tensor]
    clip: ClipSpec
    class_names: tuple[str, ...]
    plan: dict[str, Any]
    recipe: dict[str, Any]
    origin: Origin | None
    own_code: dict[str, str] = field(default_factory=dict)


def write_checkpoint(file: CheckpointFile) -> None:
    """Write a checkpoint to `file.path`, all or nothing.

    The tensors are the full ones: where they are sharded, gather them and call this on one rank.

    Raises:
        OSError: The file could not be written; an older file at that path is unchanged.
    """
    metadata = {
        "format": FORMAT,
        "version": version("motionaware"),
        "clip": json.dumps(asdict(file.clip)),
        "class_names": json.dumps(file.class_names),
        "plan": json.dumps(file.plan),
        "recipe": json.dumps(file.recipe),
        "origin": json.dumps(file.origin and asdict(file.origin)),
        "own_code": json.dumps(file.own_code),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in file.tensors.items()}
    metadata[CHECKSUM] = checksum_of(tensors, metadata)
    write_atomically(file.path, safetensors.torch.save(tensors, metadata=metadata))


def is_checkpoint(path: Path) -> bool:
    """Whether a file was written by `write_checkpoint`, by its metadata."""
    metadata = read_metadata(path)
    return metadata.get("format", "").startswith("motionaware") or metadata.keys() >= _EARLY_KEYS


def read_checkpoint(path: Path) -> CheckpointFile:
    """Read a checkpoint file and verify its checksum.

    A file of an early version has no checksum: it is read with a `MotionAwareWarning`.

    Raises:
        ValueError: The file is damaged, is no checkpoint, or was written by a newer version.
    """
    has_checksum = CHECKSUM in read_metadata(path)
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path} has format {metadata.get('format')!r}, wanted {FORMAT!r}; "
            "it was not written by motionaware.save, or by a newer version. Weights without a "
            "model, such as ImageNet weights, are for create_model(..., pretrained=path)"
        )
    if not has_checksum and metadata.keys() != _EARLY_KEYS:
        odd = sorted(metadata.keys() ^ _EARLY_KEYS)
        raise UsageError(
            f"{path} is damaged: its metadata has no checksum, but {', '.join(map(repr, odd))} "
            "differ from what files without one hold; copy the file again from its source, or use "
            "another checkpoint"
        )
    if not has_checksum:
        warnings.warn(
            f"{path} has no checksum, since an early version wrote it: damage cannot be detected. "
            "motionaware.save(motionaware.load(path), path) adds one",
            MotionAwareWarning,
            stacklevel=3,
        )

    def read(key: str, build: Callable[[Any], Any]) -> Any:
        try:
            return build(json.loads(metadata[key]))
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{path}: the metadata {key!r} cannot be read ({' '.join(str(error).split())}); "
                f"the file was written by motionaware {metadata.get('version')}, this is "
                f"{version('motionaware')}: install that version, or, if the file is damaged, "
                "copy it again from its source"
            ) from error

    return CheckpointFile(
        path=path,
        tensors=tensors,
        clip=read("clip", lambda facts: ClipSpec(**upgrade_clip_fields(facts))),
        class_names=read("class_names", tuple),
        plan=read("plan", lambda facts: {key: facts[key] for key in _PLAN} | facts),
        recipe=read("recipe", dict),
        origin=read("origin", Origin.from_dict) if "origin" in metadata else None,
        own_code=read("own_code", dict) if "own_code" in metadata else {},
    )
