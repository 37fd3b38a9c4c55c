#!/usr/bin/env bash
# torch 2.14.1: torch.ao.quantization.fuse_modules runs a convolution's forward pre-hook twice.
#
# Expected: fusing a convolution with its batch norm moves the hooks of the convolution to the
# fused layer, as the comment in its source says.
# Behaviour: for evaluation the fused layer is a deep copy of the convolution, which has the hooks already,
# and then they are registered on it once more. A hook that changes the input changes it twice.
# Output: hooks 1 -> 2; a pre-hook that doubles its input: 2.0 before fusing, 4.0 after.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy
"$folder/venv/bin/python" -W ignore - <<'P'
import torch
from torch import nn
from torch.ao.quantization import fuse_modules

net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)).eval()
nn.init.ones_(net[0].weight)
net[0].register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
x = torch.ones(1, 1, 1, 1)
before, hooks_before = net(x).item(), len(net[0]._forward_pre_hooks)
fused = fuse_modules(net, ["0", "1"])
after, hooks_after = fused(x).item(), len(fused[0]._forward_pre_hooks)
print(f"hooks {hooks_before} -> {hooks_after}; output {before} -> {after}")
assert (hooks_before, hooks_after, before, after) == (1, 2, 2.0, 4.0)
P
