"""Read weights that the reference implementations wrote: M2A and TSM, ResNets and MobileNetV2.

Their networks are laid out as ours, under other names: a site's convolution stands last in a
sequence that begins with the temporal module, and MobileNetV2's blocks are flat.

Source  https://github.com/gebob19/M2A and https://github.com/mit-han-lab/temporal-shift-module
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.models.weights import read_weights, tensors_of

_BACKBONES = {"mobilenetv2": "mobilenet_v2"}  # theirs -> ours

_MECHANISMS = {  # parts of a temporal name: theirs -> ours
    "attn": "attention",
    "patch_mattn": "patch@official",
    **{name: f"{name}@official" for name in ("patch", "tea", "tdn", "tam")},
}

_PARTS = {  # modules and tensors inside a gate: theirs -> ours
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

# A block's convolutions and norms by their place in the reference's flat sequence.
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
    """Build a recognizer from a checkpoint of the M2A or TSM authors' code, in evaluation mode.

    Args:
        state_dict_or_path: The file, its content, or the state dict alone.
        backbone: `resnet18`, `resnet50`, ..., or `mobilenet_v2`.
        temporal: What the network was trained with: `m2a`, `m2a,tsm`, `tsm`, `none`, ...; the
            reference's own spellings (`motion+attn`, `tdn+tam`, `patch_mattn`) will do. What it
            altered is read as `tea@official`, ..., also where `@official` is left out.
        num_classes: Number of classes.
        num_frames: Frames a clip (`num_segments` there).

    Raises:
        ValueError: Tensors are missing, left over or of another shape, or the file holds none.
        FileNotFoundError: There is no such file.
    """
    backbone = _BACKBONES.get(backbone, backbone)
    temporal = re.sub(r"[\w@]+", lambda word: _MECHANISMS.get(word[0], word[0]), temporal)
    model = create_model(
        backbone, temporal=temporal, num_classes=num_classes, num_frames=num_frames
    )
    given = _read(state_dict_or_path)
    gate = "temporal.0" if "," in temporal else "temporal"  # several modules stand in a sequence
    translated = {_translate(name, gate): tensor for name, tensor in given.items()}
    wanted = model.state_dict()
    translated |= {"mean": wanted["mean"], "std": wanted["std"]}
    _explain_misfits(translated, wanted, f"{backbone} with temporal={temporal!r}")
    model.load_state_dict(translated)
    return model.eval()


def _read(state_dict_or_path: Mapping[str, Any] | str | Path) -> dict[str, Tensor]:
    if isinstance(state_dict_or_path, (str, Path)):
        tensors = read_weights(Path(state_dict_or_path), what="reference weights")
    else:
        tensors = tensors_of(state_dict_or_path, source="the checkpoint")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _translate(name: str, gate: str) -> str:
    """One tensor's name in the reference -> its name here."""
    name = re.sub(r"^base_model\.", "backbone.", name)
    name = re.sub(r"^new_fc\.", "head.", name)
    # A site: SITE.0.* is its gate, SITE.1.weight or SITE.2.weight the convolution itself; the TSM
    # authors call the convolution SITE.net.
    site = r"^(.*?\.conv1|.*?\.conv\.0)"
    inside = re.match(site + r"\.0\.((?:conv_down|conv_up|modules_list)\..*)", name)
    if inside:
        name = f"{inside[1]}.{gate}.{translate_gate(inside[2])}"
    name = re.sub(site + r"\.(?:net|[12])\.weight$", r"\1.weight", name)
    flat = re.match(r"(backbone\.features\.(\d+)\.conv)\.(\d+)\.(.*)", name)
    if flat is None:
        return name
    block, number, place, rest = flat.groups()
    # Only the first block has no expansion, and so fewer members.
    places = _FLAT_MOBILENET_UNEXPANDED if number == "1" else _FLAT_MOBILENET
    return f"{block}.{places.get(place, place)}.{rest}"


def translate_gate(name: str) -> str:
    """A tensor's name inside one of the reference's blocks -> its name inside our gate.

    >>> translate_gate("modules_list.0.motion_mod.conv3_smallscale2.weight")
    'inner.motion.coarse.0.weight'
    """
    parts = name.replace("modules_list.0.", "inner.").split(".")
    return ".".join(_PARTS.get(part, part) for part in parts)


def _explain_misfits(given: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    missing = sorted(wanted.keys() - given.keys())
    surplus = sorted(given.keys() - wanted.keys())
    reshaped = sorted(n for n in wanted.keys() & given.keys() if wanted[n].shape != given[n].shape)
    if not (missing or surplus or reshaped):
        return
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing, first {missing[0]}")
    if surplus:
        problems.append(f"{len(surplus)} are left over, first {surplus[0]}")
    if reshaped:
        name = reshaped[0]
        problems.append(
            f"{len(reshaped)} differ in shape, first {name}: "
            f"{tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}"
        )
    raise ValueError(
        f"the checkpoint does not fit {what}: {'; '.join(problems)}. "
        "Check backbone, temporal and num_classes against how it was trained"
    )
