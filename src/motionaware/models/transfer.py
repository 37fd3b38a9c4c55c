"""Take the weights of a checkpoint into a model with other classes, clips or temporal modules.

backbone            every tensor must be there; position embeddings of another frame size are
                    resampled where timm defines how
temporal modules    taken site by site, if names and shapes agree and the module has the same name
head                taken if the class names are the same, in the order of the new model
mean, std           taken: the weights were trained with them
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from motionaware.clip import ClipSpec
from motionaware.errors import UsageError
from motionaware.models.backbones import PACKAGE, fit_image_size
from motionaware.models.checkpoint_file import (
    CheckpointFile,
    Origin,
    is_checkpoint,
    read_checkpoint,
)
from motionaware.models.weights import describe_misfits, file_checksum

_HEAD = ("head.weight", "head.bias")
_SCALE = ("mean", "std")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The model that shall have the weights.

    Attributes:
        tensors: Its state dict, with initial values.
        network: Its backbone, with temporal modules.
        backbone: Name of the backbone.
        temporal: Name of the temporal modules; None for modules of the user's own.
        clip: What it expects of a clip.
        class_names: One name a class, in the order of its scores.
    """

    tensors: dict[str, Tensor]
    network: nn.Module
    backbone: str
    temporal: str | None
    clip: ClipSpec
    class_names: tuple[str, ...]


def find_checkpoint(pretrained: bool | str | Path) -> Path | None:
    """The checkpoint file that `pretrained` names; None if it names weights of another kind.

    A run folder stands for its `best.safetensors`.

    Raises:
        FileNotFoundError: It is a folder without that file.
    """
    if isinstance(pretrained, bool) or str(pretrained) == PACKAGE:
        return None
    path = Path(pretrained)
    if path.is_dir():
        best = path / "best.safetensors"
        if not best.is_file():
            held = sorted(path.glob("*.safetensors"))
            hint = f"give {held[0]}" if held else "give the path of a file"
            raise FileNotFoundError(
                f"pretrained {path} is a folder without {best.name}, wanted the folder of a run "
                f"or a file of weights; {hint}"
            )
        path = best
    return path if path.is_file() and is_checkpoint(path) else None


def take_weights(path: Path, wanted: Wanted) -> tuple[dict[str, Tensor], Origin]:
    """Build a state dict from a checkpoint, and say what was taken and what was not.

    Raises:
        ValueError: The file is damaged, or its backbone is not the one wanted.
    """
    file = read_checkpoint(path)
    backbone, notes = _take_backbone(file, wanted)
    taken = {name: file.tensors[name] for name in _SCALE} | backbone
    notes += _scale_notes(file, wanted)
    for take in (_take_temporal, _take_head):
        tensors, more = take(file, wanted)
        taken |= tensors
        notes += more
    origin = Origin(
        file=str(path),
        checksum=file_checksum(path),
        num_taken=len(taken),
        num_tensors=len(wanted.tensors),
        notes=tuple(notes),
    )
    return wanted.tensors | taken, origin


def _take_backbone(file: CheckpointFile, wanted: Wanted) -> tuple[dict[str, Tensor], list[str]]:
    """All tensors of the bare backbone, resampled where frames have another size."""
    given, ours = (_plain(tensors) for tensors in (file.tensors, wanted.tensors))
    prefix = "backbone."
    differing = {
        name.removeprefix(prefix): given[name]
        for name in ours.keys() & given.keys()
        if ours[name].shape != given[name].shape
    }
    notes = []
    if differing and ours.keys() == given.keys():
        fitted = fit_image_size(wanted.network, differing)
        given |= {prefix + name: tensor for name, tensor in fitted.items()}
        notes = [
            f"resampled from frames of {file.clip.image_size} pixels to "
            f"{wanted.clip.image_size}: {', '.join(sorted(fitted))}"
        ] * bool(fitted)
    misfits = describe_misfits(given, ours)
    if misfits is None:
        return given, notes
    found = file.plan["backbone"]
    if found == wanted.backbone and file.clip.image_size != wanted.clip.image_size:
        raise UsageError(
            f"{file.path} was trained on frames of {file.clip.image_size} pixels, wanted "
            f"{wanted.clip.image_size}, and {found} has tensors that depend on it and cannot be "
            f"resampled ({misfits}); set clip.image_size to {file.clip.image_size}"
        )
    raise UsageError(
        f"{file.path} holds the backbone {found}, wanted {wanted.backbone}; tensors of the "
        f"backbone: {misfits}. Set model.backbone to {found}, or give a checkpoint of "
        f"{wanted.backbone}"
    )


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the backbone outside of temporal modules."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.") and _site(name) is None
    }


