#!/usr/bin/env bash
# transformers 5.24.0: after one forward pass under FakeTensorMode, every DINOv3 of the process gives fake tensors.
#
# Expected: a deep copy of a network, run under torch's FakeTensorMode to learn its shapes, changes
# nothing outside the copy and the mode.
# Behaviour: DINOv3's position embeddings keep the coordinates of patches in a process-wide functools.lru_cache.
# The fake pass fills it with a FakeTensor. Other DINOv3 networks of the same grid, made later and run without the mode,
# take it from there: their outputs are FakeTensors without numbers, and nothing is raised until a value is read.
# Output: output before Tensor, after the fake pass of another network FakeTensor.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 transformers==5.24.0 numpy
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'P'
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DINOv3ViTConfig, DINOv3ViTModel

facts = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8}


def output_type(size):
    network = DINOv3ViTModel(DINOv3ViTConfig(image_size=size, **facts)).eval()
    with torch.no_grad():
        return type(network(torch.rand(1, 3, size, size)).last_hidden_state).__name__


before = output_type(64)
watched = DINOv3ViTModel(DINOv3ViTConfig(image_size=32, **facts)).eval()
with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
    watched(torch.empty(1, 3, 32, 32))
after = output_type(32)
print(f"output before: {before}; of a new network after the fake pass of another: {after}")
assert (before, after) == ("Tensor", "FakeTensor")
P
