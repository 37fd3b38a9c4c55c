import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from motionaware.apps.profile import profile
from motionaware.apps.profile_sites import profile_sites
from motionaware.clip import ClipSpec
from motionaware.engine.cost import count
from motionaware.models.backbones import Backbone
from motionaware.models.insertion import insert
from motionaware.models.recognizer import VideoRecognizer, create_model

CLIP = ClipSpec(num_frames=4, image_size=32)


def small(temporal: str) -> VideoRecognizer:
    torch.manual_seed(0)
    return create_model(
        "resnet18_quarter", temporal=temporal, num_classes=3, num_frames=4, clip=CLIP
    )


def wrap(network: nn.Module, *, num_features: int) -> VideoRecognizer:
    """Make a recognizer of a network without a plan of its sites."""
    return VideoRecognizer(
        Backbone(network, num_features), clip=CLIP, class_names=["left", "right"], dropout=0.0
    )


class TwoConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, kernel_size=1, bias=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(frames)).mean(dim=(2, 3))


def test_m2a_adds_0_11_million_parameters_and_0_22_gmac_to_resnet18():
    model = create_model("resnet18", temporal="m2a", num_classes=174)
    found = profile(model.to("meta"), num_repeats=1)  # counts alike, and computes nothing
    assert (found.clip.num_frames, found.clip.image_size) == (8, 224)
    assert found.model.num_parameters - found.plain.num_parameters == 111_224
    assert found.plain.gmac == pytest.approx(14.5, abs=0.05)
    assert found.model.gmac - found.plain.gmac == pytest.approx(0.22, abs=0.005)
    table = found.table()
    assert "8 x 224 x 224" in table
    assert "parameters            M       11.27      11.38      +0.11" in table
    assert "multiply-adds a clip  G       14.51      14.73      +0.22" in table


def test_counts_are_the_same_on_the_meta_device():
    real, meta = profile(small("m2a"), num_repeats=1), profile(small("m2a").to("meta"))
    for one, other in ((real.model, meta.model), (real.plain, meta.plain)):
        assert (one.gmac, one.backward_bytes) == (other.gmac, other.backward_bytes)


def test_multiply_adds_and_memory_equal_a_hand_calculation():
    found = profile(wrap(TwoConvolutions(), num_features=8), num_repeats=1).plain
    pixels = 4 * 32 * 32
    assert found.num_parameters == 3 * 8 * 9 + 8 * 8 + 8 * 2 + 2
    assert found.gmac * 1e9 == pytest.approx(pixels * (3 * 8 * 9 + 8 * 8) + 4 * 8 * 2)
    # Inputs of both convolutions and of the classifier, in float32.
    assert found.backward_bytes == 4 * (pixels * 3 + pixels * 8 + 4 * 8)


def test_products_between_frames_are_counted_and_shifts_are_not():
    network = insert(TwoConvolutions(), "m2a", num_frames=4, where="conv2")
    found = profile(wrap(network, num_features=8), num_repeats=1)
    narrow = 32 * 32 * 1  # one of eight channels passes the gate's reduction
    convolutions, products = 2 * 4 * 8 * narrow, 2 * 4 * 4 * narrow
    assert (found.model.gmac - found.plain.gmac) * 1e9 == pytest.approx(convolutions + products)
    shifted = profile(small("tsm"), num_repeats=1)
    assert shifted.model.gmac == shifted.plain.gmac
    assert shifted.model.num_parameters == shifted.plain.num_parameters


@pytest.mark.parametrize("frozen", [False, True])
def test_attention_between_tokens_is_counted(frozen: bool):
    network = VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    network.heads = nn.Sequential(nn.Identity())
    model = wrap(network.requires_grad_(not frozen), num_features=16).eval()
    n, d = 17, 16  # 4 x 4 patches and the class token
    a_frame = 16 * 3 * 64 * d + n * (3 * d * d + d * d + 2 * d * 32) + 2 * n * n * d
    found = profile(model, num_repeats=1)
    assert found.model.gmac * 1e9 == pytest.approx(4 * (a_frame + d * 2))


def test_the_plain_model_costs_as_much_as_one_built_without_temporal_modules():
    plain = profile(small("m2a,tsm"), num_repeats=1).plain
    built_plain = profile(small("none"), num_repeats=1).model
    assert plain.num_parameters == built_plain.num_parameters
    assert plain.gmac == built_plain.gmac
    assert plain.backward_bytes == built_plain.backward_bytes


def test_both_models_have_the_same_weights_and_are_timed_in_alternation(
    monkeypatch: pytest.MonkeyPatch,
):
    model = small("m2a").eval()
    calls: list[tuple[str, bool, bool]] = []
    forward = VideoRecognizer.forward

    def record(self: VideoRecognizer, clips: torch.Tensor) -> torch.Tensor:
        calls.append(
            (
                "m2a" if any("temporal" in name for name, _ in self.named_modules()) else "none",
                self.training,
                torch.is_inference_mode_enabled(),
            )
        )
        for name, parameter in self.named_parameters():
            assert torch.equal(parameter, model.get_parameter(name))
        return forward(self, clips)

    monkeypatch.setattr(VideoRecognizer, "forward", record)
    profile(model, num_repeats=2)
    counted, timed = calls[:2], calls[2:]
    assert counted == [("m2a", True, False), ("none", True, False)]
    assert timed == [("m2a", False, True), ("none", False, True)] * 3


