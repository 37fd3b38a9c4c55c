"""The videos of a run: training in groups of batches, from any step on, and validation."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from motionaware.data.augment import Augment, augment_clip
from motionaware.data.dataset import Batch, VideoDataset, batches_of
from motionaware.data.hints import hints_on_training
from motionaware.data.lanes import ShardOrder, training_loader, view_loader
from motionaware.data.mixing import Mixing
from motionaware.data.skips import Skips
from motionaware.engine.config import AugmentConfig, Recipe
from motionaware.engine.evaluate import check_classes
from motionaware.engine.opening import open_cache, open_dataset


class TrainingData:
    """The training and validation videos that a recipe names, each with its loader.

    Raises:
        ValueError: They are not as the recipe says, or do not have the same classes.
    """

    def __init__(self, recipe: Recipe, *, progress: bool = False) -> None:
        data, config, spec = recipe.data, recipe.train, recipe.clip
        self.skips = Skips(data.max_skipped_share)
        self._cache, self._told_trouble = open_cache(data), False
        augment, alphas = _parted(recipe.augment)
        shared = partial(
            open_dataset, data, spec=spec, skips=self.skips, cache=self._cache, progress=progress
        )
        training = shared(split="train", augment=augment)
        validation = shared(split="val", views=recipe.eval)
        check_classes(training.class_names, validation.class_names)
        self.class_names = training.class_names
        self.num_validation = len(validation)
        mixing = Mixing(num_classes=len(self.class_names), **alphas) if alphas else None
        options = {"num_workers": data.num_workers, "skip": data.on_error == "skip"}
        self.order, loader = training_loader(
            training, batch_size=config.batch_size, seed=config.seed, mixing=mixing, **options
        )
        self.num_training = self.order.num_examples  # of shards that are shared out, its own
        self.num_batches = len(self.order)
        views = view_loader(validation, batch_size=recipe.eval.batch_size, **options)
        self.num_validation_batches = len(views)
        self._training = training, loader
        self._validation = validation, views

    def groups(self, epoch: int, step: int, *, size: int) -> Iterator[list[Batch]]:
        """Iterate over an epoch from a step on, `size` batches a step; the last has what is left.

        Batches of which every video had to be skipped are left out, even if that leaves nothing of
        a group: the steps are numbered as if it were whole.

        Raises:
            DataError: More videos must be skipped than the recipe allows.
            VideoError: A video cannot be read.
        """
        self.order.epoch, self.order.start = epoch, step * size
        dataset, loader = self._training
        batches = self.skips.pass_on(batches_of(loader), dataset, "train")
        while group := list(islice(batches, size)):
            yield [batch for batch in group if len(batch.labels)]

    def validation_batches(self) -> Iterator[Batch]:
        """Iterate over the validation videos; raises like `groups`."""
        dataset, loader = self._validation
        return self.skips.pass_on(batches_of(loader), dataset, "val")

    def facts(self) -> list[Any]:
        """What must not change while a run stands still."""
        order = self.order
        return [self.num_training, list(self.class_names)] + (
            [order.digest()] if isinstance(order, ShardOrder) else []
        )

    def check_unchanged(self, facts: list[Any], *, since: str) -> None:
        """Refuse to go on with other videos.

        Raises:
            ValueError: Naming the numbers then and now.
        """
        if facts[:2] != self.facts()[:2]:
            raise ValueError(
                f"the training data have changed since {since}: {facts[0]} videos then, "
                f"{self.num_training} now, of {len(facts[1])} and {len(self.class_names)} classes; "
                "put them back, or begin a new run"
            )
        if facts != self.facts():
            raise ValueError(
                f"the shards have changed since {since}, or go to other processes; put them back "
                "as they were, or begin a new run"
            )

    def summary(self) -> str:
        """What there is, in a few words."""
        skipped = f", {len(self.skips.rows)} skipped" if self.skips.rows else ""
        order = self.order
        part = order.part() if isinstance(order, ShardOrder) else ""
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

    def news(self) -> Iterator[str]:
        """What there is to tell after an epoch: once, that the cache keeps no more."""
        if self._cache and not self._told_trouble and (trouble := self._cache.trouble):
            self._told_trouble = True
            yield (
                f"the cache of decoded frames in {self._cache.folder} {trouble}; videos that are "
                "not in it are decoded as usual: make room, raise data.cache_gib, or leave it so"
            )


def _parted(config: AugmentConfig) -> tuple[Augment, dict[str, float]]:
    """What is done to a clip alone, and the alphas of what is done to a batch, if anything is."""
    facts = asdict(config)
    alphas = {key: facts.pop(key) for key in ("mixup_alpha", "cutmix_alpha")}
    return partial(augment_clip, **facts), alphas if any(alphas.values()) else {}
