import torch

from motionaware.ops.attention import attend_over_time, normalize_frames, time_attention_map


def test_every_frame_is_normalised_on_its_own():
    clips = 5 + 3 * torch.randn(2, 4, 3, 6, 6)
    normal = normalize_frames(clips)
    torch.testing.assert_close(normal.mean(dim=(2, 3, 4)), torch.zeros(2, 4), atol=1e-6, rtol=0)
    variance = normal.var(dim=(2, 3, 4), unbiased=False)
    torch.testing.assert_close(variance, torch.ones(2, 4), atol=1e-4, rtol=0)


def test_each_frames_attention_sums_to_one():
    weights = time_attention_map(torch.randn(2, 5, 3, 4, 4))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 5))


def test_attention_is_softmax_of_scaled_products():
    clips = torch.randn(1, 3, 2, 2, 2)
    tokens = clips.reshape(3, 8)
    weights = torch.softmax(tokens @ tokens.T / 8**0.5, dim=-1)
    torch.testing.assert_close(attend_over_time(clips).reshape(3, 8), weights @ tokens)


def test_alike_frames_share_attention_evenly():
    clip = torch.randn(1, 1, 3, 4, 4).expand(1, 4, 3, 4, 4)
    torch.testing.assert_close(time_attention_map(clip), torch.full((1, 4, 4), 0.25))


def test_frames_that_differ_much_attend_to_themselves():
    torch.manual_seed(0)
    weights = time_attention_map(torch.randn(1, 6, 16, 16, 16))
    torch.testing.assert_close(weights, torch.eye(6)[None], atol=1e-6, rtol=0)
