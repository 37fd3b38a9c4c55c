"""Skip broken videos: remove missing ones from a split, record unreadable ones with the reason.

Unreadable videos are left out of their batch where batches are made (`_collate` in loader.py).
No other video replaces a skipped one. If the skipped share of a split exceeds `max_share`, the run
ends with a DataError.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from motionaware.data.annotations.index import missing_examples, without_examples
from motionaware.data.annotations.split import Split
from motionaware.data.loader import Batch, ClipDataset
from motionaware.errors import DataError
from motionaware.files import write_atomically

_COLUMNS = ("split", "video", "why")


@dataclass
class SkippedVideos:
    """The videos skipped so far.

    Attributes:
        max_share: Largest share of a split that may be skipped, in [0, 1).
        reasons: Why each video is skipped, by its split and name.
    """

    max_share: float
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    _totals: Counter[str] = field(default_factory=Counter)
    _path: Path | None = None

    def without_missing(self, split: Split) -> Split:
        """Return the split without the videos that do not exist.

        Raises:
            DataError: Their share is above `max_share`.
        """
        self._totals[split.name] = len(split.examples)
        missing = missing_examples(split)
        for index in missing:
            self.reasons[split.name, str(split.examples[index].path)] = "does not exist"
        self._check_share(split.name)
        return without_examples(split, missing)

    def record(self, batches: Iterator[Batch], dataset: ClipDataset, split: str) -> Iterator[Batch]:
        """Yield batches and record the videos that were skipped in them.

        A batch whose videos are all skipped is yielded empty.

        Raises:
            DataError: The skipped share of the split is above `max_share`.
        """
        self._totals[split] = max(self._totals[split], len(dataset))
        for batch in batches:
            skipped = {
                (split, dataset.name(failed.index)): str(failed.error) for failed in batch.skipped
            }
            if skipped.keys() - self.reasons.keys():
                self.reasons |= skipped
                self._write()
                self._check_share(split)
            yield batch

    def write_to(self, path: Path) -> None:
        """Write the list to a CSV file now and after each change; add the rows it already has."""
        self._path = path
        if path.is_file():
            rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
            earlier = {(row["split"], row["video"]): row["why"] for row in rows}
            self.reasons = earlier | self.reasons
        self._write()

    def count(self, split: str) -> int:
        """Return the number of skipped videos of a split."""
        return sum(name == split for name, _ in self.reasons)

    def total(self, split: str) -> int:
        """Return the number of videos of a split, including the skipped ones."""
        return self._totals[split]

    def _write(self) -> None:
        if self._path is None or not self.reasons:
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows((*key, why) for key, why in sorted(self.reasons.items()))
        write_atomically(self._path, text.getvalue().encode())

    def _check_share(self, split: str) -> None:
        num_skipped, total = self.count(split), self._totals[split]
        if num_skipped <= self.max_share * total:
            return
        first, why = next(
            (video, why) for (name, video), why in self.reasons.items() if name == split
        )
        first = why if why.startswith(first) else f"{first}: {why}"  # most reasons begin with it
        raise DataError(
            f"{num_skipped} of the {total} videos of {split} are absent or cannot be read, more "
            f"than the share of {self.max_share:g} that data.max_skipped_share allows; the first "
            f"is {first}. motionaware doctor lists all of them"
        )
