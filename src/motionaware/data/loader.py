"""Requests -> batches: in which order, in whose company, made by which process.

Every draw of chance is decided before a clip is made: the sampler hands each request its own seed.
So a clip does not depend on the worker that makes it, and a run can be continued in the middle.
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

from motionaware.data.processes import obey_parent_only, stop_signals_blocked
from motionaware.data.transforms.mixup import Mixing
from motionaware.errors import MotionAwareError, UsageError, VideoError


@dataclass(frozen=True)
class Request:
    """Which example, and the seed of its chance; None asks for its test views."""

    index: int
    seed: int | None = None


@dataclass(frozen=True)
class Sample:
    """The views of one video (one in training), its label, which example it is, its request's seed.

    A mirrored clip has the label of what its mirror image shows. `num_video_frames` counts the
    frames of the whole video; None if it is not known. `notes` are those of the video.
    """

    views: UInt8[Tensor, "v t 3 h w"]
    label: int
    index: int
    seed: int | None = None
    num_video_frames: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedSample:
    """An example that cannot be read, and why: it travels from a worker as a value.

    An exception raised in a worker would reach the user as a page of traceback.
    """

    index: int
    error: MotionAwareError | OSError


@dataclass(frozen=True)
class Batch:
    """Samples in company.

    Where clips are mixed, `targets` are the shares of the classes in each, and `labels` the class
    of the larger share; otherwise they are one and the same. `skipped` holds the examples that were
    left out because they cannot be read, each with the reason. `num_video_frames` counts the frames
    of each whole video; None where it is not known. `notes` are those of the videos.
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
    """What the loader wants of a data set."""

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Count the examples."""
        ...

    def __getitem__(self, request: Request) -> Sample | FailedSample:
        """Make a sample, or say why it cannot be made."""
        ...

    def name(self, index: int) -> str:
        """Name an example to a person."""
        ...

    def labels(self) -> list[int]:
        """The label of each example."""
        ...


class TrainingBatchSampler(Sampler[list[Request]]):
    """Batches of requests in a new order every epoch.

    Set `epoch` before iterating, and `start` to the number of batches that are done already. Order
    and seeds are a function of `seed` and `epoch` alone.

    Args:
        num_examples: Requests an epoch.
        batch_size: Requests a batch; the last one may be smaller.
        seed: Of order and requests.
        labels: The label of each example balances the classes, see `balanced_order`; None asks for
            each example once.

    Attributes:
        merge_single: A last batch of one request is appended to the batch before it.
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
        return count_batches(self) - self.start

    def __iter__(self) -> Iterator[list[Request]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.labels is None:
            order = torch.randperm(self.num_examples, generator=generator)
        else:
            order = balanced_order(self.labels, generator)
        seeds = torch.randint(2**62, (self.num_examples,), generator=generator)
        num_batches = count_batches(self)
        for number in range(self.start, num_batches):
            begin = number * self.batch_size
            end = self.num_examples if number == num_batches - 1 else begin + self.batch_size
            pairs = zip(order[begin:end].tolist(), seeds[begin:end].tolist(), strict=True)
            yield [Request(*pair) for pair in pairs]


@runtime_checkable
class _Batched(Protocol):
    num_examples: int
    batch_size: int
    merge_single: bool


def count_batches(order: _Batched) -> int:
    """The batches of a whole epoch."""
    number = -(-order.num_examples // order.batch_size)
    single = order.batch_size > 1 and order.num_examples % order.batch_size == 1
    return number - 1 if order.merge_single and single and number > 1 else number


def smallest_batch(order: _Batched) -> int:
    """The requests in the smallest batch of an epoch."""
    full = min(order.batch_size, order.num_examples)
    if count_batches(order) * order.batch_size < order.num_examples:  # one was appended
        return full
    return order.num_examples % order.batch_size or full


def balanced_order(labels: Int[Tensor, "n"], generator: torch.Generator) -> Int[Tensor, "n"]:
    """Draw an epoch of `n` examples in which every class that occurs comes equally often.

    The counts of two classes differ by at most 1; which classes come once more is drawn. A class
    with few examples repeats all of them equally often, up to 1; a class with many shows a part of
    them, another part in each epoch.

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
        places = (labels == label).nonzero().flatten()
        rounds = -(-count // len(places))
        shuffled = [places[torch.randperm(len(places), generator=generator)] for _ in range(rounds)]
        drawn.append(torch.cat([places[:0], *shuffled])[:count])
    order = torch.cat(drawn)
    return order[torch.randperm(len(order), generator=generator)]


@dataclass(frozen=True)
class ViewOrder:
    """Batches of requests for test views, in order; none is kept."""

    num_examples: int
    batch_size: int

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[list[Request]]:
        for begin in range(0, self.num_examples, self.batch_size):
            end = min(begin + self.batch_size, self.num_examples)
            yield [Request(index) for index in range(begin, end)]


def in_order(num_examples: int, *, batch_size: int) -> ViewOrder:
    """Batches of requests for test views, in order."""
    return ViewOrder(num_examples, batch_size)


def make_loader(
    dataset: ClipDataset,
    batches: Iterable[list[Request]],
    *,
    num_workers: int,
    mixing: Mixing | None = None,
    skip: bool = False,
) -> DataLoader[Batch | VideoError]:
    """Make samples in company; iterate it through `batches_of`, which raises what went wrong.

    Args:
        dataset: Makes one sample at a time.
        batches: Which samples keep company.
        num_workers: Processes that make them, kept between epochs; 0 makes them in this one.
        mixing: How clips of one batch are mixed; chance follows from the seed of the first.
        skip: Whether a broken video is left out of its batch, and named there, instead of raised.
    """
    return DataLoader(
        _ErrorsAsValues(dataset),  # type: ignore[arg-type] - a data set by protocol, not by birth
        batch_sampler=batches,  # type: ignore[arg-type] - any iterable of lists will do
        num_workers=num_workers,
        collate_fn=partial(_collate, mixing=mixing, skip=skip),
        persistent_workers=num_workers > 0,
        worker_init_fn=_init_worker,
    )


def batches_of(loader: Iterable[Batch | VideoError]) -> Iterator[Batch]:
    """Iterate over a loader's batches.

    Raises:
        VideoError: The first video that could not be read.
        OSError: A file could not be read.
    """
    for batch in started(loader):
        if isinstance(batch, Exception):
            try:
                raise batch
            finally:
                del batch  # an error that holds its own frame is freed late: workers end 10 s later
        yield batch


def started(loader: Iterable[Batch | VideoError]) -> Iterator[Batch | VideoError]:
    """Iterate over a loader; its workers start here, out of reach of signals to the whole job."""
    with stop_signals_blocked():
        return iter(loader)


class _ErrorsAsValues:
    """A data set that returns errors for users as FailedSample.

    Of an exception that a worker raises, DataLoader keeps only the text.
    """

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
    skipped = tuple(sample for sample in samples if isinstance(sample, FailedSample))
    for sample in skipped:
        if not (skip and isinstance(sample.error, VideoError)):
            return sample.error
    whole = [sample for sample in samples if isinstance(sample, Sample)]
    if not whole:
        nothing = torch.zeros(0, dtype=torch.int64)
        views = torch.zeros(0, 1, 1, 3, 1, 1, dtype=torch.uint8)
        return Batch(views, nothing, nothing, nothing, skipped)
    views = torch.stack([sample.views for sample in whole])
    labels = targets = torch.tensor([sample.label for sample in whole])
    if mixing is not None and whole[0].seed is not None:
        views, targets = mixing.mix(views, labels, seed=whole[0].seed)
    indices = torch.tensor([sample.index for sample in whole])
    lengths = tuple(sample.num_video_frames for sample in whole)
    notes = tuple(note for sample in whole for note in sample.notes)
    return Batch(views, labels, indices, targets, skipped, lengths, notes)


def _init_worker(worker: int) -> None:
    """Leave signals and notes of videos to the main process; batches carry the notes to it."""
    obey_parent_only()
    logging.getLogger("motionaware.data.video").setLevel(logging.ERROR)
