"""The training and validation batches of a run, and what must not change before it is resumed."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from motionaware.data.hints import hints_on_training
from motionaware.data.loader import (
    Batch,
    batches_per_epoch,
    collect_notes,
    iterate_batches,
    smallest_batch_size,
)
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.source import VideoSource
from motionaware.data.transforms.augment import Augment, augment_clip
from motionaware.data.transforms.mixup import Mixing
from motionaware.engine.config import AugmentConfig, Recipe
from motionaware.engine.dataset_factory import open_cache, open_dataset, open_source
from motionaware.engine.evaluate import check_classes
from motionaware.engine.metrics import note_lines
from motionaware.engine.video_lengths import VideoLengths
from motionaware.errors import UsageError


class TrainingData:
    """The training and validation videos of a recipe, each with its loader.

    Args:
        recipe: The recipe, with absolute paths.
        source: Its data set, if it was opened before; its lists are not read again.
        progress: Show a bar on stderr while clips are generated.

    Raises:
        DataError: The data do not have the layout of their kind.
        UsageError: Training and validation have different classes.
    """

    def __init__(
        self, recipe: Recipe, *, source: VideoSource | None = None, progress: bool = False
    ) -> None:
        data, config, spec = recipe.data, recipe.train, recipe.clip
        self.skips = SkippedVideos(data.max_skipped_share)
        self._cache, self._cache_warning_given = open_cache(data, spec=spec), False
        self._notes: dict[str, None] = {}  # of videos, in order, without duplicates
        self._num_notes_given = 0
        augment, alphas = _split_augmentation(recipe.augment)
        open_split = partial(
            open_dataset,
            data,
            spec=spec,
            skips=self.skips,
            cache=self._cache,
            progress=progress,
            source=source or open_source(data),
        )
        self._training = open_split(split="train", augment=augment)
        self._lengths = VideoLengths(self._training, num_frames=spec.num_frames)
        self._validation = open_split(split="val", views=recipe.eval)
        check_classes(self._training.class_names, self._validation.class_names)
        self.class_names = self._training.class_names
        self.num_validation = len(self._validation)
        mixing = Mixing(num_classes=len(self.class_names), **alphas) if alphas else None
        options = {"num_workers": data.num_workers, "skip": data.on_error == "skip"}
        self._training_loader = self._training.training_loader(
            batch_size=config.batch_size,
            seed=config.seed,
            mixing=mixing,
            balanced=data.balanced_sampling,
            **options,
        )
        self.order = self._training_loader.sampler
        self._uses_labels = data.balanced_sampling or config.class_weights == "balanced"
        self.skips_single, self._num_singles = False, 0
        self.num_training = self.order.num_examples  # with several ranks, those of this rank
        self._view_loader = self._validation.view_loader(
            batch_size=recipe.eval.batch_size, **options
        )
        self.num_validation_batches = len(self._view_loader)

    def groups(self, epoch: int, step: int, *, size: int) -> Iterator[list[Batch]]:
        """Yield the batches of each step of an epoch, from a step on.

        Batches without a readable video are left out, and so are batches of one clip if
        `skips_single`. A group may be empty: steps are counted as if no video was skipped.

        Args:
            epoch: The epoch, from 0.
            step: The first step.
            size: Batches in a step; the last step has the rest.

        Raises:
            DataError: More videos must be skipped than the recipe allows.
            VideoError: A video cannot be read.
        """
        self.order.epoch, self.order.start = epoch, step * size
        batches = collect_notes(iterate_batches(self._training_loader.batches), self._notes)
        batches = self.skips.record(batches, self._training, "train")
        while group := list(islice(batches, size)):
            for batch in group:
                self._lengths.add(batch)
            yield [batch for batch in group if self._is_usable(batch)]

    def _is_usable(self, batch: Batch) -> bool:
        if self.skips_single and len(batch.labels) == 1 and batch.skipped:
            self._num_singles += 1
            return False
        return len(batch.labels) > 0

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch."""
        return batches_per_epoch(self.order)

    @property
    def smallest_batch(self) -> int:
        """Number of clips in the smallest batch of an epoch, if no video is skipped."""
        return smallest_batch_size(self.order)

    def labels(self) -> list[int]:
        """Return the label of each training video."""
        return self._training.labels()

    def name(self, index: int) -> str:
        """Return the name of a training video."""
        return self._training.name(index)

    def validation_name(self, index: int) -> str:
        """Return the name of a validation video."""
        return self._validation.name(index)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the batches of validation videos; raises like `groups`."""
        batches = collect_notes(iterate_batches(self._view_loader), self._notes)
        return self.skips.record(batches, self._validation, "val")

    def facts(self) -> list[Any]:
        """Return what must be unchanged when the run is resumed; stored in resume.pt.

        The number of videos, the classes, and a digest if the batches depend on more than these.
        """
        facts: list[Any] = [self.num_training, list(self.class_names)]
        if self._training_loader.digest is not None:
            facts.append(self._training_loader.digest)
        elif self._uses_labels:
            facts.append(hashlib.sha256(repr(self.labels()).encode()).hexdigest())
        return facts

    def check_unchanged(self, facts: list[Any], *, since: str) -> None:
        """Refuse to resume with other training videos.

        Args:
            facts: The facts of the run that is resumed.
            since: When they were stored, for the error.

        Raises:
            UsageError: The facts differ; the message says which.
        """
        now = self.facts()
        if facts[:2] != now[:2]:
            raise UsageError(
                f"the training data have changed since {since}: {facts[0]} videos then, "
                f"{self.num_training} now, of {len(facts[1])} and {len(self.class_names)} classes; "
                "restore them, or start a new run"
            )
        if facts != now and self._training_loader.digest is None:
            raise UsageError(
                f"the labels of the training videos have changed since {since}, and class weights "
                "or balanced sampling depend on them; restore them, or start a new run"
            )
        if facts != now:
            raise UsageError(
                f"the order of the training videos has changed since {since}: the shards, or the "
                "number of workers or ranks, are different; restore them, or start a new run"
            )

    def summary(self) -> str:
        """Return the numbers of classes and videos, for the log."""
        skipped = f", {len(self.skips.reasons)} skipped" if self.skips.reasons else ""
        cached = f", decoded frames kept in {self._cache.folder}" if self._cache else ""
        return (
            f"{len(self.class_names)} classes, {self.num_training} training"
            f"{self._training_loader.part} and {self.num_validation} validation videos"
            f"{skipped}{cached}"
        )

    def hints(self) -> Iterator[str]:
        """Yield what looks like a mistake in the lists of videos and classes, one line each."""
        training, validation = self._training.split, self._validation.split
        if training is not None and validation is not None:
            yield from hints_on_training(training, validation)

    def warnings(self) -> Iterator[str]:
        """Yield what the log should report at the start and after each epoch; each fact once."""
        notes = [*self._notes][self._num_notes_given :]
        self._num_notes_given += len(notes)
        yield from note_lines(notes)
        yield from self._lengths.warnings()
        if self._num_singles:
            yield (
                f"note: {self._num_singles} batches were left out: skipped videos left one clip in "
                "them, and a normalization layer needs two"
            )
            self._num_singles = 0
        if self._cache and not self._cache_warning_given and (trouble := self._cache.problem):
            self._cache_warning_given = True
            yield (
                f"the cache of decoded frames in {self._cache.folder} {trouble}; other videos are "
                "decoded each time: free disk space, raise data.cache_gib, or ignore this"
            )


def _split_augmentation(config: AugmentConfig) -> tuple[Augment, dict[str, float]]:
    """Return the augmentation of single clips, and the alphas of mixing; {} if all are 0."""
    options = asdict(config)
    alphas = {key: options.pop(key) for key in ("mixup_alpha", "cutmix_alpha")}
    return partial(augment_clip, **options), alphas if any(alphas.values()) else {}
