"""Load checkpoints of the M2A and TSM authors' code: ResNets and MobileNetV2.

Their networks have the same layers under other names: the convolution of a site is the last layer
of a sequence that begins with the temporal module, and the blocks of MobileNetV2 are flat.

Source  https://github.com/gebob19/M2A and https://github.com/mit-han-lab/temporal-shift-module
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motionaware.errors import UsageError
from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.models.site_hooks import sites
from motionaware.models.weights import describe_misfits, fill, read_weights, tensors_of
from motionaware.temporal.names import site_maker

_BACKBONES = {"mobilenetv2": "mobilenet_v2"}  # name there -> name here

_MECHANISMS = {  # parts of a temporal name
    "attn": "attention",
    "patch_mattn": "patch@official",
    **{name: f"{name}@official" for name in ("patch", "tea", "tdn", "tam")},
}

_PARTS = {  # modules and tensors inside a gate
    "conv_down": "down",
    "conv_up": "up",
    "motion_mod": "motion",
    "attn": "mix",
    "G": "kernel",
    "L": "importance",
    "conv1": "squeeze.0",
    "bn1": "squeeze.1",
    "conv2": "align",
    "conv3": "expand.0",
    "bn3": "expand.1",
    "conv3_smallscale2": "coarse.0",
    "bn3_smallscale2": "coarse.1",
    "conv3_smallscale4": "fine.0",
    "bn3_smallscale4": "fine.1",
}

# Convolutions and norms of a block: index in the reference's flat sequence -> name here.
_FLAT_MOBILENET = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
_FLAT_MOBILENET_UNEXPANDED = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}


def load_official(
    state_dict_or_path: Mapping[str, Any] | str | Path,
    *,
    backbone: str,
    temporal: str,
    num_classes: int,
    num_frames: int,
) -> VideoRecognizer:
    """Load a checkpoint of the M2A or TSM authors' code as a recognizer, in evaluation mode.

    Supported are checkpoints of https://github.com/gebob19/M2A (M2A and its baselines) and of
    https://github.com/mit-han-lab/temporal-shift-module (TSN, and TSM before the first convolution
    of each residual block, there called `blockres`). Checkpoints of other programs, such as
    MMAction2, are not supported.

    The names of the tensors show which temporal modules a network had; a `temporal` that
    contradicts them is an error. `m2a`, `motion`, `attention` and `patch` have tensors of the same
    names, so this check cannot distinguish them: use the one that the network was trained with.

    Args:
        state_dict_or_path: The file, its content, or the state dict.
        backbone: `resnet18`, `resnet50`, ..., or `mobilenet_v2`.
        temporal: The temporal modules of the network: `m2a`, `m2a,tsm`, `tsm`, `none` (TSN), ...
            The reference's names (`motion+attn`, `tdn+tam`, `patch_mattn`) work too. Mechanisms
            that the reference changed mean its version: `tea` is read as `tea@official`.
        num_classes: Number of classes.
        num_frames: Frames in a clip (`num_segments` there).

    Raises:
        UsageError: The file is of another program, `temporal` contradicts its tensors, tensors are
            missing, unexpected or of another shape, or the file holds no tensors.
        FileNotFoundError: The file does not exist.
    """
    backbone = _BACKBONES.get(backbone, backbone)
    temporal = re.sub(r"[\w@]+", lambda word: _MECHANISMS.get(word[0], word[0]), temporal)
    model = create_model(
        backbone, temporal=temporal, num_classes=num_classes, num_frames=num_frames
    )
    given, source = _read_tensors(state_dict_or_path)
    _check_names(given, source, temporal, model)
    gate = "temporal.0" if "," in temporal else "temporal"  # several modules are in a sequence
    translated = {_translate(name, gate): tensor for name, tensor in given.items()}
    wanted = model.state_dict()
    translated |= {"mean": wanted["mean"], "std": wanted["std"]}
    misfits = describe_misfits(translated, wanted)
    if misfits:
        raise UsageError(
            f"{source} does not fit {backbone} with temporal={temporal!r}; tensors: {misfits}. "
            "Check that backbone, temporal, num_classes and num_frames are those of its training"
        )
    fill(model, translated)
    return model.eval()


def _read_tensors(
    state_dict_or_path: Mapping[str, Any] | str | Path,
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors by their names without `module.`, and a name of the source for errors."""
    source = "the checkpoint"
    if isinstance(state_dict_or_path, (str, Path)):
        source = str(state_dict_or_path)
        tensors = read_weights(Path(state_dict_or_path), what="reference weights")
    else:
        tensors = tensors_of(state_dict_or_path, source=source)
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}, source


# At a site, SITE.0.* is the gate, and SITE.1.weight the convolution; behind a temporal shift it is
# SITE.2.weight. In the TSM authors' code the convolution behind a shift is SITE.net.weight.
_SITE = r"^(.*?\.conv1|.*?\.conv\.0)"
_GATE = re.compile(_SITE + r"\.0\.((?:conv_down|conv_up|modules_list)\..*)")
_HOST = re.compile(_SITE + r"\.(net|[12])\.weight$")

