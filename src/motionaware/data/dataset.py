"""Data sets that return a sample of clips for each request.

A clip is a pure function of its `Request` (index, seed). The batch samplers in loader.py and
shards/sampler.py make the requests.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Generator, Tensor
from torch.utils.data import Dataset

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Split
from motionaware.data.clip_loaders import RandomAccess
from motionaware.data.loader import (
    FailedSample,
    Request,
    Sample,
)
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.transforms.augment import Augment
from motionaware.data.transforms.crop_flip import (
    Crop,
    crop_and_resize,
    crop_boxes,
    crop_for_training,
    random_flip,
)
from motionaware.data.transforms.flip_labels import Flip, flipped_classes
from motionaware.data.transforms.frame_sampling import dense_indices, segment_indices
from motionaware.data.video.base import Video
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError

_MAX_VIDEOS = 8192  # videos whose frame index a process keeps in memory, about 10 KB each


def choose_frames(
    num_video_frames: int,
    spec: ClipSpec,
    *,
    generator: Generator | None = None,
    view: int = 0,
    num_views: int = 1,
) -> list[int]:
    """Return the frame indices of a clip, chosen by `spec.sampling`; see `frame_sampling`.

    Args:
        num_video_frames: Number of frames of the video.
        spec: Number of frames, sampling and stride of the clip.
        generator: Draws the position at random, for training. If None, it is fixed by `view`.
        view: Number of the test view, below `num_views`.
        num_views: Test views of the video.
    """
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


class VideoDataset(RandomAccess, Dataset[Sample | FailedSample]):
    """Clips of the videos of a split.

    Args:
        split: The videos and their labels.
        spec: Number of frames, sampling and size of the clips.
        crop: How training clips are cropped.
        flip: If true, half of the training clips are mirrored. Its value sets how classes that name
            a side are treated; see `motionaware.data.transforms.flip_labels`.
        augment: Further augmentation of training clips; see `motionaware.data.transforms.augment`.
        num_views: Clips per video at test time.
        num_crops: Crops of each of these clips; see `crop_boxes`.
        opener: Opens a video: `open_video` or `FrameCache.open`.
    """

    def __init__(
        self,
        split: Split,
        *,
        spec: ClipSpec,
        crop: Crop = "random_resized",
        flip: Flip = False,
        augment: Augment | None = None,
        num_views: int = 1,
        num_crops: int = 1,
        opener: Callable[[Path], Video] = open_video,
    ) -> None:
        self.split = split
        self.class_names = split.class_names
        self.spec = spec
        self.crop: Crop = crop
        self.augment = augment
        self.num_views = num_views
        self.num_crops = num_crops
        self._mirrored_labels = flipped_classes(split.class_names, flip)
        self._opener = opener
        self._videos: dict[int, Video] = {}  # by index of the example

    def __len__(self) -> int:
        return len(self.split.examples)

    def __getitem__(self, request: Request) -> Sample | FailedSample:
        """Return a sample, or the reason why the video cannot be read."""
        label = self.split.examples[request.index].label
        try:
            video = self._open(request.index)
            if request.seed is None:
                views = self._test_views(video)
            else:
                generator = torch.Generator().manual_seed(request.seed)
                clip, label = self._training_clip(video, label, generator)
                views = rearrange(clip, "t c h w -> 1 t c h w")
        except VideoError as error:
            return FailedSample(request.index, error)
        return Sample(
            views,
            label,
            request.index,
            request.seed,
            num_video_frames=video.num_frames,
            notes=tuple(video.notes),
        )

    def name(self, index: int) -> str:
        """Return the path of an example."""
        return str(self.split.examples[index].path)

    def labels(self) -> list[int]:
        """Return the label of each example."""
        return self.split.labels()

    def _open(self, index: int) -> Video:
        if index not in self._videos:
            if len(self._videos) >= _MAX_VIDEOS:
                del self._videos[next(iter(self._videos))]
            self._videos[index] = self._opener(self.split.examples[index].path)
        return self._videos[index]

    def _training_clip(
        self, video: Video, label: int, generator: Generator
    ) -> tuple[UInt8[Tensor, "t 3 h w"], int]:
        indices = choose_frames(video.num_frames, self.spec, generator=generator)
        frames = video.frames(indices)
        clip = crop_for_training(frames, spec=self.spec, crop=self.crop, generator=generator)
        return _mirror_and_augment(
            clip, label, self._mirrored_labels[label], self.augment, generator
        )

    def _test_views(self, video: Video) -> UInt8[Tensor, "v t 3 h w"]:
        """Return all crops of the first clip, then those of the next. None is mirrored."""
        indices = [
            choose_frames(video.num_frames, self.spec, view=view, num_views=self.num_views)
            for view in range(self.num_views)
        ]
        frames = video.frames([index for view in indices for index in view])
        boxes = crop_boxes(
            video.height,
            video.width,
            crop_fraction=self.spec.crop_fraction,
            num_crops=self.num_crops,
        )
        crops = torch.stack(
            [crop_and_resize(frames, box, image_size=self.spec.image_size) for box in boxes]
        )
        return rearrange(crops, "crops (v t) c h w -> (v crops) t c h w", v=self.num_views)


class MotionPairsDataset(RandomAccess, Dataset[Sample]):
    """The clips of MotionPairs with one view each, neither cropped nor resized.

    Args:
        clips: The clips and their labels.
        flip: See `VideoDataset`.
        augment: See `VideoDataset`.
    """

    split: Split | None = None  # the clips are generated, not listed

    def __init__(
        self, clips: MotionPairs, *, flip: Flip = False, augment: Augment | None = None
    ) -> None:
        self.clips = clips
        self.class_names = clips.class_names
        self.augment = augment
        self._mirrored_labels = flipped_classes(clips.class_names, flip)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, request: Request) -> Sample:
        clip, label = self.clips[request.index]
        if request.seed is not None:
            generator = torch.Generator().manual_seed(request.seed)
            clip, label = _mirror_and_augment(
                clip, label, self._mirrored_labels[label], self.augment, generator
            )
        views = rearrange(clip, "t c h w -> 1 t c h w")
        return Sample(views, label, request.index, request.seed)

    def name(self, index: int) -> str:
        """Return a name with the split and the number of an example."""
        return f"motionpairs/{self.clips.split}/{index:06d}"

    def labels(self) -> list[int]:
        """Return the label of each example."""
        return self.clips.labels()


def _mirror_and_augment(
    clip: UInt8[Tensor, "t 3 h w"],
    label: int,
    mirrored_label: int | None,
    augment: Augment | None,
    generator: Generator,
) -> tuple[UInt8[Tensor, "t 3 h w"], int]:
    """Return a training clip, mirrored at random and augmented, and its label.

    Args:
        clip: RGB in [0, 255].
        label: Class of the clip.
        mirrored_label: Class of its mirror image; None if it must not be mirrored.
        augment: Further augmentation.
        generator: Draws the random numbers.
    """
    if mirrored_label is not None:
        clip, is_mirrored = random_flip(clip, generator=generator)
        label = mirrored_label if is_mirrored else label
    return (clip if augment is None else augment(clip, generator)), label
