"""Who reads which shard: each video once an epoch, over all processes."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from motionaware.data.shards.layout import ShardedExamples
from motionaware.data.shards.reader import MIXED
from motionaware.data.shards.sampler import ShardBatchSampler, place_of_process
from motionaware.errors import DataError

COUNTS = (4, 7, 1, 5, 3)


def examples(counts: tuple[int, ...] = COUNTS) -> ShardedExamples:
    ends = np.cumsum(counts, dtype=np.int64)
    names = tuple(f"train-{number:06d}.tar" for number in range(len(counts)))
    return ShardedExamples("data", names, ends, np.zeros(sum(counts), dtype=np.int32))


def order(
    counts: tuple[int, ...] = COUNTS,
    *,
    batch_size: int = 3,
    num_lanes: int = 2,
    seed: int | None = 0,
    **place: int,
) -> ShardBatchSampler:
    return ShardBatchSampler(
        examples(counts), batch_size=batch_size, num_lanes=num_lanes, seed=seed, **place
    )


def videos(one: ShardBatchSampler) -> list[int]:
    return list(chain.from_iterable(batch for _, batch in one.turns()))


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_video_comes_once_an_epoch_over_all_ranks_and_workers(world_size, num_workers, seed):
    for epoch in range(3):
        seen = []
        for rank in range(world_size):
            one = order(num_lanes=num_workers, seed=seed, rank=rank, world_size=world_size)
            one.epoch = epoch
            assert len(one.turns()) == len(one)
            assert sum(len(batch) for _, batch in one.turns()) == one.num_examples
            seen += videos(one)
        assert sorted(seen) == list(range(sum(COUNTS)))


@pytest.mark.parametrize("num_lanes", [1, 2, 3, 9])
def test_lanes_ask_for_what_the_turns_announce(num_lanes):
    one = order(num_lanes=num_lanes)
    lanes = [one.requests([lane]) for lane in range(one.num_lanes)]
    for lane, batch in one.turns():
        assert [request.index for request in next(lanes[lane])] == batch
    assert [list(lane) for lane in lanes] == [[]] * one.num_lanes


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_goes_on_at_any_batch(epoch):
    one = order()
    one.epoch = epoch
    whole, number = one.turns(), len(one)
    for start in range(number + 1):
        one.start = start
        assert one.turns() == whole[start:]
        assert len(one) == number - start


def test_an_epoch_has_as_many_batches_as_without_shards_whatever_the_workers():
    for num_lanes in (1, 2, 3, 5):
        one = order(num_lanes=num_lanes)
        sizes = [len(batch) for _, batch in one.turns()]
        assert sizes == [3] * 6 + [2]


def test_the_order_follows_from_seed_and_epoch():
    first, again, other = order(), order(), order(seed=1)
    assert first.turns() == again.turns()
    assert videos(first) != videos(other)
    again.epoch = 1
    assert videos(first) != videos(again)
    assert sorted(videos(first)) == sorted(videos(again))


def test_the_shards_come_in_a_new_order_and_their_videos_are_mixed():
    one = order((20,) * 8, batch_size=20, num_lanes=1)
    batches = [batch for _, batch in one.turns()]
    assert videos(one) != list(range(160))
    for window in range(0, len(batches), MIXED):
        shards = {index // 20 for batch in batches[window : window + MIXED] for index in batch}
        assert len(shards) == MIXED  # no more need to be held at once
        assert len({index // 20 for index in batches[window]}) == MIXED  # and all are in a batch


def test_a_clips_seed_does_not_depend_on_who_makes_it():
    def seeds(num_lanes: int) -> dict[int, int | None]:
        requests = chain.from_iterable(order(num_lanes=num_lanes))
        return {request.index: request.seed for request in requests}

    assert seeds(1) == seeds(3)
    assert len(set(seeds(1).values())) == sum(COUNTS)


def test_one_process_without_a_seed_keeps_the_order_of_the_index():
    one = order(num_lanes=0, seed=None)
    assert videos(one) == list(range(sum(COUNTS)))
    assert {request.seed for batch in one for request in batch} == {None}


def test_a_worker_reads_shards_of_its_own_but_for_the_last_batches():
    one = order((30, 30, 30, 30), batch_size=7, num_lanes=2)
    shards = [set(), set()]
    for lane, batch in one.turns()[:16]:  # of each lane's 60 videos, 8 whole batches
        shards[lane] |= {index // 30 for index in batch}
    assert [len(of_lane) for of_lane in shards] == [2, 2]
    assert not shards[0] & shards[1]


def test_ranks_share_the_shards_out_for_good():
    def shards(epoch: int) -> set[int]:
        one = order(rank=1, world_size=2)
        one.epoch = epoch
        return {one.examples.find(index)[0] for index in videos(one)}

    assert shards(0) == shards(1) == shards(2)


def test_more_processes_than_shards_are_refused():
    words = "5 shards cannot be shared out among 6 processes; write more of them"
    with pytest.raises(DataError, match=words):
        order(rank=0, world_size=6)


def test_a_launchers_environment_says_which_rank_this_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert place_of_process() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert place_of_process() == (2, 4)


def test_an_example_is_named_by_its_shard_and_its_place_there():
    assert [str(one.path) for one in examples()[3:6]] == [
        str(Path("train-000000.tar/000003")),
        str(Path("train-000001.tar/000000")),
        str(Path("train-000001.tar/000001")),
    ]


@pytest.mark.parametrize("num_lanes", [1, 2, 3])
@pytest.mark.parametrize("counts", [(4, 7, 1, 5, 2), (3, 4), (4,)])
def test_a_last_batch_of_one_is_appended_on_request(counts: tuple[int, ...], num_lanes: int):
    one = order(counts, num_lanes=num_lanes)
    apart = videos(one)
    assert len(one.turns()[-1][1]) == 1
    one.merge_single = True
    assert videos(one) == apart
    assert sorted(len(batch) for _, batch in one.turns()) == [3] * (len(one) - 1) + [4]
    assert len(one) == len(one.turns()) == sum(counts) // 3
