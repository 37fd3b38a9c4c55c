import pytest
import torch
from torch import Tensor

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import MotionPairsDataset, VideoDataset, choose_frames
from motionaware.data.loader import (
    FailedSample,
    Request,
    Sample,
)
from motionaware.data.motionpairs import MotionPairs, render_clip
from motionaware.data.transforms.crop_flip import crop_and_resize, crop_boxes, crop_for_testing
from motionaware.data.transforms.frame_sampling import dense_indices, segment_indices
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video

SPEC = ClipSpec(num_frames=4, image_size=16)


def checked(sample: Sample | FailedSample) -> Sample:
    assert isinstance(sample, Sample)
    return sample


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
        assert torch.equal(views[view], crop_for_testing(video.frames(indices), spec=spec))


def test_a_single_test_view_has_the_middle_frames_of_the_segments(split):
    views = checked(VideoDataset(split, spec=SPEC)[Request(0)]).views
    frames = open_video(split.examples[0].path).frames(segment_indices(10, 4))
    assert torch.equal(views[0], crop_for_testing(frames, spec=SPEC))


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
        boxes = crop_boxes(video.height, video.width, crop_fraction=0.5, num_crops=3)
        for crop, box in enumerate(boxes):
            assert torch.equal(views[clip * 3 + crop], crop_and_resize(frames, box, image_size=16))


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
