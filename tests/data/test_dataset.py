import gc
import multiprocessing
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import MotionPairsDataset, VideoDataset, choose_frames
from motionaware.data.loader import (
    Batch,
    ClipDataset,
    FailedSample,
    Request,
    Sample,
    TrainingBatchSampler,
    balanced_order,
    batches_of,
    in_order,
    make_loader,
    smallest_batch,
)
from motionaware.data.motionpairs import MotionPairs, render_clip
from motionaware.data.transforms.crop_flip import crop_and_resize, crop_boxes, crop_for_testing
from motionaware.data.transforms.frame_sampling import dense_indices, segment_indices
from motionaware.data.transforms.mixup import Mixing
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video
from motionaware.errors import VideoError

SPEC = ClipSpec(num_frames=4, image_size=16)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Six short videos of two classes and two sizes."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(6):
        clip = render_clip(i % 2, seed=i, num_frames=10 + i, image_size=24 + 8 * (i % 2))
        write_video(root / "train" / f"class{i % 2}" / f"{i}.mp4", clip, fps=8)
    return read_split("folder", root, "train")


@pytest.fixture
def broken(tmp_path: Path) -> Split:
    """Three videos, the second of which is none."""
    folder = tmp_path / "train" / "moving"
    for i in (0, 2):
        clip = render_clip(0, seed=i, num_frames=4, image_size=24)
        write_video(folder / f"{i}.mp4", clip, fps=8)
    (folder / "1.mp4").write_bytes(b"no video\n" * 100)
    return read_split("folder", tmp_path, "train")


def made(sample: Sample | FailedSample) -> Sample:
    assert isinstance(sample, Sample)
    return sample


def taken(
    dataset: ClipDataset, batches: Iterable[list[Request]], num_workers: int = 0
) -> list[Batch]:
    return list(batches_of(make_loader(dataset, batches, num_workers=num_workers)))


def same(ones: list[Batch], others: list[Batch]) -> bool:
    return len(ones) == len(others) and all(
        torch.equal(one.views, other.views)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.indices, other.indices)
        for one, other in zip(ones, others, strict=True)
    )


# -------------------------------------------------------------------------------- clips of videos


def test_a_training_clip_is_one_view_of_the_size_of_the_model(split):
    sample = made(VideoDataset(split, spec=SPEC)[Request(3, seed=5)])
    assert sample.views.shape == (1, 4, 3, 16, 16)
    assert sample.views.dtype == torch.uint8
    assert (sample.label, sample.index) == (split.examples[3].label, 3)


@pytest.mark.parametrize("crop", ["center", "random", "random_resized"])
def test_a_training_clip_follows_from_its_request(split, crop):
    def views(seed: int) -> Tensor:
        dataset = VideoDataset(split, spec=SPEC, crop=crop, flip=True)
        dataset[Request(0, seed=99)]  # what was made before has no part
        return made(dataset[Request(2, seed=seed)]).views

    assert torch.equal(views(7), views(7))
    assert len({views(seed).numpy().tobytes() for seed in range(6)}) > 1


def test_neither_the_global_generator_nor_its_state_has_a_part(split):
    state = torch.get_rng_state()
    VideoDataset(split, spec=SPEC, flip=True)[Request(2, seed=7)]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_the_test_views_lie_on_an_axis_of_their_own(split, sampling):
    spec = ClipSpec(num_frames=4, image_size=16, sampling=sampling, frame_stride=2)
    views = made(VideoDataset(split, spec=spec, num_views=3)[Request(1)]).views
    assert views.shape == (3, 4, 3, 16, 16)
    video = open_video(split.examples[1].path)
    for view in range(3):
        indices = choose_frames(video.num_frames, spec, view=view, num_views=3)
        assert torch.equal(views[view], crop_for_testing(video.frames(indices), spec=spec))


