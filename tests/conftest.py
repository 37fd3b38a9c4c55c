import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
import torch
from av.video.stream import VideoStream
from PIL import Image
from torch import Tensor

from motionaware.apps.prepare_motionpairs import prepare_motionpairs
from motionaware.clip import ClipSpec
from motionaware.engine.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
    TrainConfig,
)


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Return a recipe that trains for seconds and uses dropout and gradient accumulation.

    30 clips in batches of 8, two batches accumulated: two optimizer steps per epoch, the last on
    14 clips.
    """
    return Recipe(
        model=ModelConfig(backbone="resnet18_quarter", temporal="m2a"),
        clip=ClipSpec(num_frames=4, image_size=32),
        data=DataConfig(
            kind="motionpairs",
            root=str(tmp_path_factory.mktemp("motionpairs")),
            num_workers=0,
            num_train_clips=30,
            num_val_clips=12,
            num_test_clips=12,
        ),
        optim=OptimConfig(learning_rate=0.02, milestones_epochs=(2,)),
        train=TrainConfig(epochs=2, batch_size=8, accumulate=2, num_threads=1, device="cpu"),
        eval=EvalConfig(batch_size=6),
    )


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of MotionPairs as mp4 files of 6 frames, 12 in each split."""
    root = tmp_path_factory.mktemp("videos")
    prepare_motionpairs(
        root, num_clips={"train": 12, "val": 12, "test": 12}, num_frames=6, image_size=32
    )
    return root


# -------------------------------------------------------------------------- published data sets


@dataclass(frozen=True)
class Tree:
    """A tiny copy of a published data set.

    Attributes:
        class_names: The classes in their order.
        lists: Path of each list of annotations, and its content.
        videos: Path and class of each video of each split.
    """

    class_names: tuple[str, ...]
    lists: dict[str, str]
    videos: dict[str, dict[str, str]]


def _semicolon_lists(name: str, class_names: tuple[str, ...]) -> Tree:
    first, *_, last = class_names
    labelled = {
        "train": {"7": last, "12": first, "9": first, "4": last},
        "validation": {"3": last},
    }
    lists = {f"{name}-labels.csv": "".join(f"{label}\n" for label in class_names)}
    for split, videos in labelled.items():
        lists[f"{name}-{split}.csv"] = "".join(f"{id};{label}\n" for id, label in videos.items())
    lists[f"{name}-test.csv"] = "5\n"
    train, val = (
        {f"20bn-{name}/{id}": label for id, label in videos.items()} for videos in labelled.values()
    )
    return Tree(class_names, lists, {"train": train, "val": val})


def _something_v2() -> Tree:
    classes = ("Holding something", "Moving part of something", "[Something] falling like a rock")
    names = tuple(name.replace("[", "").replace("]", "") for name in classes)

    def entry(id: str, label: str, template: str, *placeholders: str) -> dict:
        fields = {"id": id, "label": label, "template": template}
        return fields | {"placeholders": list(placeholders)}

    train = [
        entry("78687", "holding potato", "Holding [something]", "potato"),
        entry("42326", "moving handle of door", "Moving [part] of [something]", "handle", "door"),
        entry("41775", "coin falling like a rock", classes[2], "coin"),
        entry("9", "holding a pen", "Holding [something]", "a pen"),
    ]
    val = [entry("74225", "holding cup", "Holding [something]", "cup")]
    folder = "20bn-something-something-v2"
    return Tree(
        names,
        {
            "labels/labels.json": json.dumps({name: str(i) for i, name in enumerate(names)}),
            "labels/train.json": json.dumps(train),
            "labels/validation.json": json.dumps(val),
            "labels/test.json": json.dumps([{"id": "1420"}]),
            "labels/test-answers.csv": f"1420;{names[2]}\n",
        },
        {
            "train": {
                f"{folder}/78687.webm": names[0],
                f"{folder}/42326.webm": names[1],
                f"{folder}/41775.webm": names[2],
                f"{folder}/9.webm": names[0],
            },
            "val": {f"{folder}/74225.webm": names[0]},
            "test": {f"{folder}/1420.webm": names[2]},
        },
    )


def _kinetics() -> Tree:
    header = ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
    rows = {
        "train": [
            ("air drumming", "_dbcJuKJQNs", 40, 50),
            ("abseiling", "-3B32lodo2M", 59, 69),
            ("shaking hands, formally", "a-b_c-d_e-f", 0, 10),
            ("abseiling", "ZZZZZZZZZZZ", 110, 120),
        ],
        "val": [("air drumming", "vvvvvvvvvvv", 7, 17)],
    }
    lists, videos = {}, {}
    for split, split_rows in rows.items():
        text = io.StringIO(newline="")
        csv.writer(text).writerows([header, *((*row, split, 0) for row in split_rows)])
        lists[f"annotations/{split}.csv"] = text.getvalue()
        videos[split] = {
            f"{split}/{label}/{id}_{start:06d}_{end:06d}.mp4": label
            for label, id, start, end in split_rows
        }
    lists["annotations/test.csv"] = "youtube_id,time_start,time_end,split\nttttttttttt,1,11,test\n"
    return Tree(("abseiling", "air drumming", "shaking hands, formally"), lists, videos)


