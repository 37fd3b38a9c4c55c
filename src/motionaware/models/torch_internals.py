"""Private names of torch that `models` needs where torch offers no public ones.

Checked with torch 2.14. Fake tensors are in `fake_tensors.py`; the attributes of nn.Module that
hold its children and hooks (`_modules`, `_forward_pre_hooks`) are used where they are needed.
"""

import torch
import torch._dynamo
from torch.jit._trace import TracerWarning as TracerWarning  # without a public name in the stubs


def is_backward_running() -> bool:
    """Return True if autograd runs a backward pass in this thread."""
    return torch._C._current_graph_task_id() != -1


def make_compiler_check_hooks() -> None:
    """Make torch.compile check hooks before it reuses a graph.

    By default it does not: the graph of a network without temporal modules would run instead of the
    graph of a network with them if both have the same class.
    """
    if torch._dynamo.config.skip_nnmodule_hook_guards:
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # drop the graphs that were made without this check
