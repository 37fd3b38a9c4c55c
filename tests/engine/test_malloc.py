import resource
import subprocess
import sys


def faults(*, keep: bool) -> int:
    """Pages that the system hands a process which takes and frees 64 MB twenty times more."""
    script = f"""
import resource, torch
from motionaware.engine.malloc import keep_freed_memory
if {keep}:
    keep_freed_memory()
for _ in range(20):  # small pieces that settle in a freed large one make the heap grow at first
    torch.empty(2**24).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(2**24).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    return int(subprocess.check_output([sys.executable, "-c", script]))


def test_freed_memory_is_not_taken_from_the_system_again():
    assert resource.getpagesize() <= 2**16
    assert faults(keep=True) < faults(keep=False) / 4
