"""Describe the environment of a measurement: date, commit, machine and versions."""

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("motionaware", "torch", "torchvision", "timm", "numpy")


def describe_environment() -> dict[str, str]:
    """Return the current `date`, `commit` of motionaware, `machine` and `versions`."""
    versions = [f"{package} {version(package)}" for package in _PACKAGES]
    return {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": git_commit(Path(__file__)) or "not in a git checkout",
        "machine": describe_machine(),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def describe_machine() -> str:
    """Return processor, number of CPUs, GPUs and operating system, in one line."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return (
        f"{_processor_name()}, {os.cpu_count()} CPUs; GPU: {', '.join(gpus) or 'none'}; "
        f"{platform.system()} {platform.machine()}"
    )


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # only Linux has this file
    return platform.processor() or "processor unknown"


def git_commit(path: Path) -> str | None:
    """Return the commit of the checkout in which git tracks a file; None if git does not track it.

    The commit ends with `-dirty` if a tracked file of the checkout has been changed.
    """
    try:
        _run_git(path, "ls-files", "--error-unmatch", path.name)
        return _run_git(path, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _run_git(path: Path, *arguments: str) -> str:
    command = ["git", "-C", str(path.absolute().parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
