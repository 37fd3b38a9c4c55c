#!/usr/bin/env bash
# torch 2.14.1: torch.compile runs the graph of one network for another one that has hooks.
#
# Expected: a forward pre-hook that is registered after the first compiled call runs at the
# next call, as it does eagerly; and two networks of one class, one of them with hooks, have two graphs.
# Behaviour: the guards of a graph leave out hooks (torch._dynamo.config.skip_nnmodule_hook_guards is
# True), so the old graph passes its guards and runs. There is no warning, and fullgraph=True says nothing.
# Output (CPU, backend "eager"):
#   hook added after the first call    eager 10.0, compiled 1.0
#   other network, with a hook         eager 10.0, compiled 1.0
#   with skip_nnmodule_hook_guards = False    eager 10.0, compiled 10.0
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy
"$folder/venv/bin/python" - <<'P'
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x) + 0


def ten_times(module, inputs):
    return (10 * inputs[0],)


x = torch.ones(1)


def last_values(guard_hooks, same_network):
    torch.compiler.reset()
    torch._dynamo.config.skip_nnmodule_hook_guards = not guard_hooks
    first = Net()
    torch.compile(first, backend="eager", fullgraph=True)(x)
    hooked = first if same_network else Net()
    compiled = torch.compile(hooked, backend="eager", fullgraph=True)
    hooked.layer.register_forward_pre_hook(ten_times)
    return hooked(x).item(), compiled(x).item()


seen = {
    "hook added after the first call": last_values(False, True),
    "other network, with a hook": last_values(False, False),
    "the first, hooks guarded": last_values(True, True),
    "the second, hooks guarded": last_values(True, False),
}
for what, (eager, compiled) in seen.items():
    print(f"{what}: eager {eager}, compiled {compiled}")
assert list(seen.values()) == [(10.0, 1.0), (10.0, 1.0), (10.0, 10.0), (10.0, 10.0)]
P
