"""Assigns shards to DataLoader workers and fixes the batch order.

Every worker process is a lane with shards of its own, so that a shard is read by one process and
once an epoch. Everything follows from the index, the seed and the epoch, before a shard is opened:

    deal    the shards, in a new order every epoch, go to the lanes in turns
    mix     in each lane the videos of `MIXED` shards at a time are mixed with each other
    batch   each lane's videos in whole batches, the lanes in turns; what is left over in all lanes
            makes the last batches, for which some shards are read again

So each video comes once, an epoch has as many batches as if there were no shards, and a run can go
on at any batch. The numbers of a run depend on the number of workers, unlike without shards.
"""

import hashlib
import os
from collections.abc import Container, Iterable, Iterator
from functools import partial
from itertools import zip_longest

import torch
from torch.utils.data import DataLoader

from motionaware.data.loader import (
    Batch,
    ClipDataset,
    Request,
    SequentialBatchSampler,
    TrainingBatchSampler,
    batches_per_epoch,
    make_loader,
    start_workers,
)
from motionaware.data.shards.layout import ShardedExamples
from motionaware.data.shards.reader import MIXED, ShardDataset
from motionaware.data.transforms.mixup import Mixing
from motionaware.errors import DataError, VideoError

_FOR_GOOD = 1_000_002  # in place of an epoch


