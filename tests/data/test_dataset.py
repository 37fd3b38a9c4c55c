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
    SequentialBatchSampler,
    TrainingBatchSampler,
    balanced_order,
    iterate_batches,
    make_loader,
    smallest_batch_size,
)
from motionaware.data.motionpairs import MotionPairs, render_clip
from motionaware.data.transforms.crop_flip import cut, frame_for_testing, view_boxes
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
    """Three files, the second of which is not a video."""
    folder = tmp_path / "train" / "moving"
    for i in (0, 2):
        clip = render_clip(0, seed=i, num_frames=4, image_size=24)
        write_video(folder / f"{i}.mp4", clip, fps=8)
    (folder / "1.mp4").write_bytes(b"no video\n" * 100)
    return read_split("folder", tmp_path, "train")


def checked(sample: Sample | FailedSample) -> Sample:
    assert isinstance(sample, Sample)
    return sample


def load_all(
    dataset: ClipDataset, batches: Iterable[list[Request]], num_workers: int = 0
) -> list[Batch]:
    return list(iterate_batches(make_loader(dataset, batches, num_workers=num_workers)))


def are_equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.views, two.views)
        and torch.equal(one.labels, two.labels)
        and torch.equal(one.indices, two.indices)
        for one, two in zip(first, second, strict=True)
    )


# -------------------------------------------------------------------------------- clips of videos


def test_a_training_sample_is_one_view_of_image_size_pixels(split):
    sample = checked(VideoDataset(split, spec=SPEC)[Request(3, seed=5)])
    assert sample.views.shape == (1, 4, 3, 16, 16)
    assert sample.views.dtype == torch.uint8
    assert (sample.label, sample.index) == (split.examples[3].label, 3)


@pytest.mark.parametrize("crop", ["center", "random", "random_resized"])
def test_a_training_clip_is_a_function_of_its_request(split, crop):
    def views(seed: int) -> Tensor:
        dataset = VideoDataset(split, spec=SPEC, crop=crop, flip=True)
        dataset[Request(0, seed=99)]  # must not affect the next clip
        return checked(dataset[Request(2, seed=seed)]).views

    assert torch.equal(views(7), views(7))
    assert len({views(seed).numpy().tobytes() for seed in range(6)}) > 1


def test_the_global_random_generator_is_neither_used_nor_changed(split):
    state = torch.get_rng_state()
    VideoDataset(split, spec=SPEC, flip=True)[Request(2, seed=7)]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("sampling", ["segments", "dense"])
def test_test_views_are_stacked_along_the_first_axis(split, sampling):
    spec = ClipSpec(num_frames=4, image_size=16, sampling=sampling, frame_stride=2)
    views = checked(VideoDataset(split, spec=spec, num_views=3)[Request(1)]).views
    assert views.shape == (3, 4, 3, 16, 16)
    video = open_video(split.examples[1].path)
    for view in range(3):
        indices = choose_frames(video.num_frames, spec, view=view, num_views=3)
        assert torch.equal(views[view], frame_for_testing(video.frames(indices), spec=spec))


def test_a_single_test_view_has_the_middle_frames_of_the_segments(split):
    views = checked(VideoDataset(split, spec=SPEC)[Request(0)]).views
    frames = open_video(split.examples[0].path).frames(segment_indices(10, 4))
    assert torch.equal(views[0], frame_for_testing(frames, spec=SPEC))


def test_a_video_shorter_than_the_clip_repeats_frames(split):
    spec = ClipSpec(num_frames=32, image_size=16)
    views = checked(VideoDataset(split, spec=spec)[Request(0)]).views[0]
    assert views.shape[0] == 32
    assert len({frame.numpy().tobytes() for frame in views}) == 10


def test_a_video_is_opened_once(split, monkeypatch):
    dataset = VideoDataset(split, spec=SPEC)
    dataset[Request(0)]
    monkeypatch.setattr("motionaware.data.dataset.open_video", None)
    checked(dataset[Request(0, seed=1)])


