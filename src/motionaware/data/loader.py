"""Batch samplers, collation and the DataLoader of clips.

A batch sampler gives each `Request` its own seed. A clip is a pure function of its request, so it
does not depend on the worker that makes it, and training can resume at any batch.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from motionaware.data.processes import end_only_with_parent, stop_signals_blocked
from motionaware.data.transforms.mixup import Mixing
from motionaware.errors import MotionAwareError, UsageError, VideoError


@dataclass(frozen=True)
class Request:
    """The index of an example and the seed of its random draws; seed None means its test views."""

    index: int
    seed: int | None = None


@dataclass(frozen=True)
class Sample:
    """The views of one video and its label.

    Attributes:
        views: The clips; one in training.
        label: The class. A mirrored clip may have the label of the mirrored class.
        index: Index of the example in the data set.
        seed: Seed of the request.
        num_video_frames: Number of frames of the whole video; None if it is unknown.
        notes: What was changed in the video to read it, see `Video.notes`.
    """

    views: UInt8[Tensor, "v t 3 h w"]
    label: int
    index: int
    seed: int | None = None
    num_video_frames: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedSample:
    """An example that cannot be read, and the reason.

    A worker returns the error instead of raising it, because DataLoader keeps only the traceback
    text of a raised exception.
    """

    index: int
    error: MotionAwareError | OSError


@dataclass(frozen=True)
class Batch:
    """Collated samples.

    Attributes:
        views: The clips.
        labels: The class of each sample; of a mixed sample the class of the larger share.
        indices: Index of each sample in the data set.
        targets: The shares of the classes in mixed samples; else the labels.
        skipped: The examples that were left out because they cannot be read.
        num_video_frames: Number of frames of each whole video; None if it is unknown.
        notes: The notes of all videos.
    """

    views: UInt8[Tensor, "b v t 3 h w"]
    labels: Int[Tensor, "b"]
    indices: Int[Tensor, "b"]
    targets: Int[Tensor, "b"] | Float[Tensor, "b k"]
    skipped: tuple[FailedSample, ...] = ()
    num_video_frames: tuple[int | None, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class ClipDataset(Protocol):
    """Protocol of the data sets that `make_loader` accepts."""

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, request: Request) -> Sample | FailedSample:
        """Return a sample, or the reason why the example cannot be read."""
        ...

    def name(self, index: int) -> str:
        """Return the name of an example for messages."""
        ...

    def labels(self) -> list[int]:
        """Return the label of each example."""
        ...


class TrainingBatchSampler(Sampler[list[Request]]):
    """Batch sampler for training: requests in a new random order each epoch.

    Set `epoch` before iterating. Set `start` to the number of batches to skip, to resume within an
    epoch. Order and seeds depend on `seed` and `epoch` only.

    Args:
        num_examples: Requests per epoch.
        batch_size: Requests per batch; the last batch may be smaller.
        seed: Seed of the order and of the requests' seeds.
        labels: The label of each example, to balance the classes with `balanced_order`. If None,
            each example comes once per epoch.

    Attributes:
        merge_single: If True, a last batch of one request is appended to the batch before it.

    Raises:
        UsageError: `batch_size` is below 1.
    """

    def __init__(
        self,
        num_examples: int,
        *,
        batch_size: int,
        seed: int,
        labels: Sequence[int] | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"{batch_size = }; a batch holds at least 1 clip")
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.labels = None if labels is None else torch.tensor(labels)
        self.merge_single = False
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return batches_per_epoch(self) - self.start

    def __iter__(self) -> Iterator[list[Request]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.labels is None:
            order = torch.randperm(self.num_examples, generator=generator)
        else:
            order = balanced_order(self.labels, generator)
        seeds = torch.randint(2**62, (self.num_examples,), generator=generator)
        num_batches = batches_per_epoch(self)
        for number in range(self.start, num_batches):
            begin = number * self.batch_size
            end = self.num_examples if number == num_batches - 1 else begin + self.batch_size
            pairs = zip(order[begin:end].tolist(), seeds[begin:end].tolist(), strict=True)
            yield [Request(*pair) for pair in pairs]


@runtime_checkable
class _BatchLayout(Protocol):
    num_examples: int
    batch_size: int
    merge_single: bool


def batches_per_epoch(sampler: _BatchLayout) -> int:
    """Return the number of batches of a whole epoch."""
    num_batches = -(-sampler.num_examples // sampler.batch_size)
    ends_single = sampler.batch_size > 1 and sampler.num_examples % sampler.batch_size == 1
    return num_batches - (sampler.merge_single and ends_single and num_batches > 1)


def smallest_batch_size(sampler: _BatchLayout) -> int:
    """Return the number of requests in the smallest batch of an epoch."""
    full = min(sampler.batch_size, sampler.num_examples)
    if batches_per_epoch(sampler) * sampler.batch_size < sampler.num_examples:  # last was merged
        return full
    return sampler.num_examples % sampler.batch_size or full


def balanced_order(labels: Int[Tensor, "n"], generator: torch.Generator) -> Int[Tensor, "n"]:
    """Draw `n` of `n` examples so that all classes that occur are equally frequent.

    The counts of two classes differ by at most 1; the classes with one more are drawn at random. A
    small class repeats its examples, and their counts differ by at most 1. A large class shows a
    random subset of its examples in each epoch.

    >>> labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    >>> order = balanced_order(labels, torch.Generator().manual_seed(0))
    >>> labels[order].bincount()
    tensor([4, 4])
    """
    classes = labels.unique()
    counts = torch.full_like(classes, len(labels) // len(classes))
    counts[torch.randperm(len(classes), generator=generator)[: len(labels) % len(classes)]] += 1
    drawn = []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        indices = (labels == label).nonzero().flatten()
        repeats = -(-count // len(indices))
        shuffled = [
            indices[torch.randperm(len(indices), generator=generator)] for _ in range(repeats)
        ]
        drawn.append(torch.cat([indices[:0], *shuffled])[:count])
    order = torch.cat(drawn)
    return order[torch.randperm(len(order), generator=generator)]


class SequentialBatchSampler(Sampler[list[Request]]):
    """Batch sampler for evaluation: requests for test views in the order of the data set.

    Args:
        num_examples: Examples of the data set.
        batch_size: Requests per batch; the last batch may be smaller.
    """

    def __init__(self, num_examples: int, *, batch_size: int) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[list[Request]]:
        for begin in range(0, self.num_examples, self.batch_size):
            end = min(begin + self.batch_size, self.num_examples)
            yield [Request(index) for index in range(begin, end)]


def make_loader(
    dataset: ClipDataset,
    batch_sampler: Iterable[list[Request]],
    *,
    num_workers: int,
    mixing: Mixing | None = None,
    skip: bool = False,
) -> DataLoader[Batch | VideoError]:
    """Build a DataLoader that yields collated batches; iterate over it with `iterate_batches`.

    Args:
        dataset: Returns one sample for each request.
        batch_sampler: Yields the requests of each batch.
        num_workers: Worker processes, kept between epochs; 0 loads in this process.
        mixing: How the clips of a batch are mixed; its seed is that of the batch's first request.
        skip: If True, a video that cannot be read is left out and listed in `Batch.skipped`. If
            False, the loader yields its error in place of the batch.
    """
    return DataLoader(
        _ErrorsAsValues(dataset),  # type: ignore[arg-type] - a protocol, not a subclass of Dataset
        batch_sampler=batch_sampler,  # type: ignore[arg-type] - any iterable of lists works
        num_workers=num_workers,
        collate_fn=partial(_collate, mixing=mixing, skip=skip),
        persistent_workers=num_workers > 0,
        worker_init_fn=_init_worker,
    )


def iterate_batches(loader: Iterable[Batch | VideoError]) -> Iterator[Batch]:
    """Yield the batches of a loader.

    Raises:
        VideoError: A video cannot be read, and the loader does not skip such videos.
        OSError: Another file cannot be read.
    """
    for batch in start_workers(loader):
        if isinstance(batch, Exception):
            try:
                raise batch
            finally:
                # The traceback would keep this frame alive, and with it the workers for 10 s.
                del batch
        yield batch


def start_workers(loader: Iterable[Batch | VideoError]) -> Iterator[Batch | VideoError]:
    """Return an iterator over a loader; its workers start with stop signals blocked."""
    with stop_signals_blocked():
        return iter(loader)


def collect_notes(batches: Iterable[Batch], notes: dict[str, None]) -> Iterator[Batch]:
    """Yield batches and add the notes of their videos to the keys of `notes`, in order."""
    for batch in batches:
        notes.update(dict.fromkeys(batch.notes))
        yield batch


class _ErrorsAsValues:
    """A data set that returns errors for users as FailedSample instead of raising them."""

    def __init__(self, dataset: ClipDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, request: Request) -> Sample | FailedSample:
        try:
            return self.dataset[request]
        except (MotionAwareError, OSError) as error:
            return FailedSample(request.index, error)


def _collate(
    samples: Sequence[Sample | FailedSample], *, mixing: Mixing | None, skip: bool
) -> Batch | MotionAwareError | OSError:
    """Stack samples into a batch, which is empty if all are skipped; or return an error."""
    skipped = tuple(sample for sample in samples if isinstance(sample, FailedSample))
    for sample in skipped:
        if not (skip and isinstance(sample.error, VideoError)):
            return sample.error
    readable = [sample for sample in samples if isinstance(sample, Sample)]
    if not readable:
        empty = torch.zeros(0, dtype=torch.int64)
        views = torch.zeros(0, 1, 1, 3, 1, 1, dtype=torch.uint8)
        return Batch(views, empty, empty, empty, skipped)
    views = torch.stack([sample.views for sample in readable])
    labels = targets = torch.tensor([sample.label for sample in readable])
    if mixing is not None and readable[0].seed is not None:
        views, targets = mixing.mix(views, labels, seed=readable[0].seed)
    indices = torch.tensor([sample.index for sample in readable])
    lengths = tuple(sample.num_video_frames for sample in readable)
    notes = tuple(note for sample in readable for note in sample.notes)
    return Batch(views, labels, indices, targets, skipped, lengths, notes)


def _init_worker(worker: int) -> None:
    """Make a worker end with its parent, and silence its log of notes: batches carry the notes."""
    end_only_with_parent()
    logging.getLogger("motionaware.data.video").setLevel(logging.ERROR)
