"""Note training videos that have fewer frames than a clip."""

from collections.abc import Iterator

from motionaware.data.annotations.index import known_lengths
from motionaware.data.clip_loaders import SplitDataset
from motionaware.data.loader import Batch


class VideoLengths:
    """Counts the videos with fewer frames than a clip.

    The index of a data set knows all lengths at the start. Without one, a video's length is known
    once it has been read, so all are known after the first epoch.
    """

    def __init__(self, dataset: SplitDataset, *, num_frames: int) -> None:
        self.num_frames = num_frames
        self._seen: dict[int, int] = {}
        lengths = known_lengths(dataset.split)
        self._is_known = lengths is not None
        self._was_told = False
        if lengths is not None:
            self._seen = dict(enumerate(lengths.tolist()))

    def meet(self, batch: Batch) -> None:
        """Note the lengths of the videos of a batch."""
        if self._is_known or self._was_told or not batch.num_video_frames:
            return
        for index, length in zip(batch.indices.tolist(), batch.num_video_frames, strict=True):
            if length is not None:
                self._seen[index] = length

    def warnings(self) -> Iterator[str]:
        """One note if videos are too short, the first time that lengths are known."""
        if self._was_told or not self._seen:
            return
        self._was_told = True
        short = [length for length in self._seen.values() if length < self.num_frames]
        if short:
            yield (
                f"note: {len(short)} of {len(self._seen)} training videos have fewer frames "
                f"than clip.num_frames {self.num_frames}, the shortest has {min(short)}; their "
                "clips show some frames more than once. A lower clip.num_frames avoids that"
            )
        self._seen = {}
