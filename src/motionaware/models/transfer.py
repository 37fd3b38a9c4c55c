"""Initialise a model from a checkpoint with other classes, clips or temporal modules.

backbone            all tensors must be in the file; position embeddings for another frame size
                    are resampled if timm defines how
temporal modules    taken site by site, if the temporal names and the tensors' shapes agree
head                taken if the class names are the same; its rows get the order of the new model
mean, std           taken, because the weights were trained with them
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from motionaware.clip import ClipSpec
from motionaware.errors import UsageError
from motionaware.models.backbone_weights import PACKAGE, fit_image_size
from motionaware.models.checkpoint_file import (
    CheckpointFile,
    Origin,
    is_checkpoint,
    read_checkpoint,
)
from motionaware.models.weights import describe_misfits, file_checksum

_HEAD = ("head.weight", "head.bias")
_NORMALISATION = ("mean", "std")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The model that gets the weights.

    Attributes:
        tensors: Its state dict, with initial values.
        network: Its backbone, with temporal modules.
        backbone: Name of the backbone.
        temporal: Name of the temporal modules; None if a callable of the user made them.
        clip: Frames, size and sampling of its clips.
        class_names: Names of the classes, in the order of the scores.
    """

    tensors: dict[str, Tensor]
    network: nn.Module
    backbone: str
    temporal: str | None
    clip: ClipSpec
    class_names: tuple[str, ...]


def find_checkpoint(pretrained: bool | str | Path) -> Path | None:
    """Return the checkpoint file that `pretrained` names; None if it names other weights.

    For a run folder this is its `best.safetensors`.

    Raises:
        FileNotFoundError: It is a folder without this file.
    """
    if isinstance(pretrained, bool) or str(pretrained) == PACKAGE:
        return None
    path = Path(pretrained)
    if path.is_dir():
        best = path / "best.safetensors"
        if not best.is_file():
            files = sorted(path.glob("*.safetensors"))
            hint = f"give {files[0]}" if files else "give the path of a file"
            raise FileNotFoundError(
                f"pretrained {path} is a folder without {best.name}, wanted the folder of a run "
                f"or a file of weights; {hint}"
            )
        path = best
    return path if path.is_file() and is_checkpoint(path) else None


def take_weights(path: Path, target: Target) -> tuple[dict[str, Tensor], Origin]:
    """Build a state dict for a model from a checkpoint.

    Returns:
        The state dict, and an Origin whose notes name the tensors that were left out or changed.

    Raises:
        UsageError: The file is damaged, or has another backbone.
    """
    file = read_checkpoint(path)
    backbone, notes = _take_backbone(file, target)
    taken = {name: file.tensors[name] for name in _NORMALISATION} | backbone
    notes += _normalisation_notes(file, target)
    for take in (_take_temporal, _take_head):
        tensors, more = take(file, target)
        taken |= tensors
        notes += more
    origin = Origin(
        file=str(path),
        checksum=file_checksum(path),
        num_taken=len(taken),
        num_tensors=len(target.tensors),
        notes=tuple(notes),
    )
    return target.tensors | taken, origin


def _take_backbone(file: CheckpointFile, target: Target) -> tuple[dict[str, Tensor], list[str]]:
    """Return the backbone's tensors, resampled for another frame size if needed, and notes."""
    given, ours = (_backbone_tensors(tensors) for tensors in (file.tensors, target.tensors))
    prefix = "backbone."
    differing = {
        name.removeprefix(prefix): given[name]
        for name in ours.keys() & given.keys()
        if ours[name].shape != given[name].shape
    }
    notes = []
    if differing and ours.keys() == given.keys():
        fitted = fit_image_size(target.network, differing)
        given |= {prefix + name: tensor for name, tensor in fitted.items()}
        notes = [
            f"resampled from frames of {file.clip.image_size} pixels to "
            f"{target.clip.image_size}: {', '.join(sorted(fitted))}"
        ] * bool(fitted)
    misfits = describe_misfits(given, ours)
    if misfits is None:
        return given, notes
    found = file.plan["backbone"]
    if found == target.backbone and file.clip.image_size != target.clip.image_size:
        raise UsageError(
            f"{file.path} was trained on frames of {file.clip.image_size} pixels, wanted "
            f"{target.clip.image_size}, and {found} has tensors that depend on it and cannot be "
            f"resampled ({misfits}); set clip.image_size to {file.clip.image_size}"
        )
    raise UsageError(
        f"{file.path} holds the backbone {found}, wanted {target.backbone}; tensors of the "
        f"backbone: {misfits}. Set model.backbone to {found}, or give a checkpoint of "
        f"{target.backbone}"
    )