def test_a_single_test_view_shows_the_middles_of_the_segments(split):
    views = made(VideoDataset(split, spec=SPEC)[Request(0)]).views
    frames = open_video(split.examples[0].path).frames(segment_indices(10, 4))
    assert torch.equal(views[0], crop_for_testing(frames, spec=SPEC))


def test_a_video_shorter_than_the_clip_repeats_frames(split):
    spec = ClipSpec(num_frames=32, image_size=16)
    views = made(VideoDataset(split, spec=spec)[Request(0)]).views[0]
    assert views.shape[0] == 32
    assert len({frame.numpy().tobytes() for frame in views}) == 10


def test_a_video_is_opened_once(split, monkeypatch):
    dataset = VideoDataset(split, spec=SPEC)
    dataset[Request(0)]
    monkeypatch.setattr("motionaware.data.dataset.open_video", None)
    made(dataset[Request(0, seed=1)])


def test_a_frame_folder_is_a_video_like_any_other(tmp_path):
    from PIL import Image

    folder = tmp_path / "train" / "moving" / "take"
    folder.mkdir(parents=True)
    clip = render_clip(0, seed=1, num_frames=4, image_size=16)
    for i, picture in enumerate(clip.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(folder / f"{i}.png")
    spec = ClipSpec(num_frames=4, image_size=16, crop_fraction=1.0)
    dataset = VideoDataset(read_split("folder", tmp_path, "train"), spec=spec)
    assert torch.equal(made(dataset[Request(0)]).views[0], clip)


def test_frames_are_chosen_as_the_spec_says():
    generators = [torch.Generator().manual_seed(1) for _ in range(4)]
    dense = ClipSpec(num_frames=4, sampling="dense", frame_stride=3)
    assert choose_frames(50, SPEC) == segment_indices(50, 4)
    assert choose_frames(50, dense) == dense_indices(50, 4, frame_stride=3)
    assert choose_frames(50, SPEC, generator=generators[0]) == segment_indices(
        50, 4, generator=generators[1]
    )
    assert choose_frames(50, dense, generator=generators[2]) == dense_indices(
        50, 4, frame_stride=3, generator=generators[3]
    )


def test_an_example_is_named_by_its_path(split):
    assert VideoDataset(split, spec=SPEC).name(1) == str(split.examples[1].path)


# ------------------------------------------------------------------------------------- MotionPairs


def test_motionpairs_are_taken_as_they_are():
    clips = MotionPairs(split="val", num_clips=14, num_frames=4, image_size=16)
    dataset = MotionPairsDataset(clips)
    assert (len(dataset), dataset.class_names) == (14, clips.class_names)
    for seed in (None, 1):
        sample = dataset[Request(13, seed)]
        assert torch.equal(sample.views, clips[13][0][None])
        assert (sample.label, sample.index) == (1, 13)
    assert dataset.name(13) == "motionpairs/val/000013"


def test_a_data_set_remembers_no_more_videos_than_its_bound(split, monkeypatch):
    from motionaware.data import dataset as dataset_module

    monkeypatch.setattr(dataset_module, "_MAX_OPENED", 2)
    dataset = VideoDataset(split, spec=SPEC)
    for index in (0, 1, 2, 0):
        assert isinstance(dataset[Request(index)], Sample)
    assert list(dataset._opened) == [2, 0]


# -------------------------------------------------------------------------------- order and chance


def order(
    epoch: int = 0, start: int = 0, seed: int = 0, batch_size: int = 4
) -> TrainingBatchSampler:
    order = TrainingBatchSampler(10, batch_size=batch_size, seed=seed)
    order.epoch, order.start = epoch, start
    return order


def test_every_example_comes_once_an_epoch():
    for batch_size in (1, 3, 4, 10, 64):
        batches = list(order(batch_size=batch_size))
        assert sorted(request.index for batch in batches for request in batch) == list(range(10))
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert len(batches) == len(order(batch_size=batch_size))


def test_order_and_chance_follow_from_seed_and_epoch():
    drawn = [list(order(epoch, seed=seed)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert drawn == [list(order(epoch, seed=seed)) for seed in (0, 1) for epoch in (0, 1, 2)]
    indices = [[request.index for batch in batches for request in batch] for batches in drawn]
    seeds = [request.seed for batches in drawn for batch in batches for request in batch]
    assert len({tuple(each) for each in indices}) == 6
    assert len(set(seeds)) == 60


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_start_within_the_epoch_goes_on_exactly(start):
    assert list(order(epoch=5, start=start)) == list(order(epoch=5))[start:]
    assert len(order(epoch=5, start=start)) == 3 - start


LABELS = [0] * 17 + [2] * 3 + [3] * 10


def balanced(*, epoch: int = 0, seed: int = 0, start: int = 0) -> list[list[Request]]:
    made = TrainingBatchSampler(len(LABELS), batch_size=4, seed=seed, labels=LABELS)
    made.epoch, made.start = epoch, start
    return list(made)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_balanced_sampling_draws_every_class_that_occurs_equally_often(epoch: int):
    indices = [request.index for batch in balanced(epoch=epoch) for request in batch]
    assert len(indices) == len(LABELS)
    assert Counter(LABELS[index] for index in indices) == {0: 10, 2: 10, 3: 10}
    times = Counter(indices)
    assert {times[index] for index in range(17)} == {0, 1}  # a part of the large class
    assert {times[index] for index in (17, 18, 19)} == {3, 4}  # all of the small one
    assert {times[index] for index in range(20, 30)} == {1}


def test_counts_of_balanced_classes_differ_by_one_where_they_cannot_be_equal():
    labels = torch.tensor([0] * 9 + [1, 2])
    order = balanced_order(labels, torch.Generator().manual_seed(0))
    assert sorted(labels[order].bincount().tolist()) == [3, 4, 4]


def test_balanced_sampling_is_a_function_of_seed_and_epoch_and_goes_on_at_any_batch():
    assert balanced(epoch=3) == balanced(epoch=3)
    assert balanced(epoch=3) != balanced(epoch=4) != balanced(epoch=4, seed=1)
    for start in range(9):
        assert balanced(epoch=3, start=start) == balanced(epoch=3)[start:]
    seeds = [request.seed for batch in balanced() for request in batch]
    assert len(set(seeds)) == len(seeds)  # a video that repeats is cropped in another way


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "sizes"),
    [(10, 3, [3, 3, 4]), (10, 4, [4, 4, 2]), (9, 3, [3, 3, 3]), (1, 3, [1]), (3, 1, [1, 1, 1])],
)
def test_a_last_batch_of_one_is_appended_on_request(num_examples, batch_size, sizes):
    made = TrainingBatchSampler(num_examples, batch_size=batch_size, seed=0)
    apart = [request for batch in made for request in batch]
    made.merge_single = True
    batches = list(made)
    assert [len(batch) for batch in batches] == sizes
    assert len(made) == len(sizes)
    assert smallest_batch(made) == min(sizes)
    assert [request for batch in batches for request in batch] == apart
    for start in range(len(sizes) + 1):
        made.start = start
        assert list(made) == batches[start:]


def test_a_batch_without_clips_is_refused():
    with pytest.raises(ValueError, match="batch_size = 0; a batch holds at least 1 clip"):
        TrainingBatchSampler(10, batch_size=0, seed=0)


def test_testing_goes_in_order():
    assert len(in_order(5, batch_size=2)) == 3
    assert list(in_order(5, batch_size=2)) == [
        [Request(0), Request(1)],
        [Request(2), Request(3)],
        [Request(4)],
    ]


# -------------------------------------------------------------------------------------- the loader

few_processors = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def test_a_batch_is_its_samples_in_company(split):
    dataset = VideoDataset(split, spec=SPEC, num_views=2)
    batches = taken(dataset, in_order(6, batch_size=4))
    assert [batch.views.shape for batch in batches] == [(4, 2, 4, 3, 16, 16), (2, 2, 4, 3, 16, 16)]
    for batch in batches:
        for views, label, index in zip(
            batch.views, batch.labels.tolist(), batch.indices.tolist(), strict=True
        ):
            assert torch.equal(views, made(dataset[Request(index)]).views)
            assert label == split.examples[index].label


@few_processors
def test_workers_change_nothing(split):
    def epochs(num_workers: int) -> list[Batch]:
        dataset = VideoDataset(split, spec=SPEC, flip=True)
        order = TrainingBatchSampler(6, batch_size=2, seed=3)
        loader = make_loader(dataset, order, num_workers=num_workers)
        batches = []
        for order.epoch, order.start in ((0, 0), (1, 0), (2, 1)):
            batches += batches_of(loader)
        return batches

    alone, helped = epochs(0), epochs(2)
    assert len(alone) == 3 + 3 + 2
    assert same(alone, helped)


def test_epochs_show_other_clips_of_the_same_videos(split):
    dataset = VideoDataset(split, spec=SPEC)
    order = TrainingBatchSampler(6, batch_size=6, seed=3)
    clips = []
    for order.epoch in range(2):
        (batch,) = taken(dataset, order)
        clips.append(batch.views[batch.indices.argsort()])
    assert not (clips[0] == clips[1]).flatten(1).all(1).any()


def meet_the_broken_one(broken: Split, num_workers: int) -> None:
    dataset = VideoDataset(broken, spec=SPEC)
    loader = make_loader(dataset, in_order(3, batch_size=1), num_workers=num_workers)
    batches = batches_of(loader)
    assert next(batches).indices.tolist() == [0]
    with pytest.raises(VideoError, match=r"^\S*1\.mp4 does not open as a video[^\n]*$"):
        next(batches)
    assert list(batches) == []


@few_processors
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_video_is_raised_once_and_in_one_line(broken, num_workers):
    meet_the_broken_one(broken, num_workers)


@few_processors
def test_workers_end_as_soon_as_a_broken_video_has_been_dealt_with(broken):
    gc.disable()  # it would free them in the wrong order, and wait for each
    try:
        meet_the_broken_one(broken, num_workers=2)
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


def test_a_broken_video_spoils_its_whole_batch(broken):
    with pytest.raises(VideoError, match=r"1\.mp4 does not open as a video"):
        taken(VideoDataset(broken, spec=SPEC), in_order(3, batch_size=3))


def test_a_video_that_goes_away_is_missed(broken):
    dataset = VideoDataset(broken, spec=SPEC)
    made(dataset[Request(0)])
    broken.examples[0].path.unlink()
    assert "0.mp4 does not open as a video: No such file" in str(dataset[Request(0)])
    broken.examples[2].path.unlink()
    assert "2.mp4 does not exist" in str(dataset[Request(2)])


# ------------------------------------------------------------------------ mirroring with the label


@pytest.fixture(scope="module")
def sided(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """A video of each: two sides, one that has no partner, one that names none."""
    root = tmp_path_factory.mktemp("sided")
    for name in ("swiping left", "swiping right", "turning left", "upright"):
        clip = render_clip(0, seed=1, num_frames=4, image_size=16)
        write_video(root / "train" / name / "a.mp4", clip, fps=8)
    return read_split("folder", root, "train")


@pytest.mark.parametrize(
    ("flip", "labels"),
    [
        (False, [{0}, {1}, {2}, {3}]),
        ("skip", [{0}, {1}, {2}, {3}]),
        ("swap", [{0, 1}, {0, 1}, {2}, {3}]),
        (True, [{0, 1}, {0, 1}, {2}, {3}]),
    ],
)
def test_the_label_goes_with_the_mirrored_clip(sided, flip, labels):
    spec = ClipSpec(num_frames=4, image_size=16, crop_fraction=1.0)
    dataset = VideoDataset(sided, spec=spec, crop="center", flip=flip)
    plain = VideoDataset(sided, spec=spec, crop="center")
    for index in range(4):
        original = made(plain[Request(index, seed=0)]).views
        samples = [made(dataset[Request(index, seed=seed)]) for seed in range(16)]
        assert {sample.label for sample in samples} == labels[index]
        for sample in samples:
            mirrored = torch.equal(sample.views, original.flip(-1))
            assert mirrored or torch.equal(sample.views, original)
            assert (sample.label != index) == (mirrored and index < 2)
        may = (flip in ("swap", True) and index < 2) or (flip and index == 3)
        assert bool(may) == any(torch.equal(one.views, original.flip(-1)) for one in samples)


def test_test_views_are_never_mirrored(sided):
    spec = ClipSpec(num_frames=4, image_size=16)
    plain, flipped = (VideoDataset(sided, spec=spec, flip=flip) for flip in (False, "swap"))
    for index in range(4):
        one, other = made(plain[Request(index)]), made(flipped[Request(index)])
        assert torch.equal(one.views, other.views)
        assert one.label == other.label


def test_views_are_clips_times_crops(split):
    dataset = VideoDataset(split, spec=SPEC, num_views=2, num_crops=3)
    views = made(dataset[Request(1)]).views
    assert views.shape == (6, 4, 3, 16, 16)
    for clip in range(2):
        video = open_video(split.examples[1].path)
        frames = video.frames(choose_frames(video.num_frames, SPEC, view=clip, num_views=2))
        boxes = crop_boxes(video.height, video.width, crop_fraction=0.5, num_crops=3)
        for crop, box in enumerate(boxes):
            assert torch.equal(views[clip * 3 + crop], crop_and_resize(frames, box, image_size=16))


# ------------------------------------------------------------------------------- mixed and skipped


def test_a_mixed_batch_does_not_depend_on_the_worker_that_makes_it(split):
    dataset = VideoDataset(split, spec=SPEC)
    mixing = Mixing(num_classes=2, mixup_alpha=1.0)

    def batches(num_workers: int) -> list[Batch]:
        order = TrainingBatchSampler(6, batch_size=3, seed=1)
        loader = make_loader(dataset, order, num_workers=num_workers, mixing=mixing)
        return list(batches_of(loader))

    alone, helped = batches(0), batches(1)
    assert same(alone, helped)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(alone, helped, strict=True))
    assert alone[0].targets.shape == (3, 2)


def test_unmixed_targets_are_the_labels(split):
    (batch,) = taken(VideoDataset(split, spec=SPEC), TrainingBatchSampler(6, batch_size=6, seed=1))
    assert torch.equal(batch.targets, batch.labels)


@few_processors
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_skipped_video_is_named_and_no_other_takes_its_place(broken, num_workers):
    dataset = VideoDataset(broken, spec=SPEC)
    loader = make_loader(dataset, in_order(3, batch_size=2), num_workers=num_workers, skip=True)
    first, second = batches_of(loader)
    assert (first.indices.tolist(), second.indices.tolist()) == ([0], [2])
    assert [one.index for one in first.skipped] == [1]
    assert "1.mp4 does not open as a video" in str(first.skipped[0].error)


def test_a_batch_may_come_empty(broken):
    loader = make_loader(
        VideoDataset(broken, spec=SPEC), in_order(3, batch_size=1), num_workers=0, skip=True
    )
    assert [len(batch.labels) for batch in batches_of(loader)] == [1, 0, 1]


def test_motionpairs_are_mirrored_with_their_labels():
    clips = MotionPairs(split="train", num_clips=12, num_frames=4, image_size=16, seed=0)
    dataset = MotionPairsDataset(clips, flip="swap")
    left, right = (clips.class_names.index(f"moving {side}") for side in ("left", "right"))
    for seed in range(8):
        sample = dataset[Request(left, seed=seed)]
        original = clips[left][0]
        mirrored = torch.equal(sample.views[0], original.flip(-1))
        assert mirrored or torch.equal(sample.views[0], original)
        assert sample.label == (right if mirrored else left)
    assert dataset[Request(left)].label == left
