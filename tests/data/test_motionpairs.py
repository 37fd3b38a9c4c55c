import errno
import math
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from motionaware.data.motionpairs import CLASS_NAMES, SPLITS, MotionPairs, partner, render_clip

LABELS = range(len(CLASS_NAMES))


def pairs(**changes: Any) -> MotionPairs:
    options: dict[str, Any] = {"split": "val", "num_clips": 24, "num_frames": 4, "image_size": 16}
    return MotionPairs(**options | changes)


def clips_of(data: MotionPairs) -> Tensor:
    return torch.stack([data[i][0] for i in range(len(data))])


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(("num_frames", "image_size"), [(2, 16), (8, 64), (5, 33)])
def test_a_clip_played_backwards_is_its_partners_clip(label, num_frames, image_size):
    for seed in (0, (7, 1, 3)):
        clip, reverse = (
            render_clip(each, seed=seed, num_frames=num_frames, image_size=image_size)
            for each in (label, partner(label))
        )
        assert torch.equal(clip.flip(0), reverse)


def test_partners_are_neighbours_and_each_others():
    assert [partner(label) for label in LABELS] == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]
    assert len(set(CLASS_NAMES)) == 12


# Features that do not depend on the order of frames; integers, so sums are exact.
ORDER_INVARIANT = {
    "the sum of frames": lambda clips: clips.sum(1),
    "the maximum over time": lambda clips: clips.amax(1),
    "pixels sorted over time": lambda clips: clips.sort(1).values,
    "the amount of change": lambda clips: clips.diff(dim=1).abs().sum(1),
    "products of frames": lambda clips: clips[:, 1] * clips[:, 2] + clips[:, 0] * clips[:, 3],
}


@pytest.mark.parametrize("feature", ORDER_INVARIANT)
def test_features_that_ignore_the_order_of_frames_reach_at_most_half(feature):
    data = pairs(num_clips=240)
    features = ORDER_INVARIANT[feature](clips_of(data).long()).flatten(1)
    labels = torch.arange(len(data)) % 12
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randint(-9, 10, (features.shape[1], 12), generator=generator)
        accuracy = ((features @ weights).argmax(1) == labels).double().mean()
        assert accuracy <= 0.5
    # Even the best answer to each feature vector, chosen by the labels, is right for one half.
    votes: dict[bytes, Counter[int]] = {}
    for row, label in zip(features, labels.tolist(), strict=True):
        votes.setdefault(row.numpy().tobytes(), Counter())[label] += 1
    assert sum(max(counts.values()) for counts in votes.values()) == len(data) / 2


def shape_weight(clip: Tensor) -> Tensor:
    """Return 1 at pixels of a shape, far from the median colour, and 0 elsewhere: `t h w`."""
    pixels = clip.double()
    background = pixels.permute(1, 0, 2, 3).flatten(1).median(1).values
    return ((pixels - background[:, None, None]).abs().amin(1) > 45).double()


def moments(weight: Tensor) -> dict[str, Tensor]:
    """Return area, centre, spread and orientation of the shape, each over time."""
    y, x = torch.meshgrid(*(torch.arange(side) for side in weight.shape[1:]), indexing="ij")
    area = weight.sum((1, 2)) + 1e-9
    mean = lambda values: (weight * values).sum((1, 2)) / area  # noqa: E731
    xx = mean(x * x) - mean(x) ** 2
    yy = mean(y * y) - mean(y) ** 2
    xy = mean(x * y) - mean(x) * mean(y)
    orientation = 0.5 * torch.atan2(2 * xy, xx - yy)  # modulo half a turn
    return {"area": area, "x": mean(x), "y": mean(y), "spread": xx + yy, "orientation": orientation}


# Class, quantity, and sign of its change over the clip.
CHANGES = [
    ("moving left", "x", -1),
    ("moving up", "y", -1),
    ("approaching", "area", 1),
    ("turning clockwise", "orientation", 1),  # the y axis points down
    ("appearing", "area", 1),
    ("meeting", "spread", -1),
]


