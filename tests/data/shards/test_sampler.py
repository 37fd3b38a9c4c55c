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
    **rank: int,
) -> ShardBatchSampler:
    return ShardBatchSampler(
        examples(counts), batch_size=batch_size, num_workers=num_workers, seed=seed, **rank
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
            one = sampler(num_workers=num_workers, seed=seed, rank=rank, world_size=world_size)
            one.epoch = epoch
            assert len(one.plan()) == len(one)
            assert sum(len(batch) for _, batch in one.plan()) == one.num_examples
            seen += videos(one)
        assert sorted(seen) == list(range(sum(COUNTS)))


@pytest.mark.parametrize("num_workers", [1, 2, 3, 9])
def test_each_worker_requests_its_batches_of_the_plan(num_workers):
    one = sampler(num_workers=num_workers)
    requests = [one.requests([worker]) for worker in range(one.num_workers)]
    for worker, batch in one.plan():
        assert [request.index for request in next(requests[worker])] == batch
    assert [list(rest) for rest in requests] == [[]] * one.num_workers


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_can_continue_at_any_batch(epoch):
    one = sampler()
    one.epoch = epoch
    whole, number = one.plan(), len(one)
    for start in range(number + 1):
        one.start = start
        assert one.plan() == whole[start:]
        assert len(one) == number - start


def test_an_epoch_has_as_many_batches_as_without_shards():
    for num_workers in (1, 2, 3, 5):
        one = sampler(num_workers=num_workers)
        sizes = [len(batch) for _, batch in one.plan()]
        assert sizes == [3] * 6 + [2]


def test_the_order_depends_on_seed_and_epoch_only():
    first, same, other = sampler(), sampler(), sampler(seed=1)
    assert first.plan() == same.plan()
    assert videos(first) != videos(other)
    same.epoch = 1
    assert videos(first) != videos(same)
    assert sorted(videos(first)) == sorted(videos(same))


def test_shards_are_shuffled_and_the_videos_of_two_shards_are_mixed():
    one = sampler((20,) * 8, batch_size=20, num_workers=1)
    batches = [batch for _, batch in one.plan()]
    assert videos(one) != list(range(160))
    for window in range(0, len(batches), NUM_MIXED_SHARDS):
        shards = {
            index // 20 for batch in batches[window : window + NUM_MIXED_SHARDS] for index in batch
        }
        assert len(shards) == NUM_MIXED_SHARDS  # at most this many are in memory
        assert (
            len({index // 20 for index in batches[window]}) == NUM_MIXED_SHARDS
        )  # each batch has videos of both


def test_the_seed_of_a_clip_does_not_depend_on_its_worker():
    def seeds(num_workers: int) -> dict[int, int | None]:
        requests = chain.from_iterable(sampler(num_workers=num_workers))
        return {request.index: request.seed for request in requests}

    assert seeds(1) == seeds(3)
    assert len(set(seeds(1).values())) == sum(COUNTS)


def test_without_a_seed_one_process_keeps_the_order_of_the_index():
    one = sampler(num_workers=0, seed=None)
    assert videos(one) == list(range(sum(COUNTS)))
    assert {request.seed for batch in one for request in batch} == {None}


def test_workers_read_different_shards_except_for_the_last_batches():
    one = sampler((30, 30, 30, 30), batch_size=7, num_workers=2)
    shards = [set(), set()]
    for worker, batch in one.plan()[:16]:  # 8 whole batches of the 60 videos of each worker
        shards[worker] |= {index // 30 for index in batch}
    assert [len(of_worker) for of_worker in shards] == [2, 2]
    assert not shards[0] & shards[1]


def test_a_rank_has_the_same_shards_in_every_epoch():
    def shards(epoch: int) -> set[int]:
        one = sampler(rank=1, world_size=2)
        one.epoch = epoch
        return {one.examples.locate(index)[0] for index in videos(one)}

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
    one = sampler(counts, num_workers=num_workers)
    separate = videos(one)
    assert len(one.plan()[-1][1]) == 1
    one.merge_single = True
    assert videos(one) == separate
    assert sorted(len(batch) for _, batch in one.plan()) == [3] * (len(one) - 1) + [4]
    assert len(one) == len(one.plan()) == sum(counts) // 3