def test_a_folder_of_frames_is_read_as_a_video(tmp_path):
    from PIL import Image

    folder = tmp_path / "train" / "moving" / "take"
    folder.mkdir(parents=True)
    clip = render_clip(0, seed=1, num_frames=4, image_size=16)
    for i, picture in enumerate(clip.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(folder / f"{i}.png")
    spec = ClipSpec(num_frames=4, image_size=16, crop_fraction=1.0)
    dataset = VideoDataset(read_split("folder", tmp_path, "train"), spec=spec)
    assert torch.equal(checked(dataset[Request(0)]).views[0], clip)


def test_frames_are_chosen_by_the_sampling_of_the_spec():
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


def test_motionpairs_clips_are_neither_cropped_nor_resized():
    clips = MotionPairs(split="val", num_clips=14, num_frames=4, image_size=16)
    dataset = MotionPairsDataset(clips)
    assert (len(dataset), dataset.class_names) == (14, clips.class_names)
    for seed in (None, 1):
        sample = dataset[Request(13, seed)]
        assert torch.equal(sample.views, clips[13][0][None])
        assert (sample.label, sample.index) == (1, 13)
    assert dataset.name(13) == "motionpairs/val/000013"


def test_a_data_set_remembers_a_limited_number_of_videos(split, monkeypatch):
    from motionaware.data import dataset as dataset_module

    monkeypatch.setattr(dataset_module, "_MAX_VIDEOS", 2)
    dataset = VideoDataset(split, spec=SPEC)
    for index in (0, 1, 2, 0):
        assert isinstance(dataset[Request(index)], Sample)
    assert list(dataset._videos) == [2, 0]


# ------------------------------------------------------------------------------ batch samplers


def sampler(
    epoch: int = 0, start: int = 0, seed: int = 0, batch_size: int = 4
) -> TrainingBatchSampler:
    sampler = TrainingBatchSampler(10, batch_size=batch_size, seed=seed)
    sampler.epoch, sampler.start = epoch, start
    return sampler


def test_every_example_comes_once_per_epoch():
    for batch_size in (1, 3, 4, 10, 64):
        batches = list(sampler(batch_size=batch_size))
        assert sorted(request.index for batch in batches for request in batch) == list(range(10))
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert len(batches) == len(sampler(batch_size=batch_size))


def test_order_and_seeds_are_a_function_of_seed_and_epoch():
    epochs = [list(sampler(epoch, seed=seed)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert epochs == [list(sampler(epoch, seed=seed)) for seed in (0, 1) for epoch in (0, 1, 2)]
    indices = [[request.index for batch in batches for request in batch] for batches in epochs]
    seeds = [request.seed for batches in epochs for batch in batches for request in batch]
    assert len({tuple(each) for each in indices}) == 6
    assert len(set(seeds)) == 60


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_can_start_at_any_batch(start):
    assert list(sampler(epoch=5, start=start)) == list(sampler(epoch=5))[start:]
    assert len(sampler(epoch=5, start=start)) == 3 - start


LABELS = [0] * 17 + [2] * 3 + [3] * 10


def balanced(*, epoch: int = 0, seed: int = 0, start: int = 0) -> list[list[Request]]:
    sampler = TrainingBatchSampler(len(LABELS), batch_size=4, seed=seed, labels=LABELS)
    sampler.epoch, sampler.start = epoch, start
    return list(sampler)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_balanced_sampling_draws_all_classes_that_occur_equally_often(epoch: int):
    indices = [request.index for batch in balanced(epoch=epoch) for request in batch]
    assert len(indices) == len(LABELS)
    assert Counter(LABELS[index] for index in indices) == {0: 10, 2: 10, 3: 10}
    times = Counter(indices)
    assert {times[index] for index in range(17)} == {0, 1}  # a subset of the large class
    assert {times[index] for index in (17, 18, 19)} == {3, 4}  # all of the small class, repeatedly
    assert {times[index] for index in range(20, 30)} == {1}


def test_counts_of_balanced_classes_differ_by_at_most_one():
    labels = torch.tensor([0] * 9 + [1, 2])
    order = balanced_order(labels, torch.Generator().manual_seed(0))
    assert sorted(labels[order].bincount().tolist()) == [3, 4, 4]


def test_balanced_sampling_is_a_function_of_seed_and_epoch_and_can_start_at_any_batch():
    assert balanced(epoch=3) == balanced(epoch=3)
    assert balanced(epoch=3) != balanced(epoch=4) != balanced(epoch=4, seed=1)
    for start in range(9):
        assert balanced(epoch=3, start=start) == balanced(epoch=3)[start:]
    seeds = [request.seed for batch in balanced() for request in batch]
    assert len(set(seeds)) == len(seeds)  # a repeated video gets another crop


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "sizes"),
    [(10, 3, [3, 3, 4]), (10, 4, [4, 4, 2]), (9, 3, [3, 3, 3]), (1, 3, [1]), (3, 1, [1, 1, 1])],
)
def test_merge_single_appends_a_last_batch_of_one_request(num_examples, batch_size, sizes):
    sampler = TrainingBatchSampler(num_examples, batch_size=batch_size, seed=0)
    unmerged = [request for batch in sampler for request in batch]
    sampler.merge_single = True
    batches = list(sampler)
    assert [len(batch) for batch in batches] == sizes
    assert len(sampler) == len(sizes)
    assert smallest_batch_size(sampler) == min(sizes)
    assert [request for batch in batches for request in batch] == unmerged
    for start in range(len(sizes) + 1):
        sampler.start = start
        assert list(sampler) == batches[start:]


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="batch_size = 0; a batch holds at least 1 clip"):
        TrainingBatchSampler(10, batch_size=0, seed=0)


