"""Save and load: tensors, ClipSpec, class names, plan and recipe in one safetensors file."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open

from motionaware.clip import ClipSpec, stored_clip
from motionaware.files import write_atomically
from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.temporal import Maker

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
    header = {
        "format": FORMAT,
        "version": version("motionaware"),
        "clip": json.dumps(asdict(model.clip)),
        "class_names": json.dumps(model.class_names),
        "plan": json.dumps(plan),
        "recipe": json.dumps(model.recipe),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(Path(path), safetensors.torch.save(tensors, metadata=header))


def load(path: str | Path, *, temporal: Maker | None = None) -> VideoRecognizer:
    """Read a model that `save` wrote, in evaluation mode, on the CPU.

    Args:
        path: The file.
        temporal: The callable that made the model's own temporal modules, if it was one.

    Raises:
        FileNotFoundError: There is no such file, or it is a folder.
        ValueError: The file is damaged, or is no checkpoint of motionaware.
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
    clip = ClipSpec(**stored_clip(json.loads(header["clip"])))
    model = create_model(
        plan["backbone"],
        temporal=temporal or plan["temporal"],
        num_frames=clip.num_frames,
        class_names=json.loads(header["class_names"]),
        clip=clip,
        where=plan["where"],
        stages=plan.get("stages"),  # files of earlier versions have none
        every=plan.get("every"),
        dropout=plan["dropout"],
        causal=plan.get("causal", False),
    )
    model.recipe = json.loads(header["recipe"])
    model.load_state_dict(tensors)
    return model.eval()
