"""What every data set of clips offers to training and evaluation: its split and its loaders."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from motionaware.data.annotations.split import Split
from motionaware.data.loader import (
    Batch,
    ClipDataset,
    Request,
    SequentialBatchSampler,
    TrainingBatchSampler,
    make_loader,
)
from motionaware.data.transforms.mixup import Mixing
from motionaware.errors import VideoError


@runtime_checkable
class BatchSampler(Protocol):
    """The training batches of an epoch, in order.

    Attributes:
        num_examples: Clips in an epoch.
        batch_size: Clips in a batch.
        merge_single: Append a last batch of one clip to the batch before it.
        epoch: Set it before iterating: order and seeds depend on it.
        start: Set it to the number of batches that are already done.
    """

    num_examples: int
    batch_size: int
    merge_single: bool
    epoch: int
    start: int

    def __len__(self) -> int:
        """Count the batches from `start` on."""
        ...

    def __iter__(self) -> Iterator[list[Request]]:
        """Yield the requests of each batch from `start` on."""
        ...


@runtime_checkable
class Loader(Protocol):
    """Iterates over batches; a video that cannot be read is returned, not raised."""

    def __len__(self) -> int:
        """Count the batches."""
        ...

    def __iter__(self) -> Iterator[Batch | VideoError]:
        """Start the workers and yield the batches."""
        ...


@dataclass(frozen=True)
class TrainingLoader:
    """The loader of training clips.

    Attributes:
        sampler: The order of the batches; its `epoch` and `start` steer `batches`.
        batches: The loader.
        part: Which part of the videos this process trains on, for the log; "" if all of them.
        digest: Digest of what the order depends on besides seed, labels and number of examples: a
            resumed run must find it unchanged. None if it depends on nothing else.
    """

    sampler: BatchSampler
    batches: Loader
    part: str = ""
    digest: str | None = None


@runtime_checkable
class SplitDataset(ClipDataset, Protocol):
    """The clips of one split, with loaders that read them in an efficient order."""

    @property
    def split(self) -> Split | None:
        """The list of the videos; None if the clips are generated."""
        ...

    def training_loader(
        self,
        *,
        batch_size: int,
        seed: int,
        num_workers: int,
        mixing: Mixing | None = None,
        skip: bool = False,
        balanced: bool = False,
    ) -> TrainingLoader:
        """Return the loader of training clips; see `make_loader`.

        Args:
            batch_size: Clips in a batch.
            seed: Seed of the order and of the clips.
            num_workers: Worker processes; 0 makes the clips in this process.
            mixing: How clips of a batch are mixed.
            skip: Leave out videos that cannot be read.
            balanced: Draw every class equally often in an epoch; see `balanced_order`.

        Raises:
            DataError: `balanced`, but the data set cannot read a video several times an epoch.
        """
        ...

    def view_loader(self, *, batch_size: int, num_workers: int, skip: bool = False) -> Loader:
        """Return the loader of the test views of all videos; arguments as above."""
        ...


class RandomAccess:
    """The loaders of a data set that reads its clips equally fast in any order."""

    def training_loader(
        self: ClipDataset,
        *,
        batch_size: int,
        seed: int,
        num_workers: int,
        mixing: Mixing | None = None,
        skip: bool = False,
        balanced: bool = False,
    ) -> TrainingLoader:
        """Return the loader of training clips; see `SplitDataset.training_loader`."""
        sampler = TrainingBatchSampler(
            len(self),
            batch_size=batch_size,
            seed=seed,
            labels=self.labels() if balanced else None,
        )
        batches = make_loader(self, sampler, num_workers=num_workers, mixing=mixing, skip=skip)
        return TrainingLoader(sampler, batches)

    def view_loader(
        self: ClipDataset, *, batch_size: int, num_workers: int, skip: bool = False
    ) -> Loader:
        """Return the loader of the test views; see `SplitDataset.view_loader`."""
        batches = SequentialBatchSampler(len(self), batch_size=batch_size)
        return make_loader(self, batches, num_workers=num_workers, skip=skip)
