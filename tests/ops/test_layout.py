import pytest
import torch

from motionaware.ops.layout import (
    fold_time,
    fold_time_last_tokens,
    fold_tokens,
    fold_views,
    per_frame,
    unfold_time,
    unfold_time_last_tokens,
    unfold_token_maps,
    unfold_views,
)


def test_unfolding_undoes_folding():
    clips = torch.rand(2, 3, 4, 5, 6)
    assert torch.equal(unfold_time(fold_time(clips), num_frames=3), clips)


def test_frames_of_a_clip_stay_together_and_in_order():
    clips = torch.arange(6.0).reshape(2, 3, 1, 1, 1)
    assert fold_time(clips).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_views_of_a_video_stay_together():
    views = torch.rand(2, 3, 4, 3, 5, 6)
    scores = fold_views(views).mean(dim=(1, 3, 4))
    assert torch.equal(unfold_views(scores, num_views=3), views.mean(dim=(2, 4, 5)))


def test_a_number_of_images_that_is_no_multiple_of_the_frames_is_an_error():
    with pytest.raises(ValueError, match="7 images do not make whole clips of 4 frames"):
        unfold_time(torch.rand(7, 3, 8, 8), num_frames=4)


def test_a_function_of_images_may_change_channels_and_size():
    clips = torch.rand(2, 3, 4, 8, 8)
    assert per_frame(torch.nn.Conv2d(4, 5, 3, stride=2), clips).shape == (2, 3, 5, 3, 3)


def test_channels_last_frames_are_not_copied():
    frames = torch.rand(6, 4, 8, 8).to(memory_format=torch.channels_last)
    assert fold_time(unfold_time(frames, num_frames=3)).data_ptr() == frames.data_ptr()


def test_tokens_of_frames_that_are_not_square_are_unfolded_by_their_height():
    clips = torch.rand(2, 3, 4, 2, 5)
    assert torch.equal(unfold_token_maps(fold_tokens(clips), num_frames=3, height=2), clips)


def test_time_last_tokens_hold_all_frames_of_a_pixel_next_to_each_other():
    clips = torch.arange(6.0).reshape(1, 3, 1, 1, 2)  # frame t has the pixels 2 t and 2 t + 1
    tokens = fold_time_last_tokens(clips)
    assert tokens.flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert torch.equal(unfold_time_last_tokens(tokens, num_frames=3, height=1), clips)