class ShardBatchSampler:
    """Which lane makes which batch of an epoch, and in what order they come.

    Set `epoch` before iterating, and `start` to the number of batches that are done already.

    Args:
        examples: The videos in their shards.
        batch_size: Clips a batch.
        num_lanes: Processes that read.
        seed: Of the order and of each clip; None keeps the order of the index, and asks for test
            views.
        rank: Of this process among those that train together; they share the shards out for good,
            by the seed.
        world_size: How many these are.

    Raises:
        DataError: There are fewer shards than processes that train together.
    """

    def __init__(
        self,
        examples: ShardedExamples,
        *,
        batch_size: int,
        num_lanes: int,
        seed: int | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        num_shards = len(examples.shards)
        if num_shards < world_size:
            raise DataError(
                f"{num_shards} shards cannot be shared out among {world_size} processes; write "
                "more of them: motionaware prepare shards KIND --root ROOT --out DIR "
                "--shard-mib LESS"
            )
        dealt = torch.arange(num_shards)
        if world_size > 1:
            dealt = torch.randperm(num_shards, generator=_generator(seed or 0, _FOR_GOOD))
        self.shards = dealt[rank::world_size].sort().values.tolist()
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.num_examples = sum(len(examples.within(shard)) for shard in self.shards)
        self.rank, self.world_size = rank, world_size
        self.num_lanes = max(1, min(num_lanes, len(self.shards)))
        self.merge_single = False  # append a last batch of one request to the batch before it
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return batches_per_epoch(self) - self.start

    def digest(self) -> str:
        """What must be as it was for an epoch to go on where it stopped."""
        names = [self.examples.shards[shard] for shard in self.shards]
        facts = repr((names, self.num_lanes, self.examples.labels.tolist()))
        return hashlib.sha256(facts.encode()).hexdigest()

    def part(self) -> str:
        """Which part of the videos this is, where other processes have the rest."""
        return "" if self.world_size == 1 else f" (of rank {self.rank} of {self.world_size})"

    def turns(self) -> list[tuple[int, list[int]]]:
        """The epoch's batches of videos that are not done, in order, each with its lane."""
        shards, generator = self.shards, None
        if self.seed is not None:
            generator = _generator(self.seed, self.epoch)
            shards = [shards[i] for i in _shuffled(len(shards), generator)]
        lanes = [
            self._videos(shards[lane :: self.num_lanes], generator)
            for lane in range(self.num_lanes)
        ]
        size = self.batch_size
        whole = [
            [lane[i : i + size] for i in range(0, len(lane) - size + 1, size)] for lane in lanes
        ]
        turns = [
            (lane, batch)
            for one_round in zip_longest(*whole)
            for lane, batch in enumerate(one_round)
            if batch is not None
        ]
        rest = [index for lane in lanes for index in lane[len(lane) // size * size :]]
        turns += [
            (i // size % self.num_lanes, rest[i : i + size]) for i in range(0, len(rest), size)
        ]
        if batches_per_epoch(self) < len(turns):
            _, single = turns.pop()
            turns[-1] = turns[-1][0], turns[-1][1] + single
        return turns[self.start :]

    def __iter__(self) -> Iterator[list[Request]]:
        return self.requests(range(self.num_lanes))

    def requests(self, lanes: Container[int]) -> Iterator[list[Request]]:
        """The batches of some lanes; a clip's seed does not depend on who makes it."""
        seeds: list[int | None] = [None] * len(self.examples)
        if self.seed is not None:
            generator = _generator(self.seed, self.epoch)
            seeds = torch.randint(2**62, (len(seeds),), generator=generator).tolist()
        for lane, batch in self.turns():
            if lane in lanes:
                yield [Request(index, seeds[index]) for index in batch]

    def _videos(self, shards: list[int], generator: torch.Generator | None) -> list[int]:
        """A lane's videos in the order in which it makes them."""
        videos = []
        for begin in range(0, len(shards), MIXED):
            mixed = [
                i for shard in shards[begin : begin + MIXED] for i in self.examples.within(shard)
            ]
            if generator is not None:
                mixed = [mixed[i] for i in _shuffled(len(mixed), generator)]
            videos += mixed
        return videos


class RoundRobinLoader(Iterable[Batch | VideoError]):
    """A loader for each lane, each with one process, taken in turns as the order says."""

    def __init__(
        self, order: ShardBatchSampler, loaders: list[DataLoader[Batch | VideoError]]
    ) -> None:
        self.order, self.loaders = order, loaders

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch | VideoError]:
        turns = [lane for lane, _ in self.order.turns()]
        lanes = [start_workers(loader) for loader in self.loaders]  # all begin to work at once
        for lane in turns:
            yield next(lanes[lane])


class _Lane:
    """The batches of one lane."""

    def __init__(self, order: ShardBatchSampler, lane: int) -> None:
        self.order, self.lane = order, lane

    def __iter__(self) -> Iterator[list[Request]]:
        return self.order.requests([self.lane])


def training_loader(
    dataset: ClipDataset,
    *,
    batch_size: int,
    seed: int,
    num_workers: int,
    mixing: Mixing | None = None,
    skip: bool = False,
    balanced: bool = False,
) -> tuple[TrainingBatchSampler | ShardBatchSampler, Iterable[Batch | VideoError]]:
    """A loader of training clips, and the order that it follows; see `make_loader`.

    With `balanced`, every class comes equally often in an epoch; see `balanced_order`.

    Raises:
        DataError: `balanced` is asked of shards.
    """
    make = partial(make_loader, dataset, mixing=mixing, skip=skip)
    if isinstance(dataset, ShardDataset):
        if balanced:
            raise DataError(
                "data.balanced_sampling needs to read a video several times in an epoch, but "
                "shards are read once an epoch, one after the other; set train.class_weights "
                "balanced instead, or train on the data set that the shards were written from"
            )
        rank, world_size = place_of_process()
        order = ShardBatchSampler(
            dataset.reader.examples,
            batch_size=batch_size,
            num_lanes=num_workers,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        return order, _lanes(order, make, num_workers)
    labels = dataset.labels() if balanced else None
    order = TrainingBatchSampler(len(dataset), batch_size=batch_size, seed=seed, labels=labels)
    return order, make(order, num_workers=num_workers)


def view_loader(
    dataset: ClipDataset, *, batch_size: int, num_workers: int, skip: bool = False
) -> RoundRobinLoader | DataLoader[Batch | VideoError]:
    """A loader of the test views of all videos; see `make_loader`."""
    make = partial(make_loader, dataset, skip=skip)
    if isinstance(dataset, ShardDataset):
        examples = dataset.reader.examples
        order = ShardBatchSampler(examples, batch_size=batch_size, num_lanes=num_workers, seed=None)
        return _lanes(order, make, num_workers)
    return make(
        SequentialBatchSampler(len(dataset), batch_size=batch_size), num_workers=num_workers
    )


def place_of_process() -> tuple[int, int]:
    """The rank of this process among those that train together, and how many these are.

    As torch.distributed says, or else what launchers such as torchrun put into the environment.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _lanes(
    order: ShardBatchSampler, make: "partial[DataLoader[Batch | VideoError]]", num_workers: int
) -> RoundRobinLoader:
    lanes = (_Lane(order, lane) for lane in range(order.num_lanes))
    return RoundRobinLoader(order, [make(lane, num_workers=min(1, num_workers)) for lane in lanes])


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def _shuffled(number: int, generator: torch.Generator) -> list[int]:
    return torch.randperm(number, generator=generator).tolist()
