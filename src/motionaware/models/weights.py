"""Read the tensors of a file that someone else wrote: a state dict, and nothing that runs."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_weights(path: Path, *, what: str = "weights") -> dict[str, Tensor]:
    """Read a state dict, of a `.safetensors` file or one that `torch.save` wrote.

    Args:
        path: The file.
        what: What it should hold, for the error where it is not there.

    Raises:
        ValueError: The file is damaged or of another kind, or holds no tensors by name.
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{what} {path} do not exist; give the path of a file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ValueError(
            f"{path} cannot be read as weights ({reason}); wanted a state dict that torch.save "
            "wrote, or a .safetensors file: fetch it again, or give another"
        ) from error
    return tensors_of(content, source=str(path))


def tensors_of(content: Any, *, source: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint: itself, or what it holds as `state_dict`.

    Raises:
        ValueError: It holds something else; `source` is named.
    """
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(tensors, Mapping) or not tensors:
        kind = type(tensors).__name__
        raise ValueError(f"{source} holds {kind}, wanted tensors by their names: a state dict")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"{source} holds {type(tensor).__name__} under {name!r}, wanted a tensor: a state "
                "dict, or a checkpoint that has one as 'state_dict'"
            )
    return dict(tensors)
