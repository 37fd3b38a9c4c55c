"""The methods that all kinds of videos share."""

import numpy as np
import pytest
import torch

from motionaware.data.video.open import open_video

NUM_FRAMES = 48


def test_no_indices_give_an_empty_clip(samples):
    assert open_video(samples / "mjpeg.avi").frames([]).shape == (0, 3, 48, 64)


@pytest.mark.parametrize("index", [-1, NUM_FRAMES])
def test_an_index_outside_the_video_is_named(samples, index):
    message = rf"frame {index} does not exist: .* has 48 frames; give an index from 0 to 47"
    with pytest.raises(IndexError, match=message):
        open_video(samples / "mjpeg.avi").frames([0, index])


def test_iterating_yields_all_frames_in_order(samples):
    video = open_video(samples / "mpeg4.avi")
    frames = torch.from_numpy(np.stack(list(video.iter_frames()))).permute(0, 3, 1, 2)
    assert torch.equal(frames, video.frames(range(NUM_FRAMES)))


def test_the_old_name_of_iter_frames_works_with_a_warning(samples):
    video = open_video(samples / "mpeg4.avi")
    with pytest.warns(DeprecationWarning, match=r"renamed: call Video\.iter_frames\(\)"):
        frames = list(video.pictures())
    assert np.array_equal(np.stack(frames), np.stack(list(video.iter_frames())))
