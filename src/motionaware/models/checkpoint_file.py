"""Read and write checkpoint files: safetensors files with metadata and a checksum.

tensors     state dict of the VideoRecognizer
metadata    format, version, and as JSON: clip, class_names, plan, recipe, origin
            own_code: digests of the user's own code; absent in files of early versions
            checksum: see `checksum_of`; absent in files of early versions

This module builds no network: `checkpoint.py` builds a model from a file, and `transfer.py` takes
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

# Metadata keys of early versions, which wrote no checksum. A file with other keys must have one.
_EARLY_KEYS = {"format", "version", "clip", "class_names", "plan", "recipe"}

_PLAN = ("backbone", "temporal", "where", "dropout")  # keys that files of all versions have


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file from which a model took its initial weights.

    Attributes:
        file: Path of the file, as the user gave it.
        checksum: SHA-256 of the file.
        num_taken: Number of tensors taken from it.
        num_tensors: Number of tensors of the model.
        notes: Which tensors were left out, replaced or resampled, and why; one sentence each.
    """

    file: str
    checksum: str
    num_taken: int
    num_tensors: int
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_dict(facts: Mapping[str, Any] | None) -> "Origin | None":
        """Make an Origin from the dict that `dataclasses.asdict` returned; None for none."""
        return Origin(**{**facts, "notes": tuple(facts["notes"])}) if facts else None

    def lines(self) -> list[str]:
        """Return lines for a log."""
        first = f"weights from {self.file}: {self.num_taken} of {self.num_tensors} tensors"
        return [first, *(f"  {note}" for note in self.notes)]


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckpointFile:
    """The content of a checkpoint file.

    Attributes:
        path: The file.
        tensors: State dict of the model.
        clip: Frames, size and sampling of the clips that the model takes.
        class_names: Names of the classes, in the order of the scores.
        plan: How to build the model; the fields of `recognizer.Plan`.
        recipe: Recipe of its training, as plain values.
        origin: The file of its initial weights; None if they were random or published ones.
        own_code: Digests of the user's code files that `plan` names, by file name.
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
    """Write a checkpoint to `file.path` atomically.

    Pass full tensors: gather sharded ones first, and call this on one rank only.

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
    """Return True if the metadata of a file are those of `write_checkpoint`."""
    metadata = read_metadata(path)
    return metadata.get("format", "").startswith("motionaware") or metadata.keys() >= _EARLY_KEYS


def read_checkpoint(path: Path) -> CheckpointFile:
    """Read a checkpoint file and verify its checksum.

    A file of an early version has no checksum: reading it gives a `MotionAwareWarning`.

    Raises:
        UsageError: The file is damaged, is no checkpoint, or was written by a newer version.
    """
    has_checksum = CHECKSUM in read_metadata(path)
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path} has format {metadata.get('format')!r}, wanted {FORMAT!r}; "
            "it was not written by motionaware.save, or by a newer version of it. For weights "
            "without a model, such as ImageNet weights, use create_model(..., pretrained=path)"
        )
    if not has_checksum and metadata.keys() != _EARLY_KEYS:
        different = ", ".join(map(repr, sorted(metadata.keys() ^ _EARLY_KEYS)))
        raise UsageError(
            f"{path} is damaged: its metadata has no checksum, but {different} differ from the "
            "keys of files without one; copy the file again from its source, or use another "
            "checkpoint"
        )
    if not has_checksum:
        warnings.warn(
            f"{path} has no checksum, since an early version wrote it: damage cannot be detected. "
            "motionaware.save(motionaware.load(path), path) adds one",
            MotionAwareWarning,
            stacklevel=3,
        )

    def parse(key: str, build: Callable[[Any], Any]) -> Any:
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
        clip=parse("clip", lambda facts: ClipSpec(**upgrade_clip_fields(facts))),
        class_names=parse("class_names", tuple),
        plan=parse("plan", lambda facts: {key: facts[key] for key in _PLAN} | facts),
        recipe=parse("recipe", dict),
        origin=parse("origin", Origin.from_dict) if "origin" in metadata else None,
        own_code=parse("own_code", dict) if "own_code" in metadata else {},
    )
