"""The videos of a run: training in groups of batches, from any step on, and validation."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from motionaware.data.dataset import VideoDataset
from motionaware.data.hints import hints_on_training
from motionaware.data.loader import (
    Batch,
    batches_per_epoch,
    collect_notes,
    iterate_batches,
    smallest_batch_size,
)
from motionaware.data.shards.sampler import ShardBatchSampler, training_loader, view_loader
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.transforms.augment import Augment, augment_clip
from motionaware.data.transforms.mixup import Mixing
from motionaware.engine.config import AugmentConfig, Recipe
from motionaware.engine.dataset_factory import open_cache, open_dataset
from motionaware.engine.evaluate import check_classes
from motionaware.engine.metrics import note_lines
from motionaware.engine.video_lengths import VideoLengths
from motionaware.errors import UsageError


class TrainingData:
    """The training and validation videos that a recipe names, each with its loader.

    Raises:
        ValueError: They are not as the recipe says, or do not have the same classes.
    """

    def __init__(self, recipe: Recipe, *, progress: bool = False) -> None:
        data, config, spec = recipe.data, recipe.train, recipe.clip
        self.skips = SkippedVideos(data.max_skipped_share)
        self._cache, self._cache_warning_given = open_cache(data, spec=spec), False
        self._notes: dict[str, None] = {}  # of videos, in order, without duplicates
        self._num_notes_given = 0
        augment, alphas = _parted(recipe.augment)
        shared = partial(
            open_dataset, data, spec=spec, skips=self.skips, cache=self._cache, progress=progress
        )
        training = shared(split="train", augment=augment)
        self._lengths = VideoLengths(training, num_frames=spec.num_frames)
        validation = shared(split="val", views=recipe.eval)
        check_classes(training.class_names, validation.class_names)
        self.class_names = training.class_names
        self.num_validation = len(validation)
        mixing = Mixing(num_classes=len(self.class_names), **alphas) if alphas else None
        options = {"num_workers": data.num_workers, "skip": data.on_error == "skip"}
        self.order, loader = training_loader(
            training,
            batch_size=config.batch_size,
            seed=config.seed,
            mixing=mixing,
            balanced=data.balanced_sampling,
            **options,
        )
        self._uses_labels = data.balanced_sampling or config.class_weights == "balanced"
        self.skips_single, self._num_singles = False, 0
        self.num_training = self.order.num_examples  # of shards that are shared out, its own
        views = view_loader(validation, batch_size=recipe.eval.batch_size, **options)
        self.num_validation_batches = len(views)
        self._training = training, loader
        self._validation = validation, views

    def groups(self, epoch: int, step: int, *, size: int) -> Iterator[list[Batch]]:
        """Iterate over an epoch from a step on, `size` batches a step; the last has what is left.

        Batches of which every video had to be skipped are left out, even if that leaves nothing of
        a group: the steps are numbered as if it were whole. With `skips_single`, so are batches of
        which one clip is left.

        Raises:
            DataError: More videos must be skipped than the recipe allows.
            VideoError: A video cannot be read.
        """
        self.order.epoch, self.order.start = epoch, step * size
        dataset, loader = self._training
        batches = collect_notes(iterate_batches(loader), self._notes)
        batches = self.skips.record(batches, dataset, "train")
        while group := list(islice(batches, size)):
            for batch in group:
                self._lengths.meet(batch)
            yield [batch for batch in group if self._is_usable(batch)]

    def _is_usable(self, batch: Batch) -> bool:
        if self.skips_single and len(batch.labels) == 1 and batch.skipped:
            self._num_singles += 1
            return False
        return len(batch.labels) > 0

    @property
    def num_batches(self) -> int:
        """Batches in a whole epoch."""
        return batches_per_epoch(self.order)

    @property
    def smallest_batch(self) -> int:
        """Clips in the smallest batch of an epoch, before any video is skipped."""
        return smallest_batch_size(self.order)

    def labels(self) -> list[int]:
        """The label of each training video."""
        return self._training[0].labels()

    def name(self, index: int) -> str:
        """The name of a training video."""
        return self._training[0].name(index)

    def validation_name(self, index: int) -> str:
        """The name of a validation video."""
        return self._validation[0].name(index)

    def validation_batches(self) -> Iterator[Batch]:
        """Iterate over the validation videos; raises like `groups`."""
        dataset, loader = self._validation
        batches = collect_notes(iterate_batches(loader), self._notes)
        return self.skips.record(batches, dataset, "val")

    def facts(self) -> list[Any]:
        """What must not change while a run stands still."""
        facts: list[Any] = [self.num_training, list(self.class_names)]
        if isinstance(self.order, ShardBatchSampler):
            facts.append(self.order.digest())
        elif self._uses_labels:
            facts.append(hashlib.sha256(repr(self.labels()).encode()).hexdigest())
        return facts

    def check_unchanged(self, facts: list[Any], *, since: str) -> None:
        """Refuse to go on with other videos.

        Raises:
            ValueError: Naming the numbers then and now.
        """
        if facts[:2] != self.facts()[:2]:
            raise UsageError(
                f"the training data have changed since {since}: {facts[0]} videos then, "
                f"{self.num_training} now, of {len(facts[1])} and {len(self.class_names)} classes; "
                "put them back, or begin a new run"
            )
        if facts != self.facts() and not isinstance(self.order, ShardBatchSampler):
            raise UsageError(
                f"the labels of the training videos have changed since {since}, and class weights "
                "or balanced sampling depend on them; put them back, or begin a new run"
            )
        if facts != self.facts():
            raise UsageError(
                f"the shards have changed since {since}, or go to other processes; put them back "
                "as they were, or begin a new run"
            )

    def summary(self) -> str:
        """What there is, in a few words."""
        skipped = f", {len(self.skips.reasons)} skipped" if self.skips.reasons else ""
        order = self.order
        part = order.part() if isinstance(order, ShardBatchSampler) else ""
        kept = f", decoded frames kept in {self._cache.folder}" if self._cache else ""
        return (
            f"{len(self.class_names)} classes, {self.num_training} training{part} and "
            f"{self.num_validation} validation videos{skipped}{kept}"
        )

    def hints(self) -> Iterator[str]:
        """Yield what is suspicious in the videos and their classes, one line each."""
        training, validation = self._training[0], self._validation[0]
        if isinstance(training, VideoDataset) and isinstance(validation, VideoDataset):
            yield from hints_on_training(training.split, validation.split)

    def warnings(self) -> Iterator[str]:
        """What to report at the start and after each epoch; each fact once."""
        notes = [*self._notes][self._num_notes_given :]
        self._num_notes_given += len(notes)
        yield from note_lines(notes)
        yield from self._lengths.warnings()
        if self._num_singles:
            yield (
                f"note: {self._num_singles} batches were left out: skipped videos left one clip in "
                "them, and a norm of the network needs two"
            )
            self._num_singles = 0
        if self._cache and not self._cache_warning_given and (trouble := self._cache.problem):
            self._cache_warning_given = True
            yield (
                f"the cache of decoded frames in {self._cache.folder} {trouble}; videos that are "
                "not in it are decoded as usual: make room, raise data.cache_gib, or leave it so"
            )


def _parted(config: AugmentConfig) -> tuple[Augment, dict[str, float]]:
    """What is done to a clip alone, and the alphas of what is done to a batch, if anything is."""
    facts = asdict(config)
    alphas = {key: facts.pop(key) for key in ("mixup_alpha", "cutmix_alpha")}
    return partial(augment_clip, **facts), alphas if any(alphas.values()) else {}
