import torch

from motionaware.ops.attention import (
    attend_over_time,
    gather_over_time,
    normalize_frames,
    time_attention_map,
)


def test_every_frame_is_normalised_on_its_own():
    clips = 5 + 3 * torch.randn(2, 4, 3, 6, 6)
    normal = normalize_frames(clips)
    torch.testing.assert_close(normal.mean(dim=(2, 3, 4)), torch.zeros(2, 4), atol=1e-6, rtol=0)
    variance = normal.var(dim=(2, 3, 4), unbiased=False)
    torch.testing.assert_close(variance, torch.ones(2, 4), atol=1e-4, rtol=0)


def test_each_frames_attention_sums_to_one():
    weights = time_attention_map(torch.randn(2, 5, 3, 4, 4))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 1, 5))


def test_attention_is_softmax_of_scaled_products():
    clips = torch.randn(1, 3, 2, 2, 2)
    tokens = clips.reshape(3, 8)
    weights = torch.softmax(tokens @ tokens.T / 8**0.5, dim=-1)
    torch.testing.assert_close(attend_over_time(clips).reshape(3, 8), weights @ tokens)


def test_alike_frames_share_attention_evenly():
    clip = torch.randn(1, 1, 3, 4, 4).expand(1, 4, 3, 4, 4)
    torch.testing.assert_close(time_attention_map(clip), torch.full((1, 1, 4, 4), 0.25))


def test_frames_that_differ_much_attend_to_themselves():
    torch.manual_seed(0)
    weights = time_attention_map(torch.randn(1, 6, 16, 16, 16))
    torch.testing.assert_close(weights, torch.eye(6)[None, None], atol=1e-6, rtol=0)


def test_each_head_compares_its_own_channels():
    clips = torch.randn(2, 5, 6, 4, 4)
    weights = time_attention_map(clips, heads=3)
    apart = [time_attention_map(part) for part in clips.chunk(3, dim=2)]
    torch.testing.assert_close(weights, torch.cat(apart, dim=1))
    gathered = [attend_over_time(part) for part in clips.chunk(3, dim=2)]
    torch.testing.assert_close(gather_over_time(clips, weights), torch.cat(gathered, dim=2))


def test_cosine_similarity_does_not_know_lengths():
    clips = torch.randn(1, 4, 3, 5, 5)
    longer = clips * torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1)
    torch.testing.assert_close(
        time_attention_map(longer, cosine=True), time_attention_map(clips, cosine=True)
    )


def test_the_temperature_divides_the_logits():
    clips = torch.randn(1, 3, 2, 2, 2)
    torch.testing.assert_close(
        time_attention_map(clips, temperature=4.0), time_attention_map(clips / 2)
    )
