"""Videos that are absent or cannot be read, left out because the recipe asks for it.

Each is noted with its reason, and no other video takes its place. Past a share of the data the run
ends: what is left would be another data set.
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
    """The videos left out so far.

    Attributes:
        max_share: Largest share of a split that may be left out, in [0, 1).
        rows: Split and name of each video, with the reason.
        notes: What was changed in other videos to read them, one line each.
    """

    max_share: float
    rows: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    _totals: Counter[str] = field(default_factory=Counter)
    _path: Path | None = None

    def without_missing(self, split: Split) -> Split:
        """The split without the videos that are not there.

        Raises:
            DataError: More than `max_share` of them are not.
        """
        self._totals[split.name] = len(split.examples)
        missing = missing_examples(split)
        for place in missing:
            self.rows[split.name, str(split.examples[place].path)] = "does not exist"
        self._check(split.name)
        return without_examples(split, missing)

    def pass_on(
        self, batches: Iterator[Batch], dataset: ClipDataset, split: str
    ) -> Iterator[Batch]:
        """Note what each batch left out or changed; a batch of which nothing is left comes empty.

        Raises:
            DataError: More than `max_share` of the split's videos cannot be read.
        """
        self._totals[split] = max(self._totals[split], len(dataset))
        for batch in batches:
            self.notes |= dict.fromkeys(batch.notes)
            new = {
                (split, dataset.name(broken.index)): str(broken.error) for broken in batch.skipped
            }
            if new.keys() - self.rows.keys():
                self.rows |= new
                self._write()
                self._check(split)
            yield batch

    def keep(self, path: Path) -> None:
        """List the videos in a file from now on; those that it lists already are remembered."""
        self._path = path
        if path.is_file():
            listed = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
            noted = {(row["split"], row["video"]): row["why"] for row in listed}
            self.rows = noted | self.rows
        self._write()

    def count(self, split: str) -> int:
        """How many videos of a split are left out so far."""
        return sum(name == split for name, _ in self.rows)

    def total(self, split: str) -> int:
        """How many videos a split has, those left out among them."""
        return self._totals[split]

    def _write(self) -> None:
        if self._path is None or not self.rows:
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows((*key, why) for key, why in sorted(self.rows.items()))
        write_atomically(self._path, text.getvalue().encode())

    def _check(self, split: str) -> None:
        number, total = self.count(split), self._totals[split]
        if number <= self.max_share * total:
            return
        first, why = next((video, why) for (name, video), why in self.rows.items() if name == split)
        first = why if why.startswith(first) else f"{first}: {why}"  # most reasons name their video
        raise DataError(
            f"{number} of the {total} videos of {split} are absent or cannot be read, more than "
            f"the share of {self.max_share:g} that data.max_skipped_share allows; first "
            f"{first}. motionaware doctor names all of them"
        )
