#!/usr/bin/env bash
# torch 2.14.1: torch.load reads a file with a flipped bit in a weight without an error.
#
# Expected: torch.save writes a zip file, and a zip file has a CRC-32 of each entry, so a copy that
# was damaged in transfer raises an error when it is loaded.
# Behaviour: torch.load (weights_only=True or False, mmap or not) does not compare the CRC. The tensor has a
# wrong value. Python's zipfile finds the damage in the same file at once.
# Output: weight 1.0 -> 1.5 after one bit was flipped, no error; zipfile.testzip() names the entry.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy
"$folder/venv/bin/python" - "$folder/weights.pth" <<'P'
import struct
import sys
import zipfile
from pathlib import Path

import torch

path = Path(sys.argv[1])
torch.save({"weight": torch.ones(64)}, path)
content = bytearray(path.read_bytes())
place = content.index(struct.pack("<2f", 1.0, 1.0))
content[place + 2] ^= 0b0100_0000  # of the first number's fraction
path.write_bytes(content)

loaded = [
    torch.load(path, weights_only=safe, mmap=mapped)["weight"][0].item()
    for safe in (True, False)
    for mapped in (True, False)
]
with zipfile.ZipFile(path) as archive:
    damaged = archive.testzip()
print(f"first weight 1.0 -> {loaded}; zipfile says damaged: {damaged}")
assert loaded == [1.5] * 4 and damaged is not None and damaged.endswith("data/0")
P
