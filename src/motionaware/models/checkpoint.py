"""Save and load: tensors, ClipSpec, class names, plan and recipe in one safetensors file."""

import json
import warnings
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open

from motionaware.clip import ClipSpec
from motionaware.errors import UserNotice
from motionaware.files import write_atomically
from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.temporal import (
    Maker,
    find_own,
    is_causal,
    names_own_code,
    own_digests,
    relative_own,
    short_name,
    site_maker,
)

FORMAT = "motionaware-1"


def save(model: VideoRecognizer, path: str | Path) -> None:
    """Write a model to one file, all or nothing: an older file stays until the new one is whole.

    Raises:
        ValueError: The model was not built by `create_model`, so `load` could not build it again,
            or is no `VideoRecognizer`.
        OSError: The file could not be written, for instance because the disk is full.
    """
    if not isinstance(model, VideoRecognizer):
        raise ValueError(
            f"a {type(model).__name__} cannot be saved, only a VideoRecognizer, which "
            "create_model() builds; save its state_dict() yourself"
        )
    if model.plan is None:
        raise ValueError(
            "this model has no plan by which load() could build it again; build it with "
            "create_model(), or save model.state_dict() yourself"
        )
    plan = asdict(model.plan)
    digests = {}
    if model.plan.temporal is not None:
        digests = own_digests(model.plan.temporal)
        plan["temporal"] = relative_own(model.plan.temporal, Path(path).parent)
    header = {
        "format": FORMAT,
        "version": version("motionaware"),
        "clip": json.dumps(asdict(model.clip)),
        "class_names": json.dumps(model.class_names),
        "plan": json.dumps(plan),
        "own_code": json.dumps(digests),
        "recipe": json.dumps(model.recipe),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(Path(path), safetensors.torch.save(tensors, metadata=header))


def load(
    path: str | Path, *, temporal: str | Maker | None = None, allow_code: bool = False
) -> VideoRecognizer:
    """Read a model that `save` wrote, in evaluation mode, on the CPU.

    A checkpoint whose temporal modules are a user's own names their file or dotted path. Loading it
    runs that code, so it needs `temporal` or `allow_code`; other checkpoints run none.

    Args:
        path: The file.
        temporal: The class or function that made the model's own temporal modules, or the temporal
            name to build it with.
        allow_code: Import the code that the checkpoint names. Its path begins at the checkpoint's
            folder; if it is not there, the file's name is looked for in the working folder.

    Raises:
        FileNotFoundError: There is no such file, or it is a folder.
        ValueError: The file is damaged, is no checkpoint of motionaware, or names code that may not
            be imported, does not exist or fails.
    """
    path = Path(path)
    if path.is_dir():
        held = sorted(path.glob("*.safetensors"))  # of a run: best, then last
        hint = f"give {held[0]}" if held else "it holds no .safetensors file; give the path of one"
        raise FileNotFoundError(f"checkpoint {path} is a folder, wanted a file; {hint}")
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; give a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}); it is damaged or of another kind. "
            "Reference checkpoints (.pth) are read by load_official"
        ) from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {header.get('format')!r}, wanted {FORMAT!r}; "
            "it was not written by motionaware.save, or by a newer version"
        )
    plan = json.loads(header["plan"])
    if plan["temporal"] is None and temporal is None:
        raise ValueError(
            f"{path} was made with a temporal module of your own; "
            "hand its maker in again: load(path, temporal=...)"
        )
    clip = ClipSpec(**json.loads(header["clip"]))
    chosen = _choose_temporal(path, plan, temporal, allow_code=allow_code)
    is_own = plan["temporal"] is not None and names_own_code(plan["temporal"])
    causal = plan.get("causal", False)
    if isinstance(chosen, str):
        _warn_of_other_code(path, chosen, json.loads(header.get("own_code", "{}")))
    elif is_own:
        assert not isinstance(temporal, str)
        causal = causal or is_causal(plan["temporal"], own=temporal)
    model = create_model(
        plan["backbone"],
        temporal=chosen,
        num_frames=clip.num_frames,
        class_names=json.loads(header["class_names"]),
        clip=clip,
        where=plan["where"],
        stages=plan.get("stages"),  # files of earlier versions have none
        every=plan.get("every"),
        dropout=plan["dropout"],
        causal=causal,
    )
    if is_own and model.plan is not None and model.plan.temporal is None:
        model.plan = replace(model.plan, temporal=_find_recorded(path, plan["temporal"]))
    model.recipe = json.loads(header["recipe"])
    model.load_state_dict(tensors)
    return model.eval()


def _choose_temporal(
    path: Path, plan: dict[str, Any], temporal: str | Maker | None, *, allow_code: bool
) -> str | Maker:
    """What builds the temporal modules; code that a checkpoint names is imported if allowed."""
    recorded = plan["temporal"]
    if recorded is None or not names_own_code(recorded):
        chosen = temporal or recorded
        assert chosen is not None  # refused above
        return chosen
    if isinstance(temporal, str):
        return temporal
    if temporal is not None:
        return _recorded_with(temporal, recorded, plan)
    name = short_name(recorded)
    if not allow_code:
        raise ValueError(
            f"{path} names code of its author, {name}, and loading it would run that code. If you "
            "trust it, add --allow-code to the command, or in Python load(path, allow_code=True) "
            "or load(path, temporal=the class)"
        )
    try:
        return find_own(recorded, [path.parent])
    except ValueError as error:
        found = _find_recorded(path, recorded)
        if found is None:
            raise ValueError(
                f"{path}: {error}; nor is {name} in {Path.cwd()}. Run in the folder that holds it, "
                "or in Python hand the class in: load(path, temporal=the class)"
            ) from error
        return found


def _find_recorded(path: Path, recorded: str) -> str | None:
    """A recorded temporal name with absolute paths; None where its code is not there."""
    for temporal, folder in ((recorded, path.parent), (short_name(recorded), Path())):
        try:
            return find_own(temporal, [folder])
        except ValueError:
            continue
    return None


def _recorded_with(make: Maker, recorded: str, plan: dict[str, Any]) -> Maker:
    """Make what a temporal name says, with a class in place of the code that it names."""
    causal = plan.get("causal", False) or is_causal(recorded, own=make)
    made = site_maker(recorded, causal=causal, own=make)
    assert made is not None
    return lambda *, channels, num_frames, causal=False: made(
        channels=channels, num_frames=num_frames
    )


def _warn_of_other_code(path: Path, temporal: str, recorded: dict[str, str]) -> None:
    """Warn where the code of an own module is not the code that the model was saved with."""
    there = own_digests(temporal)
    for name in sorted(there.keys() & recorded.keys()):
        if there[name] != recorded[name]:
            warnings.warn(
                f"{name} has changed since {path} was saved; its scores may differ from those "
                "measured then",
                UserNotice,
                stacklevel=3,
            )
