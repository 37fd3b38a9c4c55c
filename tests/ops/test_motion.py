import torch

from motionaware.ops.motion import (
    aligned_difference,
    convolve_over_time,
    shift_channels,
    temporal_difference,
    two_way_difference,
)


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


def test_two_way_motion_of_a_still_clip_is_zero_except_at_the_ends():
    clip = torch.rand(1, 1, 4, 3, 3).expand(1, 5, 4, 3, 3)
    motion = two_way_difference(clip)
    assert not motion[:, 1:-1].any()
    assert torch.equal(motion[:, -1, :2], -clip[:, -1, :2])
    assert torch.equal(motion[:, 0, 2:], clip[:, 0, 2:])
    assert not two_way_difference(clip, last="zero").any()


def test_a_single_channel_holds_the_forward_difference():
    clip = torch.rand(1, 3, 1, 2, 2)
    assert torch.equal(two_way_difference(clip), temporal_difference(clip))


def test_a_clip_aligned_with_itself_has_the_ordinary_difference():
    clip = torch.rand(2, 4, 3, 2, 2)
    forward = aligned_difference(clip, clip)
    assert torch.equal(forward, temporal_difference(clip, last="zero"))
    backward = aligned_difference(clip, clip, toward="previous")
    assert torch.equal(backward, temporal_difference(clip.flip(1), last="zero").flip(1))


def test_a_single_frame_has_no_aligned_difference():
    clip = torch.rand(1, 1, 3, 4, 4)
    assert not aligned_difference(clip, 2 * clip).any()
    assert not aligned_difference(clip, 2 * clip, toward="previous").any()


def test_convolve_over_time_equals_a_grouped_convolution_per_clip_and_channel():
    clips, kernels = torch.randn(2, 5, 3, 2, 2), torch.randn(2, 3, 3)
    rows = clips.permute(0, 2, 3, 4, 1).reshape(1, 6, 4, 5)
    wanted = torch.nn.functional.conv2d(rows, kernels.reshape(6, 1, 1, 3), padding=(0, 1), groups=6)
    wanted = wanted.reshape(2, 3, 2, 2, 5).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(convolve_over_time(clips, kernels), wanted)
