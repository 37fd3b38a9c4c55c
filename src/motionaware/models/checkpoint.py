"""Save a recognizer to one safetensors file, and load it.

The file holds the tensors, ClipSpec, class names, build plan and recipe; see `checkpoint_file.py`.
"""

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from motionaware.errors import MotionAwareWarning, UsageError
from motionaware.models.checkpoint_file import (
    CheckpointFile,
    is_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.models.weights import describe_misfits, fill
from motionaware.temporal.names import is_causal, site_maker
from motionaware.temporal.own import find_own, names_own_code, own_digests, relative_own, short_name
from motionaware.temporal.table import Maker


def save(model: VideoRecognizer, path: str | Path) -> None:
    """Write a model to one file, with a checksum that `load` verifies.

    The file is written atomically: an older file is kept until the new one is complete.

    Raises:
        UsageError: The model is no `VideoRecognizer`, or was not built by `create_model`, so that
            `load` could not build it again.
        OSError: The file could not be written, for example because the disk is full.
    """
    if not isinstance(model, VideoRecognizer):
        raise UsageError(
            f"a {type(model).__name__} cannot be saved; wanted a VideoRecognizer, which "
            "create_model() builds; or save its state_dict() yourself"
        )
    if model.plan is None:
        raise UsageError(
            "this model has no plan, which load() needs to build it again; build it with "
            "create_model(), or save model.state_dict() yourself"
        )
    plan, own_code = asdict(model.plan), {}
    if model.plan.temporal is not None:
        own_code = own_digests(model.plan.temporal)
        plan["temporal"] = relative_own(model.plan.temporal, Path(path).parent)
    file = CheckpointFile(
        path=Path(path),
        tensors=model.state_dict(),
        clip=model.clip,
        class_names=model.class_names,
        plan=plan,
        recipe=model.recipe,
        origin=model.origin,
        own_code=own_code,
    )
    write_checkpoint(file)


def load(
    path: str | Path, *, temporal: str | Maker | None = None, allow_code: bool = False
) -> VideoRecognizer:
    """Load a model that `save` wrote, onto the CPU and in evaluation mode.

    The checksum of the file is verified. Files of early versions have none; loading them gives a
    `MotionAwareWarning`.

    If the temporal modules of a model are in a user's own code, the checkpoint names the file or
    dotted path of this code. Loading it runs the code, so it needs `temporal` or `allow_code`.
    Other checkpoints run no code.

    Args:
        path: The file.
        temporal: The class or function that makes the model's own temporal modules, or a temporal
            name to use instead of the recorded one.
        allow_code: Import the code that the checkpoint names. Its path is relative to the
            checkpoint's folder; if the file is not there, it is searched in the working folder.

    Raises:
        FileNotFoundError: The file does not exist, or is a folder.
        UsageError: The file is damaged, is no checkpoint of motionaware, its tensors do not fit
            the network, or it names code that may not be imported, does not exist or fails.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))  # of a run: best, then last
        hint = f"give {files[0]}" if files else "it has no .safetensors file; give the path of one"
        raise FileNotFoundError(f"checkpoint {path} is a folder, wanted a file; {hint}")
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; give a .safetensors file")
    if path.suffix in (".pth", ".pt", ".tar") and not is_checkpoint(path):
        raise UsageError(
            f"{path} is no .safetensors file that motionaware.save wrote; read checkpoints of the "
            "M2A and TSM authors with load_official"
        )
    file = read_checkpoint(path)
    plan = file.plan
    recorded: str | None = plan["temporal"]
    if temporal is None and recorded is None:
        raise UsageError(
            f"{path} was saved with a temporal module of your own; pass the callable that "
            "makes it: load(path, temporal=...)"
        )
    chosen = _choose_temporal(path, plan, temporal, allow_code=allow_code)
    causal = plan.get("causal", False)
    if isinstance(chosen, str):
        _warn_if_code_changed(path, chosen, file.own_code)
    elif recorded is not None and names_own_code(recorded):
        assert temporal is not None and not isinstance(temporal, str)
        causal = causal or is_causal(recorded, own=temporal)
    model = create_model(
        plan["backbone"],
        temporal=chosen,
        num_frames=file.clip.num_frames,
        class_names=file.class_names,
        clip=file.clip,
        where=plan["where"],
        stages=plan.get("stages"),  # absent in files of earlier versions
        every=plan.get("every"),
        dropout=plan["dropout"],
        causal=causal,
    )
    misfits = describe_misfits(file.tensors, model.state_dict())
    if misfits:
        remedy = (
            "pass the callable with which the model was made as temporal"
            if recorded is None
            else "install the versions of timm, torchvision and motionaware with which it was saved"
        )
        raise UsageError(
            f"the tensors of {path} do not fit {plan['backbone']} with temporal "
            f"{temporal or recorded!r}: {misfits}; {remedy}"
        )
    if recorded and names_own_code(recorded) and model.plan and model.plan.temporal is None:
        model.plan = replace(model.plan, temporal=_find_recorded(path, recorded))
    model.recipe, model.origin = file.recipe, file.origin
    fill(model, file.tensors)
    return model.eval()


def _choose_temporal(
    path: Path, plan: dict[str, Any], temporal: str | Maker | None, *, allow_code: bool
) -> str | Maker:
    """Return the name or callable that makes the modules; import the recorded code if allowed."""
    recorded = plan["temporal"]
    if recorded is None or not names_own_code(recorded):
        chosen = temporal or recorded
        assert chosen is not None  # refused above
        return chosen
    if isinstance(temporal, str):
        return temporal
    if temporal is not None:
        return _replace_code(temporal, recorded, plan)
    name = short_name(recorded)
    if not allow_code:
        raise UsageError(
            f"{path} names code of its author, {name}, and loading it would run this code. If you "
            "trust it, add --allow-code to the command, or in Python use "
            "load(path, allow_code=True) or load(path, temporal=the class)"
        )
    try:
        return find_own(recorded, [path.parent])
    except ValueError as error:
        found = _find_recorded(path, recorded)
        if found is None:
            raise UsageError(
                f"{path}: {error}; {name} is not in {Path.cwd()} either. Run in the folder that "
                "contains it, or in Python pass the class: load(path, temporal=the class)"
            ) from error
        return found


def _find_recorded(path: Path, recorded: str) -> str | None:
    """Return a recorded temporal name with absolute paths; None if its code is not found."""
    for temporal, folder in ((recorded, path.parent), (short_name(recorded), Path())):
        try:
            return find_own(temporal, [folder])
        except ValueError:
            continue
    return None


def _replace_code(make: Maker, recorded: str, plan: dict[str, Any]) -> Maker:
    """Return a maker for a recorded temporal name that uses `make` instead of the named code."""
    causal = plan.get("causal", False) or is_causal(recorded, own=make)
    made = site_maker(recorded, causal=causal, own=make)
    assert made is not None
    return lambda *, channels, num_frames, causal=False: made(
        channels=channels, num_frames=num_frames
    )


def _warn_if_code_changed(path: Path, temporal: str, recorded: dict[str, str]) -> None:
    """Warn if the code of an own module differs from the code with which the model was saved."""
    current = own_digests(temporal)
    for name in sorted(current.keys() & recorded.keys()):
        if current[name] != recorded[name]:
            warnings.warn(
                f"{name} has changed since {path} was saved; its scores may differ from those "
                "measured before",
                MotionAwareWarning,
                stacklevel=3,
            )
