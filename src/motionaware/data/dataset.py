"""Data sets of clips, and the loader that brings them in company.

Every draw of chance is decided before a clip is made: the sampler hands each request its own seed.
So a clip does not depend on the worker that makes it, and a run can be continued in the middle.
"""

import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Int, UInt8
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from motionaware.clip import ClipSpec
from motionaware.data.annotations import Split
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.sampling import dense_indices, segment_indices
from motionaware.data.transforms import Crop, frame_for_testing, frame_for_training
from motionaware.data.video import Video, VideoError, open_video


@dataclass(frozen=True)
class Request:
    """Which example, and the seed of its chance; None asks for its test views."""

    index: int
    seed: int | None = None


@dataclass(frozen=True)
class Sample:
    """The views of one video (one in training), its label, and which example it is."""

    views: UInt8[Tensor, "v t 3 h w"]
    label: int
    index: int


@dataclass(frozen=True)
class Batch:
    """Samples in company."""

    views: UInt8[Tensor, "b v t 3 h w"]
    labels: Int[Tensor, "b"]
    indices: Int[Tensor, "b"]


@runtime_checkable
class ClipDataset(Protocol):
    """What the loader wants of a data set."""

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Count the examples."""
        ...

    def __getitem__(self, request: Request) -> Sample | VideoError:
        """Make a sample, or say why it cannot be made."""
        ...

    def name(self, index: int) -> str:
        """Name an example to a person."""
        ...


def choose_frames(
    num_video_frames: int,
    spec: ClipSpec,
    *,
    generator: Generator | None = None,
    view: int = 0,
    num_views: int = 1,
) -> list[int]:
    """Choose the frames of a clip as its spec says; see `sampling`."""
    if spec.sampling == "segments":
        return segment_indices(
            num_video_frames, spec.num_frames, generator=generator, view=view, num_views=num_views
        )
    return dense_indices(
        num_video_frames,
        spec.num_frames,
        frame_stride=spec.frame_stride,
        generator=generator,
        view=view,
        num_views=num_views,
    )


class VideoDataset(Dataset[Sample | VideoError]):
    """Clips of the videos of a split.

    Args:
        split: The videos and their labels.
        spec: What the model expects of a clip.
        crop: How a training clip is framed.
        flip: Whether every second training clip is mirrored; not for classes that name a side.
        num_views: Clips a video at test time.
    """

    def __init__(
        self,
        split: Split,
        *,
        spec: ClipSpec,
        crop: Crop = "random_resized",
        flip: bool = False,
        num_views: int = 1,
    ) -> None:
        self.split = split
        self.class_names = split.class_names
        self.spec = spec
        self.crop: Crop = crop
        self.flip = flip
        self.num_views = num_views
        self._opened: dict[int, Video] = {}  # a video is indexed once; the index is small

    def __len__(self) -> int:
        return len(self.split.examples)

    def __getitem__(self, request: Request) -> Sample | VideoError:
        """Make a sample; a broken video is returned as its error, for the loader to raise.

        An exception raised in a worker would reach the user as a page of traceback.
        """
        example = self.split.examples[request.index]
        try:
            video = self._open(request.index)
            views = (
                self._test_views(video)
                if request.seed is None
                else self._training_view(video, torch.Generator().manual_seed(request.seed))
            )
        except VideoError as error:
            return error
        return Sample(views, example.label, request.index)

    def name(self, index: int) -> str:
        """Name an example by its path."""
        return str(self.split.examples[index].path)

    def _open(self, index: int) -> Video:
        if index not in self._opened:
            self._opened[index] = open_video(self.split.examples[index].path)
        return self._opened[index]

    def _training_view(self, video: Video, generator: Generator) -> UInt8[Tensor, "1 t 3 h w"]:
        indices = choose_frames(video.num_frames, self.spec, generator=generator)
        clip = frame_for_training(
            video.frames(indices),
            spec=self.spec,
            crop=self.crop,
            flip=self.flip,
            generator=generator,
        )
        return rearrange(clip, "t c h w -> 1 t c h w")

    def _test_views(self, video: Video) -> UInt8[Tensor, "v t 3 h w"]:
        indices = [
            choose_frames(video.num_frames, self.spec, view=view, num_views=self.num_views)
            for view in range(self.num_views)
        ]
        frames = video.frames([index for view in indices for index in view])
        framed = frame_for_testing(frames, spec=self.spec)
        return rearrange(framed, "(v t) c h w -> v t c h w", v=self.num_views)


class MotionPairsDataset(Dataset[Sample]):
    """The clips of MotionPairs as they are: one view, nothing drawn."""

    def __init__(self, clips: MotionPairs) -> None:
        self.clips = clips
        self.class_names = clips.class_names

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, request: Request) -> Sample:
        clip, label = self.clips[request.index]
        return Sample(rearrange(clip, "t c h w -> 1 t c h w"), label, request.index)

    def name(self, index: int) -> str:
        """Name an example by its split and number."""
        return f"motionpairs/{self.clips.split}/{index:06d}"


class TrainingOrder(Sampler[list[Request]]):
    """Batches of requests in a new order every epoch, each example once.

    Set `epoch` before iterating, and `start` to the number of batches that are done already. Order
    and seeds follow from `seed` and `epoch` alone.
    """

    def __init__(self, num_examples: int, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"{batch_size = }; a batch holds at least 1 clip")
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size) - self.start

    def __iter__(self) -> Iterator[list[Request]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.num_examples, generator=generator).tolist()
        seeds = torch.randint(2**62, (self.num_examples,), generator=generator).tolist()
        requests = [Request(*pair) for pair in zip(order, seeds, strict=True)]
        first = self.start * self.batch_size
        for begin in range(first, self.num_examples, self.batch_size):
            yield requests[begin : begin + self.batch_size]


def in_order(num_examples: int, *, batch_size: int) -> list[list[Request]]:
    """Batches of requests for test views, in order."""
    requests = [Request(index) for index in range(num_examples)]
    return [requests[i : i + batch_size] for i in range(0, num_examples, batch_size)]


def make_loader(
    dataset: ClipDataset, batches: Iterable[list[Request]], *, num_workers: int
) -> DataLoader[Batch | VideoError]:
    """Make samples in `num_workers` processes, kept between epochs; 0 makes them in this one.

    Iterate it through `batches_of`, which raises what went wrong.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type] - a data set by protocol, not by birth
        batch_sampler=batches,  # type: ignore[arg-type] - any iterable of lists will do
        num_workers=num_workers,
        collate_fn=_collate,
        persistent_workers=num_workers > 0,
        worker_init_fn=_ignore_interrupts,
    )


def batches_of(loader: DataLoader[Batch | VideoError]) -> Iterator[Batch]:
    """Iterate over a loader's batches.

    Raises:
        VideoError: The first video that could not be read.
    """
    for batch in loader:
        if isinstance(batch, VideoError):
            try:
                raise batch
            finally:
                del batch  # an error that holds its own frame is freed late: workers end 10 s later
        yield batch


def _collate(samples: Sequence[Sample | VideoError]) -> Batch | VideoError:
    for sample in samples:
        if isinstance(sample, VideoError):
            return sample
    whole = [sample for sample in samples if isinstance(sample, Sample)]
    return Batch(
        views=torch.stack([sample.views for sample in whole]),
        labels=torch.tensor([sample.label for sample in whole]),
        indices=torch.tensor([sample.index for sample in whole]),
    )


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the main process, which finishes its step and then ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