@pytest.mark.parametrize(("name", "quantity", "sign"), CHANGES)
def test_the_shape_moves_as_the_class_name_says(name, quantity, sign):
    num_correct = 0
    for seed in range(30):
        clip = render_clip(CLASS_NAMES.index(name), seed=seed, num_frames=8, image_size=48)
        steps = moments(shape_weight(clip))[quantity].diff()
        if quantity == "orientation":
            steps = (steps + math.pi / 2) % math.pi - math.pi / 2
        num_correct += bool(steps.sum() * sign > 0)
    assert num_correct >= 27


@pytest.mark.parametrize(
    ("name", "quantity"), [("moving left", "x"), ("moving up", "y"), ("approaching", "area")]
)
def test_the_first_frame_says_little_about_the_direction(name, quantity):
    ends = []
    for seed in range(150):
        clip = render_clip(CLASS_NAMES.index(name), seed=seed, num_frames=2, image_size=32)
        ends.append(moments(shape_weight(clip))[quantity])
    first, last = torch.stack(ends).T  # the first frames of the class and of its partner
    thresholds = torch.cat([first, last])[:, None]
    accuracy = ((first > thresholds).double().mean(1) + (last <= thresholds).double().mean(1)) / 2
    assert torch.maximum(accuracy, 1 - accuracy).max() < 0.85


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("num_frames", [2, 3, 16])
def test_every_frame_differs_from_the_previous_one(label, num_frames):
    clip = render_clip(label, seed=4, num_frames=num_frames, image_size=40)
    assert clip.shape == (num_frames, 3, 40, 40)
    assert clip.int().diff(dim=0).abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("label", LABELS)
def test_a_clip_looks_the_same_at_twice_the_size(label):
    small, large = (
        render_clip(label, seed=2, num_frames=4, image_size=size).float() for size in (48, 96)
    )
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert (shrunk - small).abs().mean() < 4


@pytest.mark.parametrize("image_size", [16, 17, 31, 97])
def test_any_size_from_16_pixels_can_be_drawn(image_size):
    for seed in range(20):
        clip = render_clip(seed % 12, seed=seed, num_frames=3, image_size=image_size)
        assert clip.shape == (3, 3, image_size, image_size)
        assert clip.float().std() > 5


def test_global_random_generators_do_not_affect_a_clip():
    expected = render_clip(5, seed=(1, 2), num_frames=4, image_size=24)
    np.random.default_rng().random()
    torch.rand(3)
    render_clip(2, seed=9, num_frames=4, image_size=24)
    assert torch.equal(expected, render_clip(5, seed=(1, 2), num_frames=4, image_size=24))


def test_clips_do_not_depend_on_the_order_of_access():
    backwards = [pairs()[i][0] for i in reversed(range(24))]
    assert torch.equal(clips_of(pairs()), torch.stack(backwards[::-1]))


def test_clips_differ_between_groups_of_twelve_splits_and_seeds():
    drawn = [clips_of(pairs(split=split, seed=seed)) for split in SPLITS for seed in (0, 1)]
    assert len({clip.numpy().tobytes() for clips in drawn for clip in clips}) == 3 * 2 * 24


def test_seeds_with_trailing_zeros_differ():
    clips = [
        render_clip(0, seed=seed, num_frames=2, image_size=16) for seed in (1, (1, 0), (1, 0, 0))
    ]
    assert len({clip.numpy().tobytes() for clip in clips}) == 3


def test_labels_repeat_in_order():
    data = pairs(num_clips=36)
    assert [data[i][1] for i in range(len(data))] == [*LABELS] * 3
    assert data.class_names == CLASS_NAMES


def test_partners_of_twelve_consecutive_clips_are_reversals_of_each_other():
    clips = clips_of(pairs())
    assert torch.equal(clips[0::2].flip(1), clips[1::2])


def test_an_index_beyond_the_last_example_raises_index_error():
    data = pairs()
    assert torch.equal(data[-1][0], data[23][0])
    with pytest.raises(IndexError):
        data[24]


def test_cached_clips_are_those_drawn_without_a_cache(tmp_path):
    assert torch.equal(clips_of(pairs(cache_dir=tmp_path / "new")), clips_of(pairs()))


def test_the_cache_is_written_once_and_read_again(tmp_path, monkeypatch):
    first = clips_of(pairs(cache_dir=tmp_path))
    monkeypatch.setattr(MotionPairs, "_write", None)
    assert torch.equal(first, clips_of(pairs(cache_dir=tmp_path)))


