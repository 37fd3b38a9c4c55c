"""The contract of a VideoSource, for every source: files, their index, shards and MotionPairs."""

import pickle
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch

from motionaware.apps.prepare_index import prepare_index
from motionaware.apps.prepare_shards import prepare_shards
from motionaware.clip import ClipSpec
from motionaware.data.annotations import table as table_module
from motionaware.data.clip_loaders import Loader, SplitDataset
from motionaware.data.loader import Request, Sample, iterate_batches
from motionaware.data.shards import layout as layout_module
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.source import (
    ClipOptions,
    FileSource,
    MotionPairsSource,
    ShardSource,
    VideoSource,
)
from motionaware.errors import DataError, UsageError

OPTIONS = ClipOptions(spec=ClipSpec(num_frames=4, image_size=32))
NUM_CLIPS = 12  # in each split of each source


@pytest.fixture(scope="module")
def roots(video_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same videos as class folders, with an index, and as shards."""
    folder = tmp_path_factory.mktemp("sources")
    indexed = shutil.copytree(video_folder, folder / "indexed")
    prepare_index("folder", indexed, num_workers=0)
    prepare_shards("folder", indexed, folder / "shards", shard_mib=0.02, num_workers=0)
    return {"files": video_folder, "index": indexed, "shards": folder / "shards"}


@pytest.fixture(params=["files", "index", "shards", "motionpairs"])
def source(request: pytest.FixtureRequest, roots: dict[str, Path]) -> VideoSource:
    if request.param == "motionpairs":
        sizes: dict[str, int] = dict.fromkeys(("train", "val", "test"), NUM_CLIPS)
        return MotionPairsSource(sizes, seed=0, cache_dir=None)
    if request.param == "shards":
        return ShardSource(roots["shards"])
    return FileSource("folder", roots[request.param])


def indices(loader: Loader) -> list[int]:
    return [index for batch in iterate_batches(loader) for index in batch.indices.tolist()]


def test_a_source_opens_every_split_with_the_same_classes(source: VideoSource):
    assert isinstance(source, VideoSource)
    for name in ("train", "val", "test"):
        assert source.has_split(name)
        dataset = source.open(name, OPTIONS)
        assert isinstance(dataset, SplitDataset)
        assert len(dataset) == NUM_CLIPS
        assert dataset.class_names == source.open("train", OPTIONS).class_names
        assert dataset.split is None or dataset.split.name == name


def test_a_source_without_shared_videos_has_no_overlap(source: VideoSource):
    assert source.overlap() == {}


def test_an_unknown_split_is_refused(source: VideoSource):
    with pytest.raises((DataError, UsageError), match="valid"):
        source.open("valid", OPTIONS)


def test_a_clip_is_a_pure_function_of_its_request(source: VideoSource):
    one, other = (source.open("train", OPTIONS) for _ in range(2))
    for seed in (None, 7):
        first, second = one[Request(3, seed)], other[Request(3, seed)]
        assert isinstance(first, Sample)
        assert isinstance(second, Sample)
        assert torch.equal(first.views, second.views)
        assert first.label == one.labels()[3]
    assert len({one.name(index) for index in range(NUM_CLIPS)}) == NUM_CLIPS


def test_a_pickled_data_set_gives_the_same_clips(source: VideoSource):
    dataset = source.open("train", OPTIONS)
    first = dataset[Request(2)]
    second = pickle.loads(pickle.dumps(dataset))[Request(2)]
    assert isinstance(first, Sample)
    assert torch.equal(first.views, second.views)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_training_loader_gives_every_clip_once_in_a_new_order(
    source: VideoSource, num_workers: int
):
    dataset = source.open("train", OPTIONS)
    loader = dataset.training_loader(batch_size=5, seed=0, num_workers=num_workers)
    assert loader.sampler.num_examples == NUM_CLIPS
    assert loader.part == ""
    orders = []
    for loader.sampler.epoch in range(2):
        assert len(loader.batches) == 3
        orders.append(indices(loader.batches))
        assert sorted(orders[-1]) == list(range(NUM_CLIPS))
    assert orders[0] != orders[1]


def test_an_epoch_can_start_at_any_batch(source: VideoSource):
    def batches(start: int) -> list[torch.Tensor]:
        dataset = source.open("train", OPTIONS)
        loader = dataset.training_loader(batch_size=5, seed=3, num_workers=0)
        loader.sampler.epoch, loader.sampler.start = 1, start
        return [batch.views for batch in iterate_batches(loader.batches)]

    pairs = zip(batches(0)[1:], batches(1), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_the_view_loader_gives_every_video_once(source: VideoSource):
    dataset = source.open("val", OPTIONS)
    loader = dataset.view_loader(batch_size=5, num_workers=0)
    assert len(loader) == 3
    assert indices(loader) == list(range(NUM_CLIPS))


def test_the_digest_is_that_of_the_data_not_of_the_seed(source: VideoSource):
    def digest(seed: int) -> str | None:
        dataset = source.open("train", OPTIONS)
        return dataset.training_loader(batch_size=5, seed=seed, num_workers=0).digest

    assert digest(0) == digest(1)


def test_the_digest_of_shards_depends_on_the_number_of_workers(roots: dict[str, Path]):
    dataset = ShardSource(roots["shards"]).open("train", OPTIONS)
    digests = {
        dataset.training_loader(batch_size=5, seed=0, num_workers=num_workers).digest
        for num_workers in (1, 2)
    }
    assert len(digests) == 2
    assert None not in digests


def test_lists_are_read_once(source: VideoSource, monkeypatch: pytest.MonkeyPatch):
    calls = []

    def record_calls(module: ModuleType, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: calls.append(args) or function(*args))

    record_calls(table_module, "open_index")
    record_calls(layout_module, "_read_index_file")
    for _ in range(2):
        source.overlap()
        assert source.has_split("test")
        source.open("train", OPTIONS)
    assert len(calls) == len(set(calls))


def test_missing_videos_are_refused_or_skipped(tmp_path: Path):
    (tmp_path / "train.csv").write_text("a.mp4,x\nb.mp4,y\n")
    (tmp_path / "a.mp4").touch()
    source = FileSource("csv", tmp_path)
    with pytest.raises(DataError, match=r"1 of the 2 videos of train do not exist, first .*b\.mp4"):
        source.open("train", OPTIONS)
    skips = SkippedVideos(0.5)
    assert len(source.open("train", OPTIONS, skips=skips)) == 1
    assert skips.count("train") == 1


def test_a_missing_split_is_absent_but_a_damaged_one_is_not(tmp_path: Path):
    (tmp_path / "train.csv").write_text("a.mp4,x\n")
    (tmp_path / "test.csv").write_text("a.mp4\n")
    source = FileSource("csv", tmp_path)
    assert not source.has_split("val")
    assert source.has_split("test")
    assert source.overlap() == {}


def test_shards_that_cannot_be_read_have_no_overlap(tmp_path: Path):
    source = ShardSource(tmp_path / "nowhere")
    assert source.overlap() == {}
    assert source.has_split("test")


def test_only_files_need_a_folder_and_only_shards_refuse_a_cache():
    sources = (
        FileSource("folder", None),
        ShardSource(None),
        MotionPairsSource({}, seed=0, cache_dir=None),
    )
    assert [source.needs_folder for source in sources] == [True, False, False]
    assert [source.is_generated for source in sources] == [False, False, True]
    assert [source.cache_refusal is None for source in sources] == [True, False, True]
