"""The assignment of shards to ranks and workers: each video occurs once an epoch."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from motionaware.data.shards.layout import ShardedExamples
from motionaware.data.shards.sampler import (
    NUM_MIXED_SHARDS,
    ShardBatchSampler,
    rank_and_world_size,
)
from motionaware.errors import DataError

COUNTS = (4, 7, 1, 5, 3)


def examples(counts: tuple[int, ...] = COUNTS) -> ShardedExamples:
    ends = np.cumsum(counts, dtype=np.int64)
    names = tuple(f"train-{number:06d}.tar" for number in range(len(counts)))
    return ShardedExamples("data", names, ends, np.zeros(sum(counts), dtype=np.int32))


def sampler(
    counts: tuple[int, ...] = COUNTS,
    *,
    batch_size: int = 3,
    num_workers: int = 2,
    seed: int | None = 0,
    **ranks: int,
) -> ShardBatchSampler:
    return ShardBatchSampler(
        examples(counts), batch_size=batch_size, num_workers=num_workers, seed=seed, **ranks
    )


def videos(batches: ShardBatchSampler) -> list[int]:
    return list(chain.from_iterable(batch for _, batch in batches.plan()))


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_video_occurs_once_an_epoch_over_all_ranks_and_workers(world_size, num_workers, seed):
    for epoch in range(3):
        seen = []
        for rank in range(world_size):
            batches = sampler(num_workers=num_workers, seed=seed, rank=rank, world_size=world_size)
            batches.epoch = epoch
            assert len(batches.plan()) == len(batches)
            assert sum(len(batch) for _, batch in batches.plan()) == batches.num_examples
            seen += videos(batches)
        assert sorted(seen) == list(range(sum(COUNTS)))


@pytest.mark.parametrize("num_workers", [1, 2, 3, 9])
def test_each_worker_requests_its_batches_of_the_plan(num_workers):
    batches = sampler(num_workers=num_workers)
    requests = [batches.requests([worker]) for worker in range(batches.num_workers)]
    for worker, batch in batches.plan():
        assert [request.index for request in next(requests[worker])] == batch
    assert [list(rest) for rest in requests] == [[]] * batches.num_workers


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_can_continue_at_any_batch(epoch):
    batches = sampler()
    batches.epoch = epoch
    whole, number = batches.plan(), len(batches)
    for start in range(number + 1):
        batches.start = start
        assert batches.plan() == whole[start:]
        assert len(batches) == number - start


def test_an_epoch_has_as_many_batches_as_without_shards():
    for num_workers in (1, 2, 3, 5):
        batches = sampler(num_workers=num_workers)
        sizes = [len(batch) for _, batch in batches.plan()]
        assert sizes == [3] * 6 + [2]


def test_the_order_depends_on_seed_and_epoch_only():
    first, same, other = sampler(), sampler(), sampler(seed=1)
    assert first.plan() == same.plan()
    assert videos(first) != videos(other)
    same.epoch = 1
    assert videos(first) != videos(same)
    assert sorted(videos(first)) == sorted(videos(same))


def test_shards_are_shuffled_and_the_videos_of_two_shards_are_mixed():
    batches = sampler((20,) * 8, batch_size=20, num_workers=1)
    order = videos(batches)
    assert order != list(range(160))
    for begin in range(0, 160, 20 * NUM_MIXED_SHARDS):
        mixed = order[begin : begin + 20 * NUM_MIXED_SHARDS]
        in_memory = {index // 20 for index in mixed}
        in_first_batch = {index // 20 for index in mixed[:20]}
        assert len(in_memory) == len(in_first_batch) == NUM_MIXED_SHARDS


def test_the_seed_of_a_clip_does_not_depend_on_its_worker():
    def seeds(num_workers: int) -> dict[int, int | None]:
        requests = chain.from_iterable(sampler(num_workers=num_workers))
        return {request.index: request.seed for request in requests}

    assert seeds(1) == seeds(3)
    assert len(set(seeds(1).values())) == sum(COUNTS)


def test_without_a_seed_one_process_keeps_the_order_of_the_index():
    batches = sampler(num_workers=0, seed=None)
    assert videos(batches) == list(range(sum(COUNTS)))
    assert {request.seed for batch in batches for request in batch} == {None}


def test_workers_read_different_shards_except_for_the_last_batches():
    batches = sampler((30, 30, 30, 30), batch_size=7, num_workers=2)
    shards = [set(), set()]
    for worker, batch in batches.plan()[:16]:  # 8 whole batches of the 60 videos of each worker
        shards[worker] |= {index // 30 for index in batch}
    assert [len(of_worker) for of_worker in shards] == [2, 2]
    assert not shards[0] & shards[1]


def test_a_rank_has_the_same_shards_in_every_epoch():
    def shards(epoch: int) -> set[int]:
        batches = sampler(rank=1, world_size=2)
        batches.epoch = epoch
        return {batches.examples.locate(index)[0] for index in videos(batches)}

    assert shards(0) == shards(1) == shards(2)


def test_more_ranks_than_shards_are_refused():
    message = "5 shards are too few for 6 processes; write smaller shards"
    with pytest.raises(DataError, match=message):
        sampler(rank=0, world_size=6)


def test_the_rank_is_read_from_the_environment_of_a_launcher(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert rank_and_world_size() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert rank_and_world_size() == (2, 4)


def test_an_example_is_named_by_its_shard_and_its_position():
    assert [str(example.path) for example in examples()[3:6]] == [
        str(Path("train-000000.tar/000003")),
        str(Path("train-000001.tar/000000")),
        str(Path("train-000001.tar/000001")),
    ]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize("counts", [(4, 7, 1, 5, 2), (3, 4), (4,)])
def test_with_merge_single_a_last_batch_of_one_is_appended(
    counts: tuple[int, ...], num_workers: int
):
    batches = sampler(counts, num_workers=num_workers)
    separate = videos(batches)
    assert len(batches.plan()[-1][1]) == 1
    batches.merge_single = True
    assert videos(batches) == separate
    assert sorted(len(batch) for _, batch in batches.plan()) == [3] * (len(batches) - 1) + [4]
    assert len(batches) == len(batches.plan()) == sum(counts) // 3
