"""Run a copy of a network on fake tensors, which have shapes but no values, and leave none behind.

Some libraries cache tensors for the whole process: in a `functools.lru_cache`, a dict of a module
or an attribute of a class. A fake tensor in such a cache would break every later network. Two
measures prevent this:

1. Only the input, the tensors of the network and what is computed from them are fake. A tensor made
   from sizes alone (`torch.arange(h)`) is real, so a cache of positions holds real values.
2. After the run all fake tensors must be gone. Caches that hold some are cleared or restored (see
   `library_caches.py`). If a fake tensor is still alive, `run_on_fake_tensors` raises.

FakeTensorMode is private to torch (checked with 2.14). The meta device is public, but tensors on it
fail together with the real tensors that networks make in `forward`.
"""

import copy
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from motionaware.errors import UsageError
from motionaware.models.library_caches import CacheSnapshot, clear_lru_caches, snapshot_caches

Result = TypeVar("Result")
MakeInput = Callable[[tuple[int, ...]], Tensor]


class FakeTensorLeak(UsageError):
    """A fake tensor is still alive after the shape trace, in a cache that cannot be cleared."""


def run_on_fake_tensors(
    network: nn.Module, run: Callable[[nn.Module, MakeInput], Result]
) -> Result:
    """Call `run` with a fake copy of a network and a function that makes fake inputs.

    The network, the state of the random generators and all caches are unchanged afterwards.

    Args:
        network: The network.
        run: Takes the copy and a function from a shape to a fake tensor. It returns no tensor.

    Returns:
        The result of `run`.

    Raises:
        FakeTensorLeak: A fake tensor is still alive after the run and could not be removed.
    """
    with _garbage_collection_disabled():  # the snapshot makes thousands of small objects
        snapshots = snapshot_caches(network)
    mode = _RecordingMode()
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    result, failure = None, None
    try:
        with _fake_tensor_log_disabled(), torch.random.fork_rng(list(devices)), torch.no_grad():
            result = _run_on_copy(network, run, mode)
    except Exception as error:
        _drop_tracebacks(error)
        failure = error
    _remove_fake_tensors(mode.made, snapshots, network=type(network).__name__)
    if failure is not None:
        raise failure
    return cast(Result, result)


def _run_on_copy(
    network: nn.Module, run: Callable[[nn.Module, MakeInput], Result], mode: "_RecordingMode"
) -> Result:
    tensors = [*network.parameters(), *network.buffers()]
    fakes: dict[int, Any] = {id(tensor): mode.from_tensor(tensor) for tensor in tensors}
    fake_network = copy.deepcopy(network, fakes).eval()
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))

    def make_input(shape: tuple[int, ...]) -> Tensor:
        with mode:
            return torch.empty(shape, dtype=like.dtype, device=like.device)

    return run(fake_network, make_input)


class _RecordingMode(FakeTensorMode):
    """A FakeTensorMode that keeps a weak reference to each fake tensor it makes.

    It is entered only to make the input, so operations without a fake argument stay real.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.made: list[weakref.ReferenceType[Tensor]] = []

    def from_tensor(self, *args: Any, **kwargs: Any) -> Any:
        fake = super().from_tensor(*args, **kwargs)
        self.made.append(weakref.ref(fake))
        return fake

    def __torch_dispatch__(self, *args: Any, **kwargs: Any) -> Any:
        output = super().__torch_dispatch__(*args, **kwargs)
        for leaf in tree_leaves(output):
            if isinstance(leaf, FakeTensor):
                self.made.append(weakref.ref(leaf))
        return output


@contextmanager
def _garbage_collection_disabled() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _fake_tensor_log_disabled() -> Iterator[None]:
    """Stop torch from logging a traceback for an error that the caller reports in one line."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _drop_tracebacks(error: BaseException | None) -> None:
    """Drop the stack frames of an error and its causes: they hold tensors of the run."""
    dropped: set[int] = set()
    while error is not None and id(error) not in dropped:
        dropped.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _remove_fake_tensors(
    made: list[weakref.ref[Tensor]], snapshots: list[CacheSnapshot], *, network: str
) -> None:
    """Remove the fake tensors that are still alive from caches; raise if some stay alive."""
    if not _alive(made):
        return
    gc.collect()  # reference cycles
    if not _alive(made):
        return
    clear_lru_caches(_alive(made))
    for snapshot in snapshots:
        snapshot.restore_if_reaching(_alive(made))
    gc.collect()
    if left := _alive(made):
        holders = {
            f"a {type(holder).__module__}.{type(holder).__qualname__}"
            for holder in gc.get_referrers(*left)
            if holder is not left and not isinstance(holder, FrameType)
        }
        raise FakeTensorLeak(
            f"{network} keeps {len(left)} tensors of the shape trace, which have no values "
            f"(held by {', '.join(sorted(holders)) or 'an extension'}), so later calls could read "
            "them; switch that cache off while modules are inserted, or name 2-D convolutions with "
            "where=, which need no shape trace"
        )


def _alive(made: list[weakref.ref[Tensor]]) -> list[Tensor]:
    return list({id(tensor): tensor for ref in made if (tensor := ref()) is not None}.values())
