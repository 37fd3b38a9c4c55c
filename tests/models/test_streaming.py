from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motionaware import ClipSpec, Stream, VideoRecognizer, create_model, insert, load, save
from motionaware.models.insertion import copy_sharing_tensors
from motionaware.models.streaming import _check_causal
from motionaware.ops.layout import fold_time, unfold_vectors

T = 3
NETWORKS = {"resnet18": 64, "mobilenet_v2": 64, "test_convnext": 64, "test_vit": 160}
MECHANISMS = ["m2a", "motion", "attention", "tsm", "tea", "tdn", "tea+attention", "m2a,tsm"]


def causal(backbone: str = "resnet18_quarter", temporal: str = "m2a") -> VideoRecognizer:
    torch.manual_seed(0)
    size = NETWORKS.get(backbone, 32)
    clip = ClipSpec(num_frames=T, image_size=size)
    model = create_model(
        backbone, temporal=temporal, num_classes=5, num_frames=T, clip=clip, causal=True
    )
    nn.init.normal_(model.head.weight, std=0.05)
    return model.eval()


def frames(model: VideoRecognizer, n: int = 5, b: int = 2) -> Tensor:
    size = model.clip.image_size
    return torch.rand(b, n, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def scores_of_clip(model: VideoRecognizer, clips: Tensor) -> Tensor:
    """Return the mean scores of the last T frames of clips of any length."""
    n = clips.shape[1]
    copied = copy_sharing_tensors(model, num_frames=n)
    features = copied.backbone(fold_time((clips - model.mean) / model.std))
    return unfold_vectors(copied.head(features), num_frames=n)[:, -T:].mean(dim=1)


@pytest.mark.parametrize("temporal", MECHANISMS)
@pytest.mark.parametrize("backbone", NETWORKS)
def test_scores_after_each_frame_equal_those_of_the_clip_so_far(backbone, temporal):
    model = causal(backbone, temporal)
    clips = frames(model)
    stream = Stream(model)
    for n in range(1, clips.shape[1] + 1):
        scores = stream.push(clips[:, n - 1])
        torch.testing.assert_close(
            scores, scores_of_clip(model, clips[:, :n]), atol=1e-5, rtol=1e-5
        )
        if n == T:
            with torch.no_grad():
                torch.testing.assert_close(scores, model(clips[:, :n]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temporal", MECHANISMS)
def test_scores_of_stream_and_clip_agree_to_1e_10_in_double_precision(temporal):
    model = causal(temporal=temporal).double()
    clips = frames(model, n=7).double()
    stream = Stream(model)
    scores = [stream.push(frame) for frame in clips.unbind(1)][-1]
    torch.testing.assert_close(scores, scores_of_clip(model, clips), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("temporal", ["m2a(last=zero)", "m2a(skip=false)", "m2a,tsm", "tea", "tdn"])
def test_resetting_one_stream_does_not_affect_the_other(temporal):
    model = causal(temporal=temporal)
    clips = frames(model)
    stream = Stream(model)
    for n in range(3):
        stream.push(clips[:, n])
    stream.reset(1)
    stream.push(clips[:, 3])
    scores = stream.push(clips[:, 4])
    torch.testing.assert_close(scores[:1], scores_of_clip(model, clips[:1]))
    torch.testing.assert_close(scores[1:], scores_of_clip(model, clips[1:, 3:]))


def test_a_stream_continues_from_a_saved_state(tmp_path):
    model = causal(temporal="m2a,tsm")
    clips = frames(model)
    stream = Stream(model)
    assert stream.state() == {}
    for n in range(3):
        stream.push(clips[:, n])
    save_file(stream.state(), tmp_path / "state.safetensors")
    other = Stream(model)
    other.load_state(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(other.push(clips[:, 3]), stream.push(clips[:, 3]))


def test_the_model_is_unchanged_and_shares_its_weights():
    model = causal().train()
    before, fields = repr(model), {n: set(vars(m)) for n, m in model.named_modules()}
    stream = Stream(model)
    clips = frames(model)
    first = stream.push(clips[:, 0])
    assert model.training and repr(model) == before
    assert fields == {n: set(vars(m)) for n, m in model.named_modules()}
    with torch.no_grad():
        model.head.weight.mul_(2)
    stream.reset()
    torch.testing.assert_close(stream.push(clips[:, 0]), 2 * first)


def test_a_failed_push_leaves_the_stream_unchanged():
    model = causal()
    clips = frames(model)
    stream, undisturbed = Stream(model), Stream(model)
    stream.push(clips[:, 0])
    undisturbed.push(clips[:, 0])
    weight = model.head.weight.data
    model.head.weight.data = weight[:, :-1]
    with pytest.raises(RuntimeError):
        stream.push(clips[:, 1])
    model.head.weight.data = weight
    assert torch.equal(stream.push(clips[:, 1]), undisturbed.push(clips[:, 1]))


def test_uint8_and_a_single_frame_are_accepted():
    model = causal()
    picture = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(Stream(model).push(picture), Stream(model).push(picture / 255))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.rand(1, 2, 3, 8, 8), "have 5 axes; wanted b 3 h w, .* one by one"),
        (torch.rand(1, 4, 8, 8), "have 4 colours; wanted b 3 h w"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "frames are torch.int64; wanted uint8"),
        (torch.rand(2, 3, 32, 32), r"follow frames of shape \(1, 3, 32, 32\); keep the number"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_frames_of_another_layout_raise_an_error(frames, message):
    stream = Stream(causal())
    stream.push(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match=message):
        stream._as_batch(frames)


def test_a_model_that_uses_future_frames_cannot_stream():
    two_way = create_model("resnet18_quarter", temporal="m2a", num_classes=2)
    with pytest.raises(ValueError, match="use future frames .* train one with model.causal"):
        Stream(two_way)
    volumes = create_model("r3d_18", temporal="none", num_classes=2)
    with pytest.raises(ValueError, match="whole clips with 3-D convolutions, .* 2-D network"):
        Stream(volumes)
    with pytest.raises(ValueError, match="has 3-D convolutions, which use future frames"):
        insert(volumes.backbone, "m2a", num_frames=8, causal=True)


def test_resetting_an_unknown_stream_and_loading_a_foreign_state_raise_errors():
    stream = Stream(causal())
    with pytest.raises(IndexError, match="stream 0 cannot be reset before the first frame"):
        stream.reset(0)
    with pytest.raises(
        ValueError, match="no state of a stream of this model: .* do not include frame_shape"
    ):
        stream.load_state({"x": torch.zeros(1)})


def test_reset_accepts_indices_and_refuses_a_mask():
    model = causal()
    clips = frames(model)
    first, second = Stream(model), Stream(model)
    for stream, indices in ((first, torch.tensor([1])), (second, [1])):
        stream.push(clips[:, 0])
        stream.reset(indices)
    assert torch.equal(first.push(clips[:, 1]), second.push(clips[:, 1]))
    for mask in (True, [False, True], torch.tensor([False, True])):
        with pytest.raises(ValueError, match="wanted indices in the batch, .* and no mask"):
            first.reset(mask)


def longer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    key = next(key for key in state if key.endswith("gather.frames"))
    return state | {key: torch.cat([state[key], state[key]], dim=1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {key: state[key] for key in state if "gather" not in key},
            "missing tensors",
        ),
        (longer, r"gather.frames has the shape \(2, 4, .*, wanted \(2, 2, "),
        (lambda state: state | {"scores.frames": state["scores.frames"][:1]}, "scores.frames has"),
        (lambda state: state | {"scores.frames": state["scores.frames"][:, 1:]}, "scores.frames"),
    ],
)
def test_a_state_that_does_not_fit_raises_an_error_and_changes_nothing(change, message):
    model = causal()
    clips = frames(model)
    stream, undisturbed = Stream(model), Stream(model)
    for each in (stream, undisturbed):
        each.push(clips[:, 0])
    with pytest.raises(ValueError, match=f"no state of a stream of this model: .*{message}"):
        stream.load_state(change(stream.state()))
    assert torch.equal(stream.push(clips[:, 1]), undisturbed.push(clips[:, 1]))


def test_the_state_of_a_model_with_longer_clips_raises_an_error():
    clip = ClipSpec(num_frames=T + 1, image_size=32)
    other = create_model("resnet18_quarter", temporal="tsm", num_classes=5, num_frames=T + 1,
                         clip=clip, causal=True)  # fmt: skip
    stream = Stream(other)
    stream.push(torch.rand(3, 32, 32))
    with pytest.raises(ValueError, match="scores.frames has the shape .* same backbone, .* num_fr"):
        Stream(causal(temporal="tsm")).load_state(stream.state())


def test_errors_name_the_type_of_a_wrong_model_or_frame():
    model = causal()
    with pytest.raises(ValueError, match="ResNet18 is no VideoRecognizer; wanted a model"):
        _check_causal(model.backbone)
    with pytest.raises(ValueError, match="frames are a list; wanted one tensor"):
        Stream(model)._as_batch([torch.rand(3, 32, 32), torch.rand(3, 16, 16)])


def test_frames_are_converted_to_the_dtype_of_the_model():
    model = causal().to(torch.bfloat16)
    picture = torch.rand(3, 32, 32)
    assert torch.equal(Stream(model).push(picture), Stream(model).push(picture.bfloat16()))


def test_a_causal_model_can_be_saved_loaded_and_trained(tmp_path):
    model = causal()
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors")
    assert read.plan == model.plan and read.plan is not None and read.plan.causal
    clips = frames(model, n=T)
    assert torch.equal(read(clips), model(clips))
    read.train()(clips).square().sum().backward()
    assert all(p.grad is not None for p in read.parameters())
    assert replace(read.plan, causal=False) != model.plan
