import errno
import gc
import multiprocessing
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import (
    Batch,
    ClipDataset,
    FailedSample,
    Request,
    Sample,
    SequentialBatchSampler,
    TrainingBatchSampler,
    balanced_order,
    collect_notes,
    iterate_batches,
    make_loader,
    smallest_batch_size,
)
from motionaware.data.transforms.mixup import Mixing
from motionaware.errors import VideoError, one_line

SPEC = ClipSpec(num_frames=4, image_size=16)


def checked(sample: Sample | FailedSample) -> Sample:
    assert isinstance(sample, Sample)
    return sample


def load_all(
    dataset: ClipDataset, batches: Iterable[list[Request]], num_workers: int = 0
) -> list[Batch]:
    return list(iterate_batches(make_loader(dataset, batches, num_workers=num_workers)))


def are_equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.views, two.views)
        and torch.equal(one.labels, two.labels)
        and torch.equal(one.indices, two.indices)
        for one, two in zip(first, second, strict=True)
    )


# ------------------------------------------------------------------------------ batch samplers


def sampler(
    epoch: int = 0, start: int = 0, seed: int = 0, batch_size: int = 4
) -> TrainingBatchSampler:
    sampler = TrainingBatchSampler(10, batch_size=batch_size, seed=seed)
    sampler.epoch, sampler.start = epoch, start
    return sampler


def test_every_example_comes_once_per_epoch():
    for batch_size in (1, 3, 4, 10, 64):
        batches = list(sampler(batch_size=batch_size))
        assert sorted(request.index for batch in batches for request in batch) == list(range(10))
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert len(batches) == len(sampler(batch_size=batch_size))


def test_order_and_seeds_are_a_function_of_seed_and_epoch():
    epochs = [list(sampler(epoch, seed=seed)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert epochs == [list(sampler(epoch, seed=seed)) for seed in (0, 1) for epoch in (0, 1, 2)]
    indices = [[request.index for batch in batches for request in batch] for batches in epochs]
    seeds = [request.seed for batches in epochs for batch in batches for request in batch]
    assert len({tuple(each) for each in indices}) == 6
    assert len(set(seeds)) == 60


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_can_start_at_any_batch(start):
    assert list(sampler(epoch=5, start=start)) == list(sampler(epoch=5))[start:]
    assert len(sampler(epoch=5, start=start)) == 3 - start


LABELS = [0] * 17 + [2] * 3 + [3] * 10


def balanced(*, epoch: int = 0, seed: int = 0, start: int = 0) -> list[list[Request]]:
    sampler = TrainingBatchSampler(len(LABELS), batch_size=4, seed=seed, labels=LABELS)
    sampler.epoch, sampler.start = epoch, start
    return list(sampler)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_balanced_sampling_draws_all_classes_that_occur_equally_often(epoch: int):
    indices = [request.index for batch in balanced(epoch=epoch) for request in batch]
    assert len(indices) == len(LABELS)
    assert Counter(LABELS[index] for index in indices) == {0: 10, 2: 10, 3: 10}
    times = Counter(indices)
    assert {times[index] for index in range(17)} == {0, 1}  # a subset of the large class
    assert {times[index] for index in (17, 18, 19)} == {3, 4}  # all of the small class, repeatedly
    assert {times[index] for index in range(20, 30)} == {1}


def test_counts_of_balanced_classes_differ_by_at_most_one():
    labels = torch.tensor([0] * 9 + [1, 2])
    order = balanced_order(labels, torch.Generator().manual_seed(0))
    assert sorted(labels[order].bincount().tolist()) == [3, 4, 4]


def test_balanced_sampling_is_a_function_of_seed_and_epoch_and_can_start_at_any_batch():
    assert balanced(epoch=3) == balanced(epoch=3)
    assert balanced(epoch=3) != balanced(epoch=4) != balanced(epoch=4, seed=1)
    for start in range(9):
        assert balanced(epoch=3, start=start) == balanced(epoch=3)[start:]
    seeds = [request.seed for batch in balanced() for request in batch]
    assert len(set(seeds)) == len(seeds)  # a repeated video gets another crop


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "sizes"),
    [(10, 3, [3, 3, 4]), (10, 4, [4, 4, 2]), (9, 3, [3, 3, 3]), (1, 3, [1]), (3, 1, [1, 1, 1])],
)
def test_merge_single_appends_a_last_batch_of_one_request(num_examples, batch_size, sizes):
    sampler = TrainingBatchSampler(num_examples, batch_size=batch_size, seed=0)
    unmerged = [request for batch in sampler for request in batch]
    sampler.merge_single = True
    batches = list(sampler)
    assert [len(batch) for batch in batches] == sizes
    assert len(sampler) == len(sizes)
    assert smallest_batch_size(sampler) == min(sizes)
    assert [request for batch in batches for request in batch] == unmerged
    for start in range(len(sizes) + 1):
        sampler.start = start
        assert list(sampler) == batches[start:]


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="batch_size = 0; a batch holds at least 1 clip"):
        TrainingBatchSampler(10, batch_size=0, seed=0)


def test_the_sequential_batch_sampler_keeps_the_order_of_the_data_set():
    assert len(SequentialBatchSampler(5, batch_size=2)) == 3
    assert list(SequentialBatchSampler(5, batch_size=2)) == [
        [Request(0), Request(1)],
        [Request(2), Request(3)],
        [Request(4)],
    ]


# -------------------------------------------------------------------------------------- the loader

few_processors = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def test_a_batch_stacks_its_samples(split):
    dataset = VideoDataset(split, spec=SPEC, num_views=2)
    batches = load_all(dataset, SequentialBatchSampler(6, batch_size=4))
    assert [batch.views.shape for batch in batches] == [(4, 2, 4, 3, 16, 16), (2, 2, 4, 3, 16, 16)]
    for batch in batches:
        for views, label, index in zip(
            batch.views, batch.labels.tolist(), batch.indices.tolist(), strict=True
        ):
            assert torch.equal(views, checked(dataset[Request(index)]).views)
            assert label == split.examples[index].label


