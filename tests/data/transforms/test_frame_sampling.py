from itertools import pairwise

import pytest
import torch

from motionaware.data.transforms.frame_sampling import dense_indices, segment_indices


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LENGTHS = [1, 2, 7, 8, 9, 60, 1001]


@pytest.mark.parametrize("num_video_frames", LENGTHS)
@pytest.mark.parametrize("num_views", [1, 3])
def test_indices_are_sorted_and_inside_the_video(num_video_frames, num_views):
    for view in range(num_views):
        for generator in (None, seeded()):
            options = {"generator": generator, "view": view, "num_views": num_views}
            for indices in (
                segment_indices(num_video_frames, 8, **options),
                dense_indices(num_video_frames, 8, frame_stride=4, **options),
            ):
                assert len(indices) == 8
                assert indices == sorted(indices)
                assert indices[0] >= 0
                assert indices[-1] < num_video_frames


@pytest.mark.parametrize("num_video_frames", LENGTHS)
def test_a_random_frame_is_inside_its_segment(num_video_frames):
    generator = seeded()
    for _ in range(50):
        for i, index in enumerate(segment_indices(num_video_frames, 8, generator=generator)):
            assert i * num_video_frames // 8 <= index <= (i + 1) * num_video_frames / 8


@pytest.mark.parametrize("num_video_frames", [3, 13, 20])
def test_every_frame_can_be_drawn_including_the_last(num_video_frames):
    generator = seeded()
    draws = [segment_indices(num_video_frames, 6, generator=generator) for _ in range(300)]
    assert {index for draw in draws for index in draw} == set(range(num_video_frames))


def test_a_single_view_takes_the_middle_of_every_segment():
    assert segment_indices(40, 4) == [5, 15, 25, 35]


def test_several_views_take_different_frames_of_the_video():
    views = [segment_indices(24, 8, view=view, num_views=3) for view in range(3)]
    assert sorted(index for view in views for index in view) == list(range(24))


def test_a_video_as_long_as_the_clip_gives_all_its_frames():
    assert segment_indices(8, 8, generator=seeded()) == list(range(8))
    assert dense_indices(8, 8, frame_stride=1, generator=seeded()) == list(range(8))


def test_a_short_video_repeats_its_frames_evenly():
    assert segment_indices(4, 8) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert dense_indices(4, 8, frame_stride=2) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_dense_frames_are_one_stride_apart():
    for generator in (None, seeded()):
        indices = dense_indices(100, 5, frame_stride=3, generator=generator)
        assert {b - a for a, b in pairwise(indices)} == {3}


def test_a_dense_clip_can_start_at_any_frame_where_it_fits():
    generator = seeded()
    starts = {dense_indices(12, 3, frame_stride=4, generator=generator)[0] for _ in range(100)}
    assert starts == {0, 1, 2, 3}


def test_dense_views_extend_from_the_first_frame_to_the_last():
    views = [dense_indices(30, 4, frame_stride=2, view=view, num_views=3) for view in range(3)]
    assert views[0][0] == 0
    assert views[1] == dense_indices(30, 4, frame_stride=2)
    assert views[2][-1] == 29


def test_a_dense_clip_longer_than_the_video_uses_a_smaller_stride():
    assert dense_indices(9, 5, frame_stride=8) == [0, 2, 4, 6, 8]


def test_equal_seeds_draw_equal_frames_and_the_global_generator_is_not_used():
    state = torch.get_rng_state()
    assert segment_indices(90, 8, generator=seeded(3)) == segment_indices(
        90, 8, generator=seeded(3)
    )
    assert segment_indices(90, 8, generator=seeded(3)) != segment_indices(
        90, 8, generator=seeded(4)
    )
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"num_video_frames": 0}, "num_video_frames is 0; wanted 1 or more"),
        ({"num_frames": 0}, "num_frames is 0; wanted 1 or more"),
        ({"num_views": 0}, "num_views is 0; wanted 1 or more"),
        ({"view": 2, "num_views": 2}, "view = 2 of num_views = 2; wanted 0 to 1"),
        ({"view": -1}, "view = -1"),
    ],
)
def test_an_invalid_count_is_named(counts, message):
    counts = {"num_video_frames": 10, "num_frames": 4, **counts}
    with pytest.raises(ValueError, match=message):
        segment_indices(**counts)
    with pytest.raises(ValueError, match=message):
        dense_indices(**counts, frame_stride=1)


def test_a_stride_of_zero_is_refused():
    with pytest.raises(ValueError, match="frame_stride = 0; wanted 1 frame or more"):
        dense_indices(10, 4, frame_stride=0)
