"""Shards give the same clips as the videos they were written from; errors name the shard."""

import hashlib
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
from motionaware.data.annotations.split import SHARD_INDEX
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import FailedSample, Request, Sample, iterate_batches
from motionaware.data.shards.braces import expand_braces
from motionaware.data.shards.layout import ShardedExamples, read_shards
from motionaware.data.shards.reader import ShardDataset, ShardReader
from motionaware.data.shards.writer import Shard, write_shard
from motionaware.errors import DataError, SplitAbsent, VideoError

SPEC = ClipSpec(num_frames=4, image_size=32)
SMALL = 0.02  # MiB; a few videos of the fixture


@pytest.fixture(scope="session")
def written(video_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "shards"
    videos = shutil.copytree(video_folder, folder.parent / "videos")  # it will be indexed
    prepare_shards("folder", videos, folder, shard_mib=SMALL, num_workers=0)
    return folder


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy that a test can damage."""
    return shutil.copytree(written, tmp_path / "copy")


def dataset(root: Path | str, split: str = "train") -> ShardDataset:
    return ShardDataset(read_shards(root, split), spec=SPEC)


def sharded(root: Path | str, split: str = "train") -> ShardedExamples:
    examples = read_shards(root, split).examples
    assert isinstance(examples, ShardedExamples)
    return examples


def index_by_name(data: ShardDataset) -> dict[str, int]:
    found = {}
    for index in range(len(data)):
        with data.reader.video(index) as (name, _):
            found[name.rpartition("(")[2].rstrip(")")] = index
    return found


def failure(data: ShardDataset, index: int = 0) -> str:
    sample = data[Request(index)]
    assert isinstance(sample, FailedSample)
    return str(sample.error)


def rewrite(path: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> None:
    """Change the members of a tar file, and its size in the index."""
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            name, content = change(name, content)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    edit(path.parent, lambda index: resize(index, path))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    index = json.loads((folder / SHARD_INDEX).read_text())
    change(index)
    (folder / SHARD_INDEX).write_text(json.dumps(index))


def resize(index: dict, path: Path) -> None:
    entries = (entry for entries in index["splits"].values() for entry in entries)
    next(entry for entry in entries if entry["name"] == path.name)["num_bytes"] = (
        path.stat().st_size
    )


def test_a_video_in_a_shard_gives_the_same_clips_as_its_file(written: Path, video_folder: Path):
    split = read_split("folder", video_folder, "train")
    outside = VideoDataset(split, spec=SPEC)
    inside = dataset(written)
    indices = index_by_name(inside)
    assert len(indices) == len(outside)
    for i, example in enumerate(split.examples):
        index = indices[example.path.relative_to(video_folder).as_posix()]
        for seed in (None, 7):
            one, other = outside[Request(i, seed)], inside[Request(index, seed)]
            assert isinstance(one, Sample)
            assert isinstance(other, Sample)
            assert torch.equal(one.views, other.views)
            assert one.label == other.label
    assert inside.class_names == split.class_names


@pytest.mark.parametrize("kind", ["something-v1", "something-v2", "ucf101-1"])
def test_frame_folders_and_all_kinds_of_files_can_be_stored(kind, trees, plant, tmp_path):
    root = plant(trees[kind], tmp_path / "data", real=True)
    prepare_shards(kind, root, tmp_path / "shards", num_workers=0)
    inside = dataset(tmp_path / "shards", "val")
    outside = VideoDataset(read_split(kind, root, "val"), spec=SPEC)
    indices = index_by_name(inside)
    for i, example in enumerate(outside.split.examples):
        one = outside[Request(i)]
        other = inside[Request(indices[example.path.relative_to(root).as_posix()])]
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert torch.equal(one.views, other.views)
    assert inside.class_names == trees[kind].class_names


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3, 6])
def test_loaders_give_every_video_once(written: Path, num_workers: int):
    data = dataset(written)
    assert len(data.reader.examples.shards) < 6
    loader = data.training_loader(batch_size=5, seed=0, num_workers=num_workers)
    for loader.sampler.epoch in range(2):
        batches = list(iterate_batches(loader.batches))
        assert sorted(i for batch in batches for i in batch.indices.tolist()) == list(range(12))
        assert [len(batch.labels) for batch in batches] == [5, 5, 2]
    views = data.view_loader(batch_size=5, num_workers=num_workers)
    assert sorted(i for batch in iterate_batches(views) for i in batch.indices.tolist()) == [
        *range(12)
    ]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_continued_epoch_gives_the_same_clips(written: Path, num_workers: int):
    def clips(start: int) -> list[torch.Tensor]:
        loader = dataset(written).training_loader(batch_size=4, seed=3, num_workers=num_workers)
        loader.sampler.epoch, loader.sampler.start = 1, start
        return [batch.views for batch in iterate_batches(loader.batches)]

    all_clips, rest = clips(0), clips(1)
    assert all(torch.equal(a, b) for a, b in zip(all_clips[1:], rest, strict=True))


def test_a_shard_is_read_once_an_epoch(written: Path, monkeypatch: pytest.MonkeyPatch):
    read = []
    original = ShardReader._read
    monkeypatch.setattr(
        ShardReader, "_read", lambda self, shard: read.append(shard) or original(self, shard)
    )
    data = dataset(written)
    list(data.training_loader(batch_size=4, seed=0, num_workers=0).batches)
    assert sorted(read) == list(range(len(data.reader.examples.shards)))


def test_no_temporary_file_is_left(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = dataset(written)
    assert isinstance(data[Request(0)], Sample)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------ folders, addresses


@pytest.fixture
def address(written: Path) -> Iterator[str]:
    class SilentHandler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = partial(SilentHandler, directory=str(written))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_shards_are_read_from_an_address(address: str, written: Path):
    local, remote = dataset(written)[Request(5, 1)], dataset(address)[Request(5, 1)]
    assert isinstance(local, Sample)
    assert isinstance(remote, Sample)
    assert torch.equal(local.views, remote.views)
    message = r"^http://[^ ]*/nowhere/shards.json cannot be downloaded \(HTTP Error 404: "
    with pytest.raises(DataError, match=message):
        read_shards(f"{address}/nowhere", "train")


def test_an_address_without_a_server_is_one_error():
    with socket.socket() as unused:  # bound, but it does not listen
        unused.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        message = r"^http://[^ ]*/x/shards.json cannot be downloaded \(Connection refused\); check"
        with pytest.raises(DataError, match=message):
            read_shards(root, "train")


def test_a_pattern_chooses_shards(written: Path):
    every_shard = sharded(written)
    chosen = sharded(f"{written}/train-{{000000..000001}}.tar")
    assert chosen.shards == every_shard.shards[:2]
    assert len(chosen) == every_shard.ends[1]
    with pytest.raises(SplitAbsent, match="names no shard of val; name some"):
        read_shards(f"{written}/train-000000.tar", "val")
    with pytest.raises(DataError, match=r"train-000077.tar is not in .*shards.json"):
        read_shards(f"{written}/train-{{000000,000077}}.tar", "train")
    with pytest.raises(DataError, match=r"give DIR/PATTERN"):
        read_shards("train-000000.tar", "train")


def test_a_pipe_address_never_runs_a_command(tmp_path: Path):
    with pytest.raises(DataError, match="is not a folder"):
        read_shards(f"pipe:touch {tmp_path}/hacked;", "train")
    assert not (tmp_path / "hacked").exists()


# ------------------------------------------------------------------------------------------ errors


def test_a_missing_or_truncated_shard_is_one_error_before_training(shards: Path):
    path = shards / "train-000001.tar"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-700])
    message = (
        rf"shard .*train-000001.tar has {size - 700} bytes, shards.json says {size}; it was tr"
    )
    with pytest.raises(DataError, match=message):
        read_shards(shards, "train")
    path.unlink()
    with pytest.raises(
        DataError, match=r"shard .*train-000001.tar does not exist, but shards.json"
    ):
        read_shards(shards, "train")
    read_shards(shards, "val")


def test_a_missing_index_or_split_is_one_error(shards: Path, tmp_path: Path):
    edit(shards, lambda index: index["splits"].pop("test"))
    with pytest.raises(SplitAbsent, match="has no shards of test; it has train, val"):
        read_shards(shards, "test")
    (shards / SHARD_INDEX).unlink()
    message = r"shards.json does not exist; it lists classes and shards; .* holds test-000000.tar"
    with pytest.raises(DataError, match=message):
        read_shards(shards, "train")
    with pytest.raises(
        DataError, match=r"nowhere is not a folder; give the folder that contains shards"
    ):
        read_shards(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match=r"needs its folder; set data.root"):
        read_shards(None, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("class_names"), "it lacks 'class_names'"),
        (lambda index: index.update(class_names=[]), "no class names, or one class twice"),
        (lambda index: index.update(class_names=["a", "a"]), "no class names, or one class twice"),
        (lambda index: index.update(version=9), "version 9, wanted 1"),
        (lambda index: index["class_names"].pop(), "has labels without a class"),
        (
            lambda index: index["splits"]["train"][0].update(name="../a.tar"),
            "not the name of a file",
        ),
        (lambda index: index.update(splits=3), "not a valid index of shards"),
        (lambda index: index["splits"]["train"][0].pop("labels"), "it lacks 'labels'"),
    ],
)
def test_a_damaged_index_is_one_error(shards: Path, change: Callable[[dict], object], message: str):
    edit(shards, change)
    with pytest.raises(DataError, match=rf"{message}.*write the shards again"):
        read_shards(shards, "train")


def test_an_index_that_is_not_json_is_one_error(shards: Path):
    (shards / SHARD_INDEX).write_text("shards")
    with pytest.raises(
        DataError, match=r"shards.json is not a valid index of shards \(Expecting value"
    ):
        read_shards(shards, "train")


def test_a_shard_that_is_not_a_tar_file_is_named(shards: Path):
    path = shards / "train-000000.tar"
    path.write_bytes(b"x" * path.stat().st_size)
    for index in (0, 1):  # the same error for each of its videos
        message = failure(dataset(shards), index)
        assert message.startswith(f"shard {path} cannot be read as a tar file (")
        assert message.endswith("; copy it again")


def test_a_shard_truncated_within_a_member_is_named(shards: Path):
    path = shards / "train-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 // 512 * 512 + 100])
    edit(shards, lambda index: resize(index, path))
    assert f"shard {path} " in failure(dataset(shards))


def test_a_shard_with_another_number_of_samples_is_named(shards: Path):
    path = shards / "train-000000.tar"
    wanted = len(dataset(shards).reader.examples.videos_in(0))
    path.write_bytes(path.read_bytes() + b"\0" * 512)  # tar files end at the first empty block
    edit(shards, lambda index: index["splits"]["train"][0]["labels"].append(0))
    edit(shards, lambda index: resize(index, path))
    message = f"shard {path} holds {wanted} samples, shards.json says {wanted + 1}; copy both again"
    assert failure(dataset(shards)) == message


def test_a_label_that_differs_from_the_index_is_refused(shards: Path):
    labels = json.loads((shards / SHARD_INDEX).read_text())["splits"]["train"][0]["labels"]
    other = (labels[0] + 1) % 12
    edit(shards, lambda index: index["splits"]["train"][0]["labels"].__setitem__(0, other))
    classes = dataset(shards).class_names
    message = f"shows {classes[labels[0]]!r}, shards.json says {classes[other]!r}"
    assert message in failure(dataset(shards))


def test_other_members_are_refused_and_never_unpacked_under_their_names(shards: Path):
    path = shards / "train-000000.tar"
    rewrite(path, lambda name, content: (name.replace("mp4", "exe"), content))
    message = failure(dataset(shards))
    assert "sample 00000000 holds exe besides its JSON file, wanted one video, or frames" in message
    rewrite(path, lambda name, content: (name.replace("json", "txt"), content))
    assert "lacks the JSON file that names its class" in failure(dataset(shards))


def test_an_unreadable_video_is_named_with_its_shard(shards: Path):
    path = shards / "train-000000.tar"
    rewrite(path, lambda name, content: (name, content[:600] if name.endswith("mp4") else content))
    data = dataset(shards)
    message = failure(data)
    assert message.startswith(f"{path}, sample 00000000: train/")
    assert "motionaware-" not in message  # the temporary path is not shown
    with pytest.raises(VideoError, match="sample 0000000"):
        list(iterate_batches(data.view_loader(batch_size=4, num_workers=0)))
    batches = list(iterate_batches(data.view_loader(batch_size=4, num_workers=0, skip=True)))
    assert sum(len(batch.skipped) for batch in batches) == len(data.reader.examples.videos_in(0))


# -------------------------------------------------------------------------- WebDataset's tar files


def write_as_webdataset(path: Path, files: dict[str, bytes]) -> None:
    """Write a tar file as WebDataset's TarWriter does: a stream of read-only members."""
    with path.open("wb") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o444, 1.5
            member.uname = member.gname = "bigdata"
            tar.addfile(member, io.BytesIO(content))


def test_shards_written_by_webdataset_are_read(tmp_path: Path, video_folder: Path):
    video = next(video_folder.glob("train/*/*.mp4")).read_bytes()
    about = json.dumps({"name": "x/a.mp4", "class": "walk", "label": 0}).encode()
    path = tmp_path / "train-000000.tar"
    files = {
        "__meta__": b"ignored",
        "00/7.JSON": about,
        "00/7.Mp4": video,
        "readme": b"ignored",
        "00/8.json": about,
        "00/8.mp4": video,
    }
    write_as_webdataset(path, files)
    entry = {"name": path.name, "num_bytes": path.stat().st_size, "labels": [0, 0]}
    index = {"version": 1, "class_names": ["walk"], "splits": {"train": [entry]}}
    (tmp_path / SHARD_INDEX).write_text(json.dumps(index))
    data = dataset(tmp_path)
    assert isinstance(data[Request(0)], Sample)
    assert isinstance(data[Request(1)], Sample)
    with data.reader.video(0) as (name, unpacked):
        assert name == f"{path}, sample 00/7 (x/a.mp4)"
        assert unpacked.read_bytes() == video


def test_a_member_that_occurs_twice_is_an_error(shards: Path):
    path = shards / "train-000000.tar"
    rewrite(path, lambda name, content: (name.replace("json", "mp4"), content))
    assert "cannot be read as a tar file (00000000.mp4 occurs twice)" in failure(dataset(shards))


def test_a_written_shard_has_the_bytes_that_webdataset_writes(tmp_path: Path):
    video, frames = tmp_path / "a.MP4", tmp_path / "frames"
    video.write_bytes(b"video " * 300)
    frames.mkdir()
    for number in range(1, 13):
        (frames / f"img_{number}.JPG").write_bytes(bytes([number]) * number)
    videos = ((video, "x/a.MP4", 0), (frames, "x/fr\u00e4mes", 1))
    shard = Shard(tmp_path / "train-000000.tar", videos, 41, ("walk", "l\u00e4uft"))
    assert write_shard(shard) == 20480
    digest = hashlib.sha256(shard.path.read_bytes()).hexdigest()
    # Of the file that webdataset 1.0.2 writes: TarWriter(encoder=False, mtime=0, user="", group="")
    assert digest == "3791135f72f94363b6568835804d741c22c95362e5cf9ff83c73749cf76ae59c"


# ---------------------------------------------------------------------------------- brace expansion


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{a,b}.tar", ["a.tar", "b.tar"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{0..10}", [str(number) for number in range(11)]),
        ("{2..1}", ["1", "2"]),
        ("x{,y}", ["x", "xy"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{t-{0..1},v-{0,9}}.tar", ["t-0.tar", "t-1.tar", "v-0.tar", "v-9.tar"]),
    ],
)
def test_braces_are_expanded_as_in_a_shell(pattern: str, names: list[str]):
    assert expand_braces(pattern) == names


@pytest.mark.parametrize("pattern", ["{a,b.tar", "a,b}.tar", "{a}.tar", "{a,{b}", "{}.tar"])
def test_a_pattern_with_wrong_braces_is_one_error(pattern: str, written: Path):
    with pytest.raises(DataError, match=r"is not a pattern of shards .*; write for example DIR/"):
        read_shards(f"{written}/{pattern}", "train")