def test_the_sequential_batch_sampler_keeps_the_order_of_the_data_set():
    assert len(SequentialBatchSampler(5, batch_size=2)) == 3
    assert list(SequentialBatchSampler(5, batch_size=2)) == [
        [Request(0), Request(1)],
        [Request(2), Request(3)],
        [Request(4)],
    ]


# -------------------------------------------------------------------------------------- the loader

few_processors = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def test_a_batch_stacks_its_samples(split):
    dataset = VideoDataset(split, spec=SPEC, num_views=2)
    batches = load_all(dataset, SequentialBatchSampler(6, batch_size=4))
    assert [batch.views.shape for batch in batches] == [(4, 2, 4, 3, 16, 16), (2, 2, 4, 3, 16, 16)]
    for batch in batches:
        for views, label, index in zip(
            batch.views, batch.labels.tolist(), batch.indices.tolist(), strict=True
        ):
            assert torch.equal(views, checked(dataset[Request(index)]).views)
            assert label == split.examples[index].label


@few_processors
def test_batches_do_not_depend_on_the_number_of_workers(split):
    def epochs(num_workers: int) -> list[Batch]:
        dataset = VideoDataset(split, spec=SPEC, flip=True)
        sampler = TrainingBatchSampler(6, batch_size=2, seed=3)
        loader = make_loader(dataset, sampler, num_workers=num_workers)
        batches = []
        for sampler.epoch, sampler.start in ((0, 0), (1, 0), (2, 1)):
            batches += iterate_batches(loader)
        return batches

    without_workers, with_workers = epochs(0), epochs(2)
    assert len(without_workers) == 3 + 3 + 2
    assert are_equal(without_workers, with_workers)


def test_each_epoch_has_different_clips_of_the_same_videos(split):
    dataset = VideoDataset(split, spec=SPEC)
    sampler = TrainingBatchSampler(6, batch_size=6, seed=3)
    clips = []
    for sampler.epoch in range(2):
        (batch,) = load_all(dataset, sampler)
        clips.append(batch.views[batch.indices.argsort()])
    assert not (clips[0] == clips[1]).flatten(1).all(1).any()


def check_that_the_broken_video_is_raised(broken: Split, num_workers: int) -> None:
    dataset = VideoDataset(broken, spec=SPEC)
    loader = make_loader(dataset, SequentialBatchSampler(3, batch_size=1), num_workers=num_workers)
    batches = iterate_batches(loader)
    assert next(batches).indices.tolist() == [0]
    with pytest.raises(VideoError, match=r"^\S*1\.mp4 does not open as a video[^\n]*$"):
        next(batches)
    assert list(batches) == []


@few_processors
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_video_is_raised_once_with_a_message_of_one_line(broken, num_workers):
    check_that_the_broken_video_is_raised(broken, num_workers)


@few_processors
def test_workers_end_as_soon_as_the_error_of_a_broken_video_is_handled(broken):
    gc.disable()  # else the collector may free the workers in an order that waits for each
    try:
        check_that_the_broken_video_is_raised(broken, num_workers=2)
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


def test_a_broken_video_replaces_its_whole_batch_by_an_error(broken):
    with pytest.raises(VideoError, match=r"1\.mp4 does not open as a video"):
        load_all(VideoDataset(broken, spec=SPEC), SequentialBatchSampler(3, batch_size=3))


def test_a_video_that_is_deleted_during_a_run_is_reported(broken):
    dataset = VideoDataset(broken, spec=SPEC)
    checked(dataset[Request(0)])
    broken.examples[0].path.unlink()
    assert "0.mp4 does not open as a video: No such file" in str(dataset[Request(0)])
    broken.examples[2].path.unlink()
    assert "2.mp4 does not exist" in str(dataset[Request(2)])


