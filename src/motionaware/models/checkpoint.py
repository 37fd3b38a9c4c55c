"""Save and load: tensors, ClipSpec, class names, plan and recipe in one safetensors file."""

from dataclasses import asdict
from pathlib import Path

from motionaware.models.checkpoint_file import (
    CheckpointFile,
    is_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.models.weights import describe_misfits, fill
from motionaware.temporal import Maker


def save(model: VideoRecognizer, path: str | Path) -> None:
    """Write a model to one file, all or nothing: an older file stays until the new one is whole.

    The file carries a checksum, which `load` verifies.

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
    file = CheckpointFile(
        path=Path(path),
        tensors=model.state_dict(),
        clip=model.clip,
        class_names=model.class_names,
        plan=asdict(model.plan),
        recipe=model.recipe,
        origin=model.origin,
    )
    write_checkpoint(file)


def load(path: str | Path, *, temporal: Maker | None = None) -> VideoRecognizer:
    """Read a model that `save` wrote, in evaluation mode, on the CPU.

    The checksum of the file is verified. Files of early versions have none; they are read with a
    `MotionAwareWarning`.

    Args:
        path: The file.
        temporal: The callable that made the model's own temporal modules, if it was one.

    Raises:
        FileNotFoundError: There is no such file, or it is a folder.
        ValueError: The file is damaged, is no checkpoint of motionaware, or its tensors do not fit
            the network.
    """
    path = Path(path)
    if path.is_dir():
        held = sorted(path.glob("*.safetensors"))  # of a run: best, then last
        hint = f"give {held[0]}" if held else "it holds no .safetensors file; give the path of one"
        raise FileNotFoundError(f"checkpoint {path} is a folder, wanted a file; {hint}")
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; give a .safetensors file")
    if path.suffix in (".pth", ".pt", ".tar") and not is_checkpoint(path):
        raise ValueError(
            f"{path} is no .safetensors file that motionaware.save wrote; checkpoints of the M2A "
            "and TSM authors are read by load_official"
        )
    file = read_checkpoint(path)
    plan = file.plan
    temporal = temporal or plan["temporal"]
    if temporal is None:
        raise ValueError(
            f"{path} was made with a temporal module of your own; "
            "hand its maker in again: load(path, temporal=...)"
        )
    model = create_model(
        plan["backbone"],
        temporal=temporal,
        num_frames=file.clip.num_frames,
        class_names=file.class_names,
        clip=file.clip,
        where=plan["where"],
        stages=plan.get("stages"),  # files of earlier versions have none
        every=plan.get("every"),
        dropout=plan["dropout"],
        causal=plan.get("causal", False),
    )
    misfits = describe_misfits(file.tensors, model.state_dict())
    if misfits:
        remedy = (
            "hand in the maker that the model was made with"
            if plan["temporal"] is None
            else "install the versions of timm, torchvision and motionaware that it was made with"
        )
        raise ValueError(
            f"the tensors of {path} do not fit {plan['backbone']} with temporal "
            f"{temporal!r}: {misfits}; {remedy}"
        )
    model.recipe, model.origin = file.recipe, file.origin
    fill(model, file.tensors)
    return model.eval()
