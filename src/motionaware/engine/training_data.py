"""The videos of a run: training in groups of batches, from any step on, and validation."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from motionaware.data.dataset import Batch, TrainingOrder, batches_of, in_order, make_loader
from motionaware.engine.config import Recipe
from motionaware.engine.evaluate import check_classes, open_dataset


class TrainingData:
    """The training and validation videos that a recipe names, each with its loader.

    Raises:
        ValueError: They are not as the recipe says, or do not have the same classes.
    """

    def __init__(self, recipe: Recipe, *, progress: bool = False) -> None:
        data, config, spec = recipe.data, recipe.train, recipe.clip
        training = open_dataset(data, "train", spec=spec, progress=progress)
        validation = open_dataset(
            data, "val", spec=spec, num_views=recipe.eval.num_views, progress=progress
        )
        check_classes(training.class_names, validation.class_names)
        self.class_names = training.class_names
        self.num_training, self.num_validation = len(training), len(validation)
        self.order = TrainingOrder(len(training), batch_size=config.batch_size, seed=config.seed)
        self.num_batches = len(self.order)
        self.training = make_loader(training, self.order, num_workers=data.num_workers)
        val_order = in_order(len(validation), batch_size=recipe.eval.batch_size)
        self.validation = make_loader(validation, val_order, num_workers=data.num_workers)

    def groups(self, epoch: int, step: int, *, size: int) -> Iterator[list[Batch]]:
        """Iterate over an epoch from a step on, `size` batches a step; the last has what is left.

        Raises:
            VideoError: A video cannot be read.
        """
        self.order.epoch, self.order.start = epoch, step * size
        batches = batches_of(self.training)
        while group := list(islice(batches, size)):
            yield group

    def facts(self) -> list[Any]:
        """What must not change while a run stands still."""
        return [self.num_training, list(self.class_names)]

    def check_unchanged(self, facts: list[Any], *, since: str) -> None:
        """Refuse to go on with other videos.

        Raises:
            ValueError: Naming the numbers then and now.
        """
        if facts != self.facts():
            raise ValueError(
                f"the training data have changed since {since}: {facts[0]} videos then, "
                f"{self.num_training} now, of {len(facts[1])} and {len(self.class_names)} classes; "
                "put them back, or begin a new run"
            )
