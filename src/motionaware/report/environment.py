"""Where, when and with what something was measured."""

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("motionaware", "torch", "torchvision", "timm", "numpy")


def present_facts() -> dict[str, str]:
    """Date, commit, machine and versions, as they are now."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": commit_of(Path(__file__)) or "not in a git checkout",
        "machine": machine(),
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{one} {version(one)}" for one in _PACKAGES)]
        ),
    }


def machine() -> str:
    """Processor, number of CPUs and GPUs, system."""
    gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return (
        f"{_processor()}, {os.cpu_count()} CPUs; GPU: {', '.join(gpus) or 'none'}; "
        f"{platform.system()} {platform.machine()}"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "processor unknown"


def commit_of(path: Path) -> str | None:
    """The commit of the git checkout that holds a file, `-dirty` if it was changed; None without.

    A file that lies in a checkout and is not part of it, an installed package for example, has no
    commit.
    """
    try:
        _git(path, "ls-files", "--error-unmatch", path.name)
        return _git(path, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(path: Path, *words: str) -> str:
    command = ["git", "-C", str(path.absolute().parent), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
