"""Count training videos that have fewer frames than a clip."""

from collections.abc import Iterator

from motionaware.data.annotations.index import known_lengths
from motionaware.data.clip_loaders import SplitDataset
from motionaware.data.loader import Batch


class VideoLengths:
    """Collects the lengths of the training videos and warns about short ones.

    With an index, all lengths are known at the start. Otherwise the length of a video is known
    after it has been read, so all lengths are known after the first epoch.
    """

    def __init__(self, dataset: SplitDataset, *, num_frames: int) -> None:
        self.num_frames = num_frames
        lengths = known_lengths(dataset.split)
        self._from_index = lengths is not None
        self._lengths = {} if lengths is None else dict(enumerate(lengths.tolist()))
        self._warned = False

    def add(self, batch: Batch) -> None:
        """Note the lengths of the videos of a batch."""
        if self._from_index or self._warned or not batch.num_video_frames:
            return
        for index, length in zip(batch.indices.tolist(), batch.num_video_frames, strict=True):
            if length is not None:
                self._lengths[index] = length

    def warnings(self) -> Iterator[str]:
        """Yield a note about short videos, once, at the first call with known lengths."""
        if self._warned or not self._lengths:
            return
        self._warned = True
        short = [length for length in self._lengths.values() if length < self.num_frames]
        if short:
            yield (
                f"note: {len(short)} of {len(self._lengths)} training videos have fewer frames "
                f"than clip.num_frames {self.num_frames}, the shortest has {min(short)}; their "
                "clips show some frames more than once. A lower clip.num_frames avoids that"
            )
        self._lengths = {}