def test_each_set_of_parameters_has_its_own_cache_file(tmp_path):
    changes = ({}, {"split": "test"}, {"num_clips": 12}, {"num_frames": 3}, {"image_size": 20})
    for change in (*changes, {"seed": 1}):
        assert torch.equal(clips_of(pairs(cache_dir=tmp_path, **change)), clips_of(pairs(**change)))
    assert len(list(tmp_path.iterdir())) == 6


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def other_contents(file: Path) -> None:
    file.write_bytes(b"not an array at all, but long enough to be one")


def other_shape(file: Path) -> None:
    np.save(file, np.zeros((24, 4, 3, 16, 8), np.uint8))


def other_type(file: Path) -> None:
    np.save(file, np.zeros((24, 4, 3, 16, 16), np.float32))


def other_drawing(file: Path) -> None:
    np.save(file, np.zeros((24, 4, 3, 16, 16), np.uint8))


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (cut_short, "length"),
        (cut_in_the_header, "header"),
        (empty, "No data"),
        (other_contents, "pickled"),
        (other_shape, r"\(24, 4, 3, 16, 8\), wanted: uint8 \(24, 4, 3, 16, 16\)"),
        (other_type, "holds float32"),
        (other_drawing, "last clip differs"),
    ],
)
def test_an_invalid_cache_file_is_drawn_again_with_a_warning_that_gives_the_cause(
    tmp_path, damage, cause
):
    pairs(cache_dir=tmp_path)
    damage(only_file(tmp_path))
    with pytest.warns(UserWarning, match=f"drawn again: .*{cause}"):
        data = pairs(cache_dir=tmp_path)
    assert torch.equal(clips_of(data), clips_of(pairs()))
    only_file(tmp_path)


def test_a_full_disk_is_one_clear_error_and_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(OSError, match=r"cannot write .* MB of clips \(No space left.*make room"):
        pairs(cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_processes_that_write_the_cache_at_once_leave_one_complete_file(tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from motionaware.data.motionpairs import MotionPairs;"
        "MotionPairs(split='val', num_clips=24, num_frames=4, image_size=16,"
        " cache_dir=Path(sys.argv[1]))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    clips = np.load(only_file(tmp_path))
    assert torch.equal(torch.from_numpy(clips), clips_of(pairs()))


def test_a_pickled_data_set_does_not_contain_the_cached_clips(tmp_path):
    data = pairs(cache_dir=tmp_path)
    data[0]
    pickled = pickle.dumps(data)
    assert len(pickled) < 2000
    assert torch.equal(clips_of(pickle.loads(pickled)), clips_of(data))


def test_changing_a_clip_does_not_change_the_cache(tmp_path):
    data = pairs(cache_dir=tmp_path)
    data[0][0].zero_()
    assert torch.equal(clips_of(data), clips_of(pairs()))


def test_a_dataloader_collates_the_clips(tmp_path):
    loader = DataLoader(pairs(cache_dir=tmp_path), batch_size=12)
    clips, labels = next(iter(loader))
    assert clips.shape == (12, 4, 3, 16, 16)
    assert labels.tolist() == [*LABELS]


def test_drawing_prints_nothing_unless_progress_is_true(tmp_path, capsys):
    pairs(cache_dir=tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    pairs(cache_dir=tmp_path / "shown", progress=True)
    assert "drawing val" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "valid"}, "split = 'valid' is not a split; take one of train, val, test"),
        ({"num_clips": 0}, "num_clips = 0 is too few"),
        ({"num_frames": 1}, "num_frames = 1 shows no motion; take at least 2"),
        ({"image_size": 15}, "image_size = 15 is too small"),
        ({"seed": -1}, r"seed \(-1,\) is out of range"),
    ],
)
def test_an_argument_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        pairs(**changes)


@pytest.mark.parametrize("label", [-1, 12])
def test_a_label_without_a_class_is_refused(label):
    with pytest.raises(ValueError, match=f"label = {label} is not a class; labels are 0 to 11"):
        partner(label)
    with pytest.raises(ValueError, match="is not a class"):
        render_clip(label, seed=0, num_frames=2, image_size=16)