def _ucf101(fold: int) -> Tree:
    classes = ("ApplyEyeMakeup", "BandMarching", "YoYo")
    train = [("YoYo", 25), ("ApplyEyeMakeup", 8), ("BandMarching", 9), ("YoYo", 8 + fold)]
    test = [("ApplyEyeMakeup", 1), ("YoYo", fold)]

    def names(videos: list[tuple[str, int]]) -> dict[str, str]:
        return {f"{name}/v_{name}_g{group:02d}_c01.avi": name for name, group in videos}

    lists = {
        "classInd.txt": "".join(f"{i} {name}\n" for i, name in enumerate(classes, start=1)),
        f"trainlist{fold:02d}.txt": "".join(
            f"{path} {classes.index(name) + 1}\r\n" for path, name in names(train).items()
        ),
        f"testlist{fold:02d}.txt": "".join(f"{path}\r\n" for path in names(test)),
    }
    train_videos, test_videos = (
        {f"UCF-101/{path}": name for path, name in names(videos).items()}
        for videos in (train, test)
    )
    return Tree(
        classes,
        {f"ucfTrainTestlist/{name}": text for name, text in lists.items()},
        {"train": train_videos, "val": test_videos, "test": test_videos},
    )


def _hmdb51(fold: int) -> Tree:
    tags = {
        "brush_hair": {"April_09_brush_hair_u_nm_np1_ba_goo_0": 1, "same name": 2, "unused": 0},
        "kick": {"k": 1},
        "kick_ball": {"kb": 1},
        "wave": {"same name": 1, "#20_Rhythm_clap&wave!_u_nm_np1_fr_goo_0": 1, "w": 2},
    }
    videos = {
        split: {
            f"hmdb51_org/{name}/{video}.avi": name
            for name, class_tags in tags.items()
            for video, video_tag in class_tags.items()
            if video_tag == tag
        }
        for split, tag in (("train", 1), ("test", 2))
    }
    lists = {
        f"testTrainMulti_7030_splits/{name}_test_split{fold}.txt": "".join(
            f"{video}.avi {tag} \n" for video, tag in class_tags.items()
        )
        for name, class_tags in tags.items()
    }
    return Tree(tuple(tags), lists, videos | {"val": videos["test"]})


def _diving48() -> Tree:
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Reverse", "Dive", "NoTwis", "PIKE"]]
    names = tuple(map(" ".join, vocabulary))

    def entry(name: str, label: int) -> dict:
        return {"vid_name": name, "label": label, "start_frame": 0, "end_frame": 48}

    test = {"rgb/_8Vy3dlHg2w_00000.mp4": names[0]}
    return Tree(
        names,
        {
            "Diving48_vocab.json": json.dumps(vocabulary),
            "Diving48_V2_train.json": json.dumps([entry("-mmq0PT-u8k_00155", 1), entry("b_0", 0)]),
            "Diving48_V2_test.json": json.dumps([entry("_8Vy3dlHg2w_00000", 0)]),
        },
        {
            "train": {"rgb/-mmq0PT-u8k_00155.mp4": names[1], "rgb/b_0.mp4": names[0]},
            "val": test,
            "test": test,
        },
    )


_SOMETHING = ("Holding something", "Pushing something from left to right", "Closing something")
_JESTER = ("Swiping Left", "Swiping Right", "No gesture")
TREES: dict[str, Tree] = {
    "something-v1": _semicolon_lists("something-something-v1", _SOMETHING),
    "something-v2": _something_v2(),
    "jester": _semicolon_lists("jester-v1", _JESTER),
    "kinetics": _kinetics(),
    **{f"ucf101-{fold}": _ucf101(fold) for fold in (1, 2, 3)},
    **{f"hmdb51-{fold}": _hmdb51(fold) for fold in (1, 2, 3)},
    "diving48": _diving48(),
}


@pytest.fixture(scope="session")
def trees() -> dict[str, Tree]:
    """Return tiny copies of the published data sets, by name."""
    return TREES


@pytest.fixture(scope="session")
def plant() -> Callable[..., Path]:
    """Write a Tree to a folder; its videos are empty files, or ten frames each if `real`."""

    def write(tree: Tree, root: Path, *, real: bool = False) -> Path:
        for name, text in tree.lists.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(text.encode())
        for name in {name for videos in tree.videos.values() for name in videos}:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if real:
                _write_noise_video(root / name)
            else:
                (root / name).touch()
        return root

    return write


_CODECS = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".mp4": "libx264"}


def _write_noise_video(path: Path) -> None:
    """Write ten frames of noise, as a video file or, without a suffix, as a folder of images."""
    generator = torch.Generator().manual_seed(len(path.name))
    frames: Tensor = torch.randint(256, (10, 48, 64, 3), dtype=torch.uint8, generator=generator)
    if path.suffix not in _CODECS:
        path.mkdir()
        for number, frame in enumerate(frames.numpy(), start=1):
            Image.fromarray(frame).save(path / f"{number:05d}.jpg")
        return
    with av.open(str(path), "w") as container:
        stream = container.add_stream(_CODECS[path.suffix], rate=12)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def changing_video(tmp_path: Path) -> Path:
    """Return a transport stream of ten frames of 48 x 64 pixels, then ten of 64 x 48."""
    from motionaware.data.video.writer import write_video

    content = b""
    for height, width in ((48, 64), (64, 48)):
        part = tmp_path / "part.mp4"
        write_video(part, torch.full((10, 3, height, width), 90, dtype=torch.uint8), fps=10)
        with av.open(part) as source, av.open(tmp_path / "part.ts", "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        content += (tmp_path / "part.ts").read_bytes()
    path = tmp_path / "changing.ts"
    path.write_bytes(content)
    return path