def _site(name: str) -> str | None:
    """The site of a temporal module's tensor.

    >>> _site("backbone.layer1.0.conv1.temporal.down.weight")
    'layer1.0.conv1'
    """
    found = re.match(r"backbone\.(.+?)\.temporal\.", name)
    return found and found[1]


def _by_site(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    sites: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        site = _site(name)
        if site is not None:
            sites.setdefault(site, {})[name] = tensor
    return sites


def _scale_notes(file: CheckpointFile, wanted: Wanted) -> list[str]:
    return [
        f"{name} of the pixels: {_numbers(file.tensors[name])} as in the file, in place of "
        f"{_numbers(wanted.tensors[name])}"
        for name in _SCALE
        if not torch.equal(file.tensors[name].float(), wanted.tensors[name].float())
    ]


def _numbers(tensor: Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in tensor.flatten().tolist())


def _take_temporal(file: CheckpointFile, wanted: Wanted) -> tuple[dict[str, Tensor], list[str]]:
    """The temporal modules of the sites where the same module is, whole modules only."""
    given, ours = _by_site(file.tensors), _by_site(wanted.tensors)
    there, here = (_words(name) for name in (file.plan["temporal"], wanted.temporal))
    same_name = _bare(there) == _bare(here)
    fits = {site: describe_misfits(given.get(site, {}), tensors) for site, tensors in ours.items()}
    kept = [site for site in ours if same_name and site in given and fits[site] is None]
    new = [site for site in ours if site not in kept]
    left = [site for site in given if site not in kept]
    notes = []
    if not same_name:
        notes.append(f"temporal modules: {there} in the file, {here} here")
    if new:
        notes.append(f"new: temporal modules at {_places(new)}{_why(file, wanted, new, fits)}")
    if left:
        notes.append(f"not taken: temporal modules of the file at {_places(left)}")
    return {name: given[site][name] for site in kept for name in given[site]}, notes


def _why(
    file: CheckpointFile, wanted: Wanted, new: Sequence[str], fits: Mapping[str, str | None]
) -> str:
    """Why modules of the same name do not fit."""
    if _bare(_words(file.plan["temporal"])) != _bare(_words(wanted.temporal)):
        return ""
    absent = set(new) - _by_site(file.tensors).keys()
    if absent:
        return f"; the file has none at {_places(sorted(absent))}"
    frames = file.clip.num_frames, wanted.clip.num_frames
    clips = "" if frames[0] == frames[1] else f"made for {frames[0]} frames, here {frames[1]}; "
    return f" ({clips}{fits[new[0]]})"


def _words(temporal: str | None) -> str:
    return "modules of your own" if temporal is None else temporal


def _bare(temporal: str) -> str:
    """A temporal name without options and aliases.

    >>> _bare("m2a(reduction=4), tsm"), _bare("motion + attention")
    ('m2a,tsm', 'm2a')
    """
    bare = re.sub(r"\([^()]*\)|\s", "", temporal)
    return re.sub(r"\bmotion\+attention\b", "m2a", bare)


def _places(sites: Sequence[str]) -> str:
    return f"{len(sites)} sites, first {sites[0]}" if len(sites) > 1 else f"1 site, {sites[0]}"


def _take_head(file: CheckpointFile, wanted: Wanted) -> tuple[dict[str, Tensor], list[str]]:
    """The classifier, its rows in the order of the classes wanted; nothing for other classes."""
    there, here = file.class_names, wanted.class_names
    if set(there) != set(here) or len({*here}) != len(here) or len(there) != len(here):
        names = ", other names" if len(there) == len(here) else ""
        new = f"new: {', '.join(_HEAD)} ({len(there)} classes in the file, {len(here)} here{names})"
        return {}, [new]
    rows = torch.tensor([there.index(name) for name in here])
    moved = there != here
    notes = ["head: rows put into the order of the classes here, by their names"] * moved
    return {name: file.tensors[name][rows] for name in _HEAD}, notes