def test_latency_is_a_median_and_its_ratio_is_a_median_over_pairs(monkeypatch: pytest.MonkeyPatch):
    seconds = [9.0, 9.0, *(3.0, 1.0), *(40.0, 20.0), *(6.0, 5.0)]  # the first pair warms up
    ticks = iter([tick for duration in seconds for tick in (100.0, 100.0 + duration)])
    monkeypatch.setattr("motionaware.engine.cost.time.perf_counter", lambda: next(ticks))
    found = profile(small("m2a"), num_repeats=3)
    assert (found.model.latency_seconds, found.plain.latency_seconds) == (6.0, 5.0)
    assert found.latency_ratio == 2.0
    assert "latency               ms     5000.0     6000.0    x 2.000" in found.table()


def test_gmac_is_per_clip_and_memory_per_batch():
    one, two = (profile(small("m2a"), batch_size=size, num_repeats=1).model for size in (1, 2))
    assert one.gmac == two.gmac
    assert one.backward_bytes < two.backward_bytes <= 2 * one.backward_bytes


def test_a_frozen_backbone_holds_less_memory_for_the_backward_pass():
    model = small("none")
    free = profile(model, num_repeats=1).model.backward_bytes
    model.backbone.requires_grad_(False)
    assert profile(model, num_repeats=1).model.backward_bytes < free / 10


@pytest.mark.parametrize("measure", [lambda model: profile(model, num_repeats=1), profile_sites])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_random_state_are_not_changed(
    measure: Callable[[VideoRecognizer], object], training: bool
):
    model = small("tea,m2a").train(training)
    model.backbone.get_submodule("layer1").eval()
    model(torch.rand(2, 4, 3, 32, 32)).sum().backward()
    tensors = copy.deepcopy(model.state_dict())
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    modes = [module.training for module in model.modules()]
    hooks = [list(module._forward_pre_hooks.items()) for module in model.modules()]
    random_state = torch.get_rng_state()
    measure(model)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert modes == [module.training for module in model.modules()]
    assert hooks == [list(module._forward_pre_hooks.items()) for module in model.modules()]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tensors[name])
    for name, grad in grads.items():
        assert torch.equal(model.get_parameter(name).grad, grad)  # pyright: ignore[reportArgumentType]


def test_the_number_of_threads_is_set_and_restored_even_if_the_model_fails(
    monkeypatch: pytest.MonkeyPatch,
):
    before = torch.get_num_threads()
    assert profile(small("none"), num_repeats=1).num_threads == before
    num_threads_seen = []

    def fail(self: VideoRecognizer, clips: torch.Tensor) -> torch.Tensor:
        num_threads_seen.append(torch.get_num_threads())
        raise RuntimeError("no")

    monkeypatch.setattr(VideoRecognizer, "forward", fail)
    with pytest.raises(RuntimeError, match="no"):
        profile(small("none"), num_threads=before + 1)
    assert num_threads_seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode])
def test_memory_for_the_backward_pass_is_measured_in_any_grad_mode(
    grad_mode: Callable[[], torch.no_grad],
):
    free = profile(small("m2a"), num_repeats=1).model.backward_bytes
    model = small("m2a").eval()
    with grad_mode():
        assert profile(model, num_repeats=1).model.backward_bytes == free


def test_count_works_under_no_grad():
    model = small("m2a").eval()
    clips = torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        multiply_adds, held = count(model, clips)
    found = profile(model, num_repeats=1).model
    assert (multiply_adds / 1e9, held) == (found.gmac, found.backward_bytes)


@pytest.mark.parametrize("name", ["batch_size", "num_threads", "num_repeats"])
def test_numbers_below_one_are_refused(name: str):
    with pytest.raises(ValueError, match=f"{name} = 0.*each must be at least 1"):
        profile(small("none"), **{name: 0})


def test_a_network_with_a_batch_norm_on_single_values_is_counted():
    clip = ClipSpec(num_frames=8, image_size=32)
    model = create_model("i3d_resnet18_quarter", temporal="m2a", num_classes=3, clip=clip)
    one, two = (profile(model, batch_size=size, num_repeats=1) for size in (1, 2))
    assert one.model.gmac == pytest.approx(two.model.gmac, rel=1e-6)
    assert one.model.backward_bytes == pytest.approx(two.model.backward_bytes / 2, rel=1e-6)


def test_other_errors_of_a_network_are_raised_whatever_their_message(
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(*_: object) -> None:
        raise ValueError("Expected more than 1 value per channel")

    monkeypatch.setattr("motionaware.engine.cost.count", fail)
    with pytest.raises(ValueError, match="more than 1 value"):
        profile(small("none"))
