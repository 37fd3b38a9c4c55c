import torch

from motionaware.ops.motion import shift_channels, temporal_difference


def test_a_still_clip_has_no_motion_before_its_last_frame():
    clip = torch.rand(1, 1, 3, 4, 4).expand(1, 5, 3, 4, 4)
    motion = temporal_difference(clip)
    assert not motion[:, :-1].any()
    assert torch.equal(motion[:, -1], -clip[:, -1])


def test_with_zero_a_still_clip_has_no_motion_at_all():
    clip = torch.rand(1, 1, 3, 4, 4).expand(1, 5, 3, 4, 4)
    assert not temporal_difference(clip, last="zero").any()


def test_a_single_frame_has_only_a_last_motion():
    clip = torch.rand(1, 1, 3, 4, 4)
    assert torch.equal(temporal_difference(clip), -clip)
    assert not temporal_difference(clip, last="zero").any()


def test_shifted_channels_come_from_the_neighbouring_frames():
    clip = torch.rand(2, 4, 8, 3, 3)
    shifted = shift_channels(clip, num_channels=2)
    assert torch.equal(shifted[:, :-1, :2], clip[:, 1:, :2])
    assert torch.equal(shifted[:, 1:, 2:4], clip[:, :-1, 2:4])
    assert torch.equal(shifted[:, :, 4:], clip[:, :, 4:])
    assert not shifted[:, -1, :2].any()
    assert not shifted[:, 0, 2:4].any()