_SAME_TENSORS = ("m2a", "motion", "attention", "patch@official")  # same tensor names
_GATED = (
    "m2a",
    "tea@official",
    "tdn@official",
    "tam@official",
    "tea@official+attention",
    "tdn@official+attention",
    "motion+tam@official",
    "tea@official+tam@official",
    "tdn@official+tam@official",
)


def _check_names(
    given: Mapping[str, Tensor], source: str, temporal: str, model: VideoRecognizer
) -> None:
    """Raise if the file is of another program, or the tensors' names contradict `temporal`."""
    if not any(name.startswith("base_model.") for name in given):
        raise UsageError(
            f"{source} is no checkpoint of the M2A or TSM authors: its first tensor is "
            f"{next(iter(given))}, wanted names such as base_model.conv1.weight. load_official "
            "reads checkpoints of github.com/gebob19/M2A and github.com/mit-han-lab/"
            "temporal-shift-module; motionaware.load reads files of motionaware.save"
        )
    shifted = _shifted_convolutions(given)
    gate = {translate_gate(found[2]) for found in map(_GATE.match, given) if found}
    terms = [re.sub(r"\(.*?\)|\s", "", term) for term in temporal.split(",")]
    wanted_gate = {
        name.partition(".temporal.")[2].removeprefix("0." if len(terms) > 1 else "")
        for name in model.state_dict()
        if ".temporal." in name
    }
    evidence = []
    if ("tsm" in terms) != bool(shifted):
        evidence.append(
            f"{shifted[0]} is the name of a convolution behind a temporal shift"
            if shifted
            else "no tensor has the name of a convolution behind a temporal shift"
        )
    if gate != wanted_gate:
        kinds = ", ".join(sorted({name.rpartition(".")[0] for name in gate}))
        evidence.append(f"its sites have gates of {kinds}" if gate else "its sites have no gates")
    if evidence:
        raise UsageError(
            f"{source} was not trained with temporal={temporal!r}: {' and '.join(evidence)}; "
            f"{_suggest(gate, is_shifted=bool(shifted))}"
        )
    here = {f"backbone.{site}.weight" for site in sites(model.backbone)}
    in_file = {_translate(name, "temporal") for name in shifted}
    if shifted and here <= model.state_dict().keys() and here != in_file:
        raise UsageError(
            f"{source} has a temporal shift at {len(in_file)} sites, {temporal!r} here at "
            f"{len(here)}; first difference: {min(here ^ in_file)}. load_official reads TSM "
            "networks with the shift before the first convolution of each residual block"
        )


def _shifted_convolutions(given: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the convolutions behind a temporal shift.

    These are SITE.net.weight, or have an index that is one more than the gate needs.
    """
    with_gate = {found[1] for found in map(_GATE.match, given) if found}
    return [
        name
        for name, found in ((name, _HOST.match(name)) for name in given)
        if found and (found[2] == "net" or int(found[2]) == 1 + (found[1] in with_gate))
    ]


def _suggest(gate: set[str], *, is_shifted: bool) -> str:
    """Return advice: the temporal names whose networks have these tensors."""
    names = [] if gate else ["tsm" if is_shifted else "none"]
    for name in _GATED if gate else ():
        make = site_maker(name)
        assert make is not None
        with torch.device("meta"):  # no memory, and no random draw
            tensors = make(channels=64, num_frames=8).state_dict()
        if tensors.keys() == gate:
            candidates = _SAME_TENSORS if name == "m2a" else (name,)
            names = [candidate + ",tsm" * is_shifted for candidate in candidates]
    if not names:
        return "no temporal name has these tensors"
    first, *others = (f"temporal={name!r}" for name in names)
    more = f", or, if it was trained so, {', '.join(others)}" if others else ""
    return f"load it with {first}{more}"


def _translate(name: str, gate: str) -> str:
    """Return the name here of a tensor with a name in the reference."""
    name = re.sub(r"^base_model\.", "backbone.", name)
    name = re.sub(r"^new_fc\.", "head.", name)
    inside = _GATE.match(name)
    if inside:
        name = f"{inside[1]}.{gate}.{translate_gate(inside[2])}"
    name = _HOST.sub(r"\1.weight", name)
    flat = re.match(r"(backbone\.features\.(\d+)\.conv)\.(\d+)\.(.*)", name)
    if flat is None:
        return name
    block, number, index, rest = flat.groups()
    # Only the first block has no expansion, and therefore fewer layers.
    names = _FLAT_MOBILENET_UNEXPANDED if number == "1" else _FLAT_MOBILENET
    return f"{block}.{names.get(index, index)}.{rest}"


def translate_gate(name: str) -> str:
    """Return the name inside our gate of a tensor in one of the reference's blocks.

    >>> translate_gate("modules_list.0.motion_mod.conv3_smallscale2.weight")
    'inner.motion.coarse.0.weight'
    """
    parts = name.replace("modules_list.0.", "inner.").split(".")
    return ".".join(_PARTS.get(part, part) for part in parts)
