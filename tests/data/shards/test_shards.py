"""A data set in shards gives what it gave outside them, or one error that names the shard."""

import http.server
import io
import json
import shutil
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from motionaware.apps.prepare_shards import prepare_shards
from motionaware.clip import ClipSpec
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import FailedSample, Request, Sample, iterate_batches
from motionaware.data.shards.layout import INDEX, ShardedExamples, read_shards
from motionaware.data.shards.reader import ShardDataset, ShardReader
from motionaware.data.shards.sampler import training_loader, view_loader
from motionaware.errors import DataError, SplitAbsent, VideoError

SPEC = ClipSpec(num_frames=4, image_size=32)
SMALL = 0.02  # MiB: a few videos of the fixture


@pytest.fixture(scope="session")
def written(video_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "shards"
    videos = shutil.copytree(video_folder, folder.parent / "videos")  # which is indexed meanwhile
    prepare_shards("folder", videos, folder, shard_mib=SMALL, num_workers=0)
    return folder


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "copy")


def dataset(root: Path | str, split: str = "train") -> ShardDataset:
    return ShardDataset(read_shards(root, split), spec=SPEC)


def sharded(root: Path | str, split: str = "train") -> ShardedExamples:
    examples = read_shards(root, split).examples
    assert isinstance(examples, ShardedExamples)
    return examples


def names(data: ShardDataset) -> dict[str, int]:
    found = {}
    for index in range(len(data)):
        with data.reader.video(index) as (name, _):
            found[name.rpartition("(")[2].rstrip(")")] = index
    return found


def failure(data: ShardDataset, index: int = 0) -> str:
    made = data[Request(index)]
    assert isinstance(made, FailedSample)
    return str(made.error)


def rewritten(path: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> None:
    """Write a tar file anew with other members, and say its new size in the index."""
    with tarfile.open(path) as tar:
        members = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            name, content = change(name, content)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    edit(path.parent, lambda index: resize(index, path))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


def resize(index: dict, path: Path) -> None:
    entries = (entry for entries in index["splits"].values() for entry in entries)
    next(entry for entry in entries if entry["name"] == path.name)["num_bytes"] = (
        path.stat().st_size
    )


def test_a_video_in_a_shard_gives_the_clips_that_it_gives_outside(
    written: Path, video_folder: Path
):
    split = read_split("folder", video_folder, "train")
    outside = VideoDataset(split, spec=SPEC)
    inside = dataset(written)
    places = names(inside)
    assert len(places) == len(outside)
    for place, example in enumerate(split.examples):
        index = places[example.path.relative_to(video_folder).as_posix()]
        for seed in (None, 7):
            one, other = outside[Request(place, seed)], inside[Request(index, seed)]
            assert isinstance(one, Sample)
            assert isinstance(other, Sample)
            assert torch.equal(one.views, other.views)
            assert one.label == other.label
    assert inside.class_names == split.class_names


@pytest.mark.parametrize("kind", ["something-v1", "something-v2", "ucf101-1"])
def test_frame_folders_and_all_kinds_of_files_go_through(kind, trees, plant, tmp_path):
    root = plant(trees[kind], tmp_path / "data", real=True)
    prepare_shards(kind, root, tmp_path / "shards", num_workers=0)
    inside = dataset(tmp_path / "shards", "val")
    outside = VideoDataset(read_split(kind, root, "val"), spec=SPEC)
    places = names(inside)
    for place, example in enumerate(outside.split.examples):
        one = outside[Request(place)]
        other = inside[Request(places[example.path.relative_to(root).as_posix()])]
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert torch.equal(one.views, other.views)
    assert inside.class_names == trees[kind].class_names


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3, 6])
def test_loaders_give_every_video_once(written: Path, num_workers: int):
    data = dataset(written)
    assert len(data.reader.examples.shards) < 6
    order, loader = training_loader(data, batch_size=5, seed=0, num_workers=num_workers)
    for order.epoch in range(2):
        batches = list(iterate_batches(loader))
        assert sorted(i for batch in batches for i in batch.indices.tolist()) == list(range(12))
        assert [len(batch.labels) for batch in batches] == [5, 5, 2]
    views = view_loader(data, batch_size=5, num_workers=num_workers)
    assert sorted(i for batch in iterate_batches(views) for i in batch.indices.tolist()) == [
        *range(12)
    ]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_that_goes_on_gives_the_same_clips(written: Path, num_workers: int):
    def clips(start: int) -> list[torch.Tensor]:
        order, loader = training_loader(
            dataset(written), batch_size=4, seed=3, num_workers=num_workers
        )
        order.epoch, order.start = 1, start
        return [batch.views for batch in iterate_batches(loader)]

    whole, rest = clips(0), clips(1)
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_a_shard_is_read_once_while_its_videos_are_taken(
    written: Path, monkeypatch: pytest.MonkeyPatch
):
    read = []
    plain = ShardReader._read
    monkeypatch.setattr(
        ShardReader, "_read", lambda self, shard: read.append(shard) or plain(self, shard)
    )
    data = dataset(written)
    _, loader = training_loader(data, batch_size=4, seed=0, num_workers=0)
    list(loader)
    assert sorted(read) == list(range(len(data.reader.examples.shards)))


