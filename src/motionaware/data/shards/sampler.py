"""Assigns shards to DataLoader workers and fixes the batch order.

Each worker reads its own shards, so that a shard is read by one process and once an epoch. The plan
of an epoch depends on the index, the seed and the epoch only, so no shard is opened for it:

    assign   shards are shuffled every epoch and assigned to the workers in turn
    mix      each worker shuffles the videos of `NUM_MIXED_SHARDS` shards at a time
    batch    each worker makes whole batches, and the workers take turns; the videos left over from
             all workers make the last batches, for which some shards are read again

So each video occurs once an epoch, an epoch has as many batches as without shards, and a run can
continue at any batch. Unlike without shards, the numbers of a run depend on `num_workers`.
"""

import hashlib
import os
from collections.abc import Container, Iterable, Iterator
from functools import partial
from itertools import zip_longest

import torch
from torch.utils.data import DataLoader

from motionaware.data.loader import Batch, Request, batches_per_epoch, start_workers
from motionaware.data.shards.layout import ShardedExamples
from motionaware.errors import DataError, VideoError

NUM_MIXED_SHARDS = 2
"""How many shards a worker holds in memory and shuffles together."""

_RANK_ASSIGNMENT = 1_000_002  # seeds like an epoch; shards are assigned to ranks for all epochs


class ShardBatchSampler:
    """The batches of an epoch, in order, each with the worker that makes it.

    Set `epoch` before iterating, and `start` to the number of batches that are already done.

    Args:
        examples: The videos in their shards.
        batch_size: Clips in a batch.
        num_workers: Processes that read shards; with 0, this process takes the part of one worker.
        seed: Seed of the order and of each clip. None keeps the order of the index and requests
            test views.
        rank: Rank of this process among those that train together. Shards are assigned to ranks
            once, for all epochs.
        world_size: Number of these processes.

    Raises:
        DataError: There are fewer shards than ranks.
    """

    def __init__(
        self,
        examples: ShardedExamples,
        *,
        batch_size: int,
        num_workers: int,
        seed: int | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        num_shards = len(examples.shards)
        if num_shards < world_size:
            raise DataError(
                f"{num_shards} shards are too few for {world_size} processes; write smaller shards:"
                " motionaware prepare shards KIND --root ROOT --out DIR --shard-mib LESS"
            )
        order = torch.arange(num_shards)
        if world_size > 1:
            order = torch.randperm(num_shards, generator=_generator(seed or 0, _RANK_ASSIGNMENT))
        self.shards = order[rank::world_size].sort().values.tolist()
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.num_examples = sum(len(examples.videos_in(shard)) for shard in self.shards)
        self.rank, self.world_size = rank, world_size
        self.num_workers = max(1, min(num_workers, len(self.shards)))
        self.merge_single = False  # append a last batch of one request to the batch before it
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return batches_per_epoch(self) - self.start

    def __iter__(self) -> Iterator[list[Request]]:
        return self.requests(range(self.num_workers))

    def digest(self) -> str:
        """Return a digest of everything but the seed on which the order of an epoch depends."""
        names = [self.examples.shards[shard] for shard in self.shards]
        facts = repr((names, self.num_workers, self.examples.labels.tolist()))
        return hashlib.sha256(facts.encode()).hexdigest()

    def plan(self) -> list[tuple[int, list[int]]]:
        """Return worker and video indices of each batch of the epoch that is not done, in order."""
        shards, generator = self.shards, None
        if self.seed is not None:
            generator = _generator(self.seed, self.epoch)
            shards = [shards[i] for i in _permutation(len(shards), generator)]
        videos_of_worker = [
            self._mixed_videos(shards[worker :: self.num_workers], generator)
            for worker in range(self.num_workers)
        ]
        size = self.batch_size
        whole_batches = [
            [videos[i : i + size] for i in range(0, len(videos) - size + 1, size)]
            for videos in videos_of_worker
        ]
        plan = [
            (worker, batch)
            for batches in zip_longest(*whole_batches)
            for worker, batch in enumerate(batches)
            if batch is not None
        ]
        rest = [
            index for videos in videos_of_worker for index in videos[len(videos) // size * size :]
        ]
        plan += [
            (i // size % self.num_workers, rest[i : i + size]) for i in range(0, len(rest), size)
        ]
        if batches_per_epoch(self) < len(plan):
            _, single = plan.pop()
            plan[-1] = plan[-1][0], plan[-1][1] + single
        return plan[self.start :]

    def requests(self, workers: Container[int]) -> Iterator[list[Request]]:
        """Yield the batches of some workers. A clip's seed does not depend on its worker."""
        seeds: list[int | None] = [None] * len(self.examples)
        if self.seed is not None:
            generator = _generator(self.seed, self.epoch)
            seeds = torch.randint(2**62, (len(seeds),), generator=generator).tolist()
        for worker, batch in self.plan():
            if worker in workers:
                yield [Request(index, seeds[index]) for index in batch]

    def _mixed_videos(self, shards: list[int], generator: torch.Generator | None) -> list[int]:
        """Return the videos of a worker's shards in the order in which it reads them."""
        videos = []
        for begin in range(0, len(shards), NUM_MIXED_SHARDS):
            mixed = [
                index
                for shard in shards[begin : begin + NUM_MIXED_SHARDS]
                for index in self.examples.videos_in(shard)
            ]
            if generator is not None:
                mixed = [mixed[i] for i in _permutation(len(mixed), generator)]
            videos += mixed
        return videos


class RoundRobinLoader(Iterable[Batch | VideoError]):
    """Takes batches from one DataLoader a worker, in the order of a `ShardBatchSampler`."""

    def __init__(
        self, batches: ShardBatchSampler, loaders: list[DataLoader[Batch | VideoError]]
    ) -> None:
        self.batches, self.loaders = batches, loaders

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch | VideoError]:
        workers = [worker for worker, _ in self.batches.plan()]
        iterators = [start_workers(loader) for loader in self.loaders]  # all workers start now
        for worker in workers:
            yield next(iterators[worker])


def round_robin_loader(
    batches: ShardBatchSampler,
    make: "partial[DataLoader[Batch | VideoError]]",
    *,
    num_workers: int,
) -> RoundRobinLoader:
    """Return the loader of the batches of an epoch.

    Args:
        batches: The batches.
        make: `make_loader` with all arguments but the batches and the number of workers.
        num_workers: Processes; 0 reads in this process.
    """
    loaders = [
        make(_WorkerBatches(batches, worker), num_workers=min(1, num_workers))
        for worker in range(batches.num_workers)
    ]
    return RoundRobinLoader(batches, loaders)


class _WorkerBatches:
    """The batches of one worker."""

    def __init__(self, batches: ShardBatchSampler, worker: int) -> None:
        self.batches, self.worker = batches, worker

    def __iter__(self) -> Iterator[list[Request]]:
        return self.batches.requests([self.worker])


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes that train together.

    Both come from torch.distributed if it is initialized, else from the environment variables that
    launchers such as torchrun set.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def _permutation(number: int, generator: torch.Generator) -> list[int]:
    return torch.randperm(number, generator=generator).tolist()