def _backbone_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the backbone without those of temporal modules."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.") and _site(name) is None
    }


def _site(name: str) -> str | None:
    """Return the site of a temporal module's tensor; None for other tensors.

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


def _normalisation_notes(file: CheckpointFile, target: Target) -> list[str]:
    return [
        f"{name} of the pixels: {_format(file.tensors[name])} from the file instead of "
        f"{_format(target.tensors[name])}"
        for name in _NORMALISATION
        if not torch.equal(file.tensors[name].float(), target.tensors[name].float())
    ]


def _format(tensor: Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in tensor.flatten().tolist())


def _take_temporal(file: CheckpointFile, target: Target) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of the temporal modules that fit, complete modules only, and notes."""
    given, ours = _by_site(file.tensors), _by_site(target.tensors)
    in_file, here = (_temporal_name(name) for name in (file.plan["temporal"], target.temporal))
    same_name = _without_options(in_file) == _without_options(here)
    misfits = {
        site: describe_misfits(given.get(site, {}), tensors) for site, tensors in ours.items()
    }
    taken = [site for site in ours if same_name and site in given and misfits[site] is None]
    new = [site for site in ours if site not in taken]
    left = [site for site in given if site not in taken]
    notes = []
    if not same_name:
        notes.append(f"temporal modules: {in_file} in the file, {here} here")
    if new:
        notes.append(
            f"new: temporal modules at {_describe_sites(new)}{_reason(file, target, new, misfits)}"
        )
    if left:
        notes.append(f"not taken: temporal modules of the file at {_describe_sites(left)}")
    return {name: given[site][name] for site in taken for name in given[site]}, notes


def _reason(
    file: CheckpointFile, target: Target, new: Sequence[str], misfits: Mapping[str, str | None]
) -> str:
    """Return why modules with the same temporal name are new; empty if the names differ."""
    in_file, here = (_temporal_name(name) for name in (file.plan["temporal"], target.temporal))
    if _without_options(in_file) != _without_options(here):
        return ""
    absent = set(new) - _by_site(file.tensors).keys()
    if absent:
        return f"; the file has none at {_describe_sites(sorted(absent))}"
    frames = file.clip.num_frames, target.clip.num_frames
    clips = "" if frames[0] == frames[1] else f"made for {frames[0]} frames, here {frames[1]}; "
    return f" ({clips}{misfits[new[0]]})"


def _temporal_name(temporal: str | None) -> str:
    return "modules of your own" if temporal is None else temporal


def _without_options(temporal: str) -> str:
    """Return a temporal name without options and aliases.

    >>> _without_options("m2a(reduction=4), tsm"), _without_options("motion + attention")
    ('m2a,tsm', 'm2a')
    """
    bare = re.sub(r"\([^()]*\)|\s", "", temporal)
    return re.sub(r"\bmotion\+attention\b", "m2a", bare)


def _describe_sites(sites: Sequence[str]) -> str:
    return f"{len(sites)} sites, first {sites[0]}" if len(sites) > 1 else f"1 site, {sites[0]}"


def _take_head(file: CheckpointFile, target: Target) -> tuple[dict[str, Tensor], list[str]]:
    """Return the head with rows in the order of the target's classes; empty for other classes."""
    in_file, here = file.class_names, target.class_names
    if set(in_file) != set(here) or len({*here}) != len(here) or len(in_file) != len(here):
        names = ", other names" if len(in_file) == len(here) else ""
        counts = f"{len(in_file)} classes in the file, {len(here)} here{names}"
        return {}, [f"new: {', '.join(_HEAD)} ({counts})"]
    rows = torch.tensor([in_file.index(name) for name in here])
    is_reordered = in_file != here
    notes = ["head: rows reordered by the class names"] * is_reordered
    return {name: file.tensors[name][rows] for name in _HEAD}, notes