def test_no_file_stays_behind(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = dataset(written)
    assert isinstance(data[Request(0)], Sample)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- where shards may be


@pytest.fixture
def address(written: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = partial(Quiet, directory=str(written))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_shards_are_read_from_an_address(address: str, written: Path):
    near, far = dataset(written)[Request(5, 1)], dataset(address)[Request(5, 1)]
    assert isinstance(near, Sample)
    assert isinstance(far, Sample)
    assert torch.equal(near.views, far.views)
    words = r"^http://[^ ]*/nowhere/shards.json cannot be fetched \(HTTP Error 404: "
    with pytest.raises(DataError, match=words):
        read_shards(f"{address}/nowhere", "train")


def test_an_address_where_nobody_answers_says_so():
    with socket.socket() as taken:  # bound, but it does not listen
        taken.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{taken.getsockname()[1]}/x"
        words = r"^http://[^ ]*/x/shards.json cannot be fetched \(Connection refused\); check"
        with pytest.raises(DataError, match=words):
            read_shards(root, "train")


def test_a_pattern_names_some_of_the_shards(written: Path):
    whole = sharded(written)
    some = sharded(f"{written}/train-{{000000..000001}}.tar")
    assert some.shards == whole.shards[:2]
    assert len(some) == whole.ends[1]
    with pytest.raises(SplitAbsent, match="names no shard of val; name some"):
        read_shards(f"{written}/train-000000.tar", "val")
    with pytest.raises(DataError, match=r"train-000077.tar is not in .*shards.json"):
        read_shards(f"{written}/train-{{000000,000077}}.tar", "train")
    with pytest.raises(DataError, match=r"give DIR/PATTERN"):
        read_shards("train-000000.tar", "train")


def test_a_root_never_runs_a_command(tmp_path: Path):
    with pytest.raises(DataError, match="is not a folder"):
        read_shards(f"pipe:touch {tmp_path}/hacked;", "train")
    assert not (tmp_path / "hacked").exists()


# ------------------------------------------------------------------------------- what is not right


def test_an_absent_or_short_shard_is_one_error_before_training(shards: Path):
    one = shards / "train-000001.tar"
    size = one.stat().st_size
    one.write_bytes(one.read_bytes()[:-700])
    words = rf"shard .*train-000001.tar has {size - 700} bytes, shards.json says {size}; it was cut"
    with pytest.raises(DataError, match=words):
        read_shards(shards, "train")
    one.unlink()
    with pytest.raises(
        DataError, match=r"shard .*train-000001.tar does not exist, but shards.json"
    ):
        read_shards(shards, "train")
    read_shards(shards, "val")


def test_no_index_and_no_split_say_so(shards: Path, tmp_path: Path):
    edit(shards, lambda index: index["splits"].pop("test"))
    with pytest.raises(SplitAbsent, match="has no shards of test; it has train, val"):
        read_shards(shards, "test")
    (shards / INDEX).unlink()
    words = r"shards.json does not exist, which lists classes and shards; .* holds test-000000.tar"
    with pytest.raises(DataError, match=words):
        read_shards(shards, "train")
    with pytest.raises(DataError, match=r"nowhere is not a folder; give the one that holds shards"):
        read_shards(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match=r"needs its folder; set data.root"):
        read_shards(None, "train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.pop("class_names"), "it lacks 'class_names'"),
        (lambda index: index.update(class_names=[]), "no class names, or one twice"),
        (lambda index: index.update(class_names=["a", "a"]), "no class names, or one twice"),
        (lambda index: index.update(version=9), "version 9, wanted 1"),
        (lambda index: index["class_names"].pop(), "labels that are none of its classes"),
        (lambda index: index["splits"]["train"][0].update(name="../a.tar"), "no name of a file"),
        (lambda index: index.update(splits=3), "no index of shards"),
        (lambda index: index["splits"]["train"][0].pop("labels"), "it lacks 'labels'"),
    ],
)
def test_a_damaged_index_is_one_error(shards: Path, change: Callable[[dict], object], words: str):
    edit(shards, change)
    with pytest.raises(DataError, match=rf"{words}.*write the shards again"):
        read_shards(shards, "train")


def test_an_index_that_is_no_json_is_one_error(shards: Path):
    (shards / INDEX).write_text("shards")
    with pytest.raises(DataError, match=r"shards.json is no index of shards \(Expecting value"):
        read_shards(shards, "train")


def test_a_shard_that_is_no_tar_file_is_named(shards: Path):
    path = shards / "train-000000.tar"
    path.write_bytes(b"x" * path.stat().st_size)
    for index in (0, 1):  # each of its videos says the same
        words = failure(dataset(shards), index)
        assert words.startswith(f"shard {path} cannot be read as a tar file (")
        assert words.endswith("; fetch it again")


def test_a_shard_cut_within_is_named(shards: Path):
    path = shards / "train-000000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // 512 * 512 + 100])
    edit(shards, lambda index: resize(index, path))
    assert f"shard {path} " in failure(dataset(shards))


def test_a_shard_with_another_number_of_samples_is_named(shards: Path):
    path = shards / "train-000000.tar"
    wanted = len(dataset(shards).reader.examples.within(0))
    path.write_bytes(path.read_bytes() + b"\0" * 512)  # tar files end at the first empty block
    edit(shards, lambda index: index["splits"]["train"][0]["labels"].append(0))
    edit(shards, lambda index: resize(index, path))
    words = f"shard {path} holds {wanted} samples, shards.json says {wanted + 1}; fetch both again"
    assert failure(dataset(shards)) == words


def test_a_label_that_is_not_the_indexs_is_refused(shards: Path):
    labels = json.loads((shards / INDEX).read_text())["splits"]["train"][0]["labels"]
    other = (labels[0] + 1) % 12
    edit(shards, lambda index: index["splits"]["train"][0]["labels"].__setitem__(0, other))
    classes = dataset(shards).class_names
    words = f"shows {classes[labels[0]]!r}, shards.json says {classes[other]!r}"
    assert words in failure(dataset(shards))


def test_members_that_are_no_video_are_named_and_never_written_under_their_names(shards: Path):
    path = shards / "train-000000.tar"
    rewritten(path, lambda name, content: (name.replace("mp4", "exe"), content))
    words = failure(dataset(shards))
    assert "sample 00000000 holds exe beside its json, wanted one video or frames" in words
    rewritten(path, lambda name, content: (name.replace("json", "txt"), content))
    assert "lacks the json that names its class" in failure(dataset(shards))


def test_a_broken_video_is_named_by_its_shard_and_its_name(shards: Path):
    path = shards / "train-000000.tar"
    rewritten(
        path, lambda name, content: (name, content[:600] if name.endswith("mp4") else content)
    )
    data = dataset(shards)
    words = failure(data)
    assert words.startswith(f"{path}, sample 00000000: train/")
    assert "motionaware-" not in words  # where it was laid out is nobody's business
    with pytest.raises(VideoError, match="sample 0000000"):
        list(iterate_batches(view_loader(data, batch_size=4, num_workers=0)))
    batches = list(iterate_batches(view_loader(data, batch_size=4, num_workers=0, skip=True)))
    assert sum(len(batch.skipped) for batch in batches) == len(data.reader.examples.within(0))