@few_processors
def test_batches_do_not_depend_on_the_number_of_workers(split):
    def epochs(num_workers: int) -> list[Batch]:
        dataset = VideoDataset(split, spec=SPEC, flip=True)
        sampler = TrainingBatchSampler(6, batch_size=2, seed=3)
        loader = make_loader(dataset, sampler, num_workers=num_workers)
        batches = []
        for sampler.epoch, sampler.start in ((0, 0), (1, 0), (2, 1)):
            batches += iterate_batches(loader)
        return batches

    without_workers, with_workers = epochs(0), epochs(2)
    assert len(without_workers) == 3 + 3 + 2
    assert are_equal(without_workers, with_workers)


def test_each_epoch_has_different_clips_of_the_same_videos(split):
    dataset = VideoDataset(split, spec=SPEC)
    sampler = TrainingBatchSampler(6, batch_size=6, seed=3)
    clips = []
    for sampler.epoch in range(2):
        (batch,) = load_all(dataset, sampler)
        clips.append(batch.views[batch.indices.argsort()])
    assert not (clips[0] == clips[1]).flatten(1).all(1).any()


def check_that_the_broken_video_is_raised(broken: Split, num_workers: int) -> None:
    dataset = VideoDataset(broken, spec=SPEC)
    loader = make_loader(dataset, SequentialBatchSampler(3, batch_size=1), num_workers=num_workers)
    batches = iterate_batches(loader)
    assert next(batches).indices.tolist() == [0]
    with pytest.raises(VideoError, match=r"^\S*1\.mp4 does not open as a video[^\n]*$"):
        next(batches)
    assert list(batches) == []


@few_processors
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_video_is_raised_once_with_a_message_of_one_line(broken, num_workers):
    check_that_the_broken_video_is_raised(broken, num_workers)


@few_processors
def test_workers_end_as_soon_as_the_error_of_a_broken_video_is_handled(broken):
    gc.disable()  # else the collector may free the workers in an order that waits for each
    try:
        check_that_the_broken_video_is_raised(broken, num_workers=2)
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


class MissingFile(VideoDataset):
    def __getitem__(self, request: Request) -> Sample | FailedSample:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "clips.npy")


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("skip", [False, True])
def test_a_missing_file_is_raised_with_its_type_and_is_never_skipped(split, num_workers, skip):
    dataset = MissingFile(split, spec=SPEC)
    batches = SequentialBatchSampler(3, batch_size=2)
    loader = make_loader(dataset, batches, num_workers=num_workers, skip=skip)
    with pytest.raises(FileNotFoundError) as raised:
        list(iterate_batches(loader))
    assert raised.value.filename == "clips.npy"
    assert one_line(raised.value) == "clips.npy: No such file or directory"


def test_a_broken_video_replaces_its_whole_batch_by_an_error(broken):
    with pytest.raises(VideoError, match=r"1\.mp4 does not open as a video"):
        load_all(VideoDataset(broken, spec=SPEC), SequentialBatchSampler(3, batch_size=3))


# ------------------------------------------------------------------------------- mixed and skipped


def test_a_mixed_batch_does_not_depend_on_the_number_of_workers(split):
    dataset = VideoDataset(split, spec=SPEC)
    mixing = Mixing(num_classes=2, mixup_alpha=1.0)

    def batches(num_workers: int) -> list[Batch]:
        sampler = TrainingBatchSampler(6, batch_size=3, seed=1)
        loader = make_loader(dataset, sampler, num_workers=num_workers, mixing=mixing)
        return list(iterate_batches(loader))

    without_worker, with_worker = batches(0), batches(1)
    assert are_equal(without_worker, with_worker)
    for one, two in zip(without_worker, with_worker, strict=True):
        assert torch.equal(one.targets, two.targets)
    assert without_worker[0].targets.shape == (3, 2)


def test_unmixed_targets_are_the_labels(split):
    (batch,) = load_all(
        VideoDataset(split, spec=SPEC), TrainingBatchSampler(6, batch_size=6, seed=1)
    )
    assert torch.equal(batch.targets, batch.labels)


@few_processors
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_skipped_video_is_listed_and_not_replaced(broken, num_workers):
    dataset = VideoDataset(broken, spec=SPEC)
    loader = make_loader(
        dataset, SequentialBatchSampler(3, batch_size=2), num_workers=num_workers, skip=True
    )
    first, second = iterate_batches(loader)
    assert (first.indices.tolist(), second.indices.tolist()) == ([0], [2])
    assert [one.index for one in first.skipped] == [1]
    assert "1.mp4 does not open as a video" in str(first.skipped[0].error)


def test_a_batch_is_empty_if_all_its_videos_are_skipped(broken):
    loader = make_loader(
        VideoDataset(broken, spec=SPEC),
        SequentialBatchSampler(3, batch_size=1),
        num_workers=0,
        skip=True,
    )
    assert [len(batch.labels) for batch in iterate_batches(loader)] == [1, 0, 1]


def test_notes_of_batches_are_collected_in_order_and_without_duplicates(split):
    (batch,) = load_all(VideoDataset(split, spec=SPEC), SequentialBatchSampler(6, batch_size=6))
    batches = [replace(batch, notes=notes) for notes in (("b", "a"), ("a", "c"))]
    notes: dict[str, None] = {}
    collected = list(collect_notes(batches, notes))
    assert all(one is two for one, two in zip(collected, batches, strict=True))
    assert [*notes] == ["b", "a", "c"]