# ------------------------------------------------------------------------ mirroring with the label


@pytest.fixture(scope="module")
def sided(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """One video of each class: a left/right pair, a side without its partner, and no side."""
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
def test_a_mirrored_clip_has_the_label_of_the_mirrored_class(sided, flip, labels):
    spec = ClipSpec(num_frames=4, image_size=16, crop_fraction=1.0)
    dataset = VideoDataset(sided, spec=spec, crop="center", flip=flip)
    plain = VideoDataset(sided, spec=spec, crop="center")
    for index in range(4):
        original = checked(plain[Request(index, seed=0)]).views
        samples = [checked(dataset[Request(index, seed=seed)]) for seed in range(16)]
        assert {sample.label for sample in samples} == labels[index]
        for sample in samples:
            mirrored = torch.equal(sample.views, original.flip(-1))
            assert mirrored or torch.equal(sample.views, original)
            assert (sample.label != index) == (mirrored and index < 2)
        can_be_mirrored = (flip in ("swap", True) and index < 2) or (flip and index == 3)
        was_mirrored = any(torch.equal(one.views, original.flip(-1)) for one in samples)
        assert was_mirrored == bool(can_be_mirrored)


def test_test_views_are_never_mirrored(sided):
    spec = ClipSpec(num_frames=4, image_size=16)
    plain, flipped = (VideoDataset(sided, spec=spec, flip=flip) for flip in (False, "swap"))
    for index in range(4):
        expected, actual = checked(plain[Request(index)]), checked(flipped[Request(index)])
        assert torch.equal(actual.views, expected.views)
        assert actual.label == expected.label


def test_views_are_clips_times_crops(split):
    dataset = VideoDataset(split, spec=SPEC, num_views=2, num_crops=3)
    views = checked(dataset[Request(1)]).views
    assert views.shape == (6, 4, 3, 16, 16)
    for clip in range(2):
        video = open_video(split.examples[1].path)
        frames = video.frames(choose_frames(video.num_frames, SPEC, view=clip, num_views=2))
        boxes = view_boxes(video.height, video.width, crop_fraction=0.5, num_crops=3)
        for crop, box in enumerate(boxes):
            assert torch.equal(views[clip * 3 + crop], cut(frames, box, image_size=16))


# ------------------------------------------------------------------------------- mixed and skipped


def test_a_mixed_batch_does_not_depend_on_the_number_of_workers(split):
    dataset = VideoDataset(split, spec=SPEC)
    mixing = Mixing(num_classes=2, mixup_alpha=1.0)

    def batches(num_workers: int) -> list[Batch]:
        sampler = TrainingBatchSampler(6, batch_size=3, seed=1)
        loader = make_loader(dataset, sampler, num_workers=num_workers, mixing=mixing)
        return list(iterate_batches(loader))

    without_worker, with_worker = batches(0), batches(1)
    assert are_equal(without_worker, with_worker)
    for one, two in zip(without_worker, with_worker, strict=True):
        assert torch.equal(one.targets, two.targets)
    assert without_worker[0].targets.shape == (3, 2)


def test_unmixed_targets_are_the_labels(split):
    (batch,) = load_all(
        VideoDataset(split, spec=SPEC), TrainingBatchSampler(6, batch_size=6, seed=1)
    )
    assert torch.equal(batch.targets, batch.labels)


@few_processors
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_skipped_video_is_listed_and_not_replaced(broken, num_workers):
    dataset = VideoDataset(broken, spec=SPEC)
    loader = make_loader(
        dataset, SequentialBatchSampler(3, batch_size=2), num_workers=num_workers, skip=True
    )
    first, second = iterate_batches(loader)
    assert (first.indices.tolist(), second.indices.tolist()) == ([0], [2])
    assert [one.index for one in first.skipped] == [1]
    assert "1.mp4 does not open as a video" in str(first.skipped[0].error)


def test_a_batch_is_empty_if_all_its_videos_are_skipped(broken):
    loader = make_loader(
        VideoDataset(broken, spec=SPEC),
        SequentialBatchSampler(3, batch_size=1),
        num_workers=0,
        skip=True,
    )
    assert [len(batch.labels) for batch in iterate_batches(loader)] == [1, 0, 1]


def test_mirrored_motionpairs_have_the_label_of_the_mirrored_class():
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
