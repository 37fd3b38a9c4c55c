"""Read files of tensors: verify their checksums, and execute no code from a file."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from motionaware.errors import UsageError

CHECKSUM = "checksum"  # key of the safetensors metadata
_IS_DIRECTORY = 0x10  # MS-DOS attribute of a zip entry

_REMEDY = "copy the file again from its source, or use another checkpoint"


def read_weights(path: Path, *, what: str = "weights") -> dict[str, Tensor]:
    """Read a state dict from a `.safetensors` file or from a file that `torch.save` wrote.

    Args:
        path: The file.
        what: What the file should hold, for the error if it does not exist.

    Raises:
        UsageError: The file is damaged, has another format, or holds no named tensors.
        FileNotFoundError: The file does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{what} {path} do not exist; give the path of a file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)[1]
    try:
        content = read_torch(path)
    except ValueError as error:
        raise UsageError(
            f"{path} cannot be read as weights ({error}); wanted a state dict that torch.save "
            "wrote, or a .safetensors file: download it again, or give another file"
        ) from error
    return tensors_of(content, source=str(path))


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors of a safetensors file, and verify the checksum if it has one.

    Raises:
        UsageError: The file is damaged or has another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except OSError:
        raise
    except Exception as error:  # SafetensorError, or torch's errors for damaged text and dtypes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"{path} cannot be read as weights: it is no safetensors file, or it is damaged "
            f"({reason}); {_REMEDY}"
        ) from error
    if CHECKSUM in metadata and metadata.pop(CHECKSUM) != checksum_of(tensors, metadata):
        raise UsageError(
            f"{path} is damaged: its content does not match its checksum, so weights or class "
            f"names differ from those that were saved; {_REMEDY}"
        )
    return metadata, tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, ValueError):  # ValueError: the text is not UTF-8
        return {}


def checksum_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of the metadata and of names, dtypes, shapes and bytes of all tensors.

    Pass full tensors: a process that holds shards must gather them first. The order of the names
    and the devices do not matter.

    SHA-256 is the fastest hash of hashlib on CPUs with instructions for it, and it is the usual
    hash to identify a file.
    """
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        content: Any = tensor.flatten().view(torch.uint8).numpy()  # a buffer, without a copy
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, as `sha256sum` prints it, after `sha256:`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def read_torch(file: Path | io.BytesIO) -> Any:
    """Read a file that `torch.save` wrote, onto the CPU: tensors and plain values only.

    `torch.load` does not verify the checksums of its zip file; this function does. Files in the
    format before PyTorch 1.6 have no checksums.

    Raises:
        UsageError: The file is damaged or has another format. The message is only the reason; the
            caller adds the name of the file.
    """
    try:
        if zipfile.is_zipfile(file):
            _check_zip(file)
        if not isinstance(file, Path):
            file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler can raise any error for damaged bytes
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UsageError(reason) from error


def _check_zip(file: Path | io.BytesIO) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if not any(entry.CRC for entry in entries):  # saved with set_crc32_options(False)
            return
        damaged = archive.testzip() or next(
            (entry.filename for entry in entries if entry.external_attr & _IS_DIRECTORY), None
        )
    if damaged:
        raise UsageError(f"it is damaged: {damaged} does not match its checksum")


def tensors_of(content: Any, *, source: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: the checkpoint itself, or its entry `state_dict`.

    Args:
        content: The content of the file.
        source: Name of the file, for the error.

    Raises:
        UsageError: A value is no tensor, or there are none.
    """
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(tensors, Mapping) or not tensors:
        kind = type(tensors).__name__
        raise UsageError(f"{source} holds {kind}, wanted named tensors: a state dict")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise UsageError(
                f"{source} holds {type(tensor).__name__} under {name!r}, wanted a tensor: a state "
                "dict, or a checkpoint that has one as 'state_dict'"
            )
    return dict(tensors)


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors with the names and shapes of a module's own into the module.

    The state dict keeps the versions of the module's layers. Some layers, such as MnasNet's, refuse
    a state dict without versions.
    """
    state = module.state_dict()
    state.update(tensors)
    module.load_state_dict(state)


def describe_misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Describe how names and shapes of tensors differ from the wanted ones; None if they agree.

    >>> describe_misfits({"a": torch.zeros(2)}, {"a": torch.zeros(3), "b": torch.zeros(1)})
    '1 missing, first b; 1 of another shape, first a: (2,), wanted (3,)'
    """
    missing = sorted(wanted.keys() - given.keys())
    surplus = sorted(given.keys() - wanted.keys())
    reshaped = sorted(n for n in wanted.keys() & given.keys() if wanted[n].shape != given[n].shape)
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing, first {missing[0]}")
    if surplus:
        problems.append(f"{len(surplus)} unexpected, first {surplus[0]}")
    if reshaped:
        name = reshaped[0]
        problems.append(
            f"{len(reshaped)} of another shape, first {name}: "
            f"{tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}"
        )
    return "; ".join(problems) or None
