from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motionaware import ClipSpec, Stream, VideoRecognizer, create_model, insert, load, save
from motionaware.models.insertion import twin
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
def of_the_clip(model: VideoRecognizer, clips: Tensor) -> Tensor:
    """Mean of the scores of the last T frames of the causal network on clips of any length."""
    n = clips.shape[1]
    other = twin(model, num_frames=n)
    features = other.backbone(fold_time((clips - model.mean) / model.std))
    return unfold_vectors(other.head(features), num_frames=n)[:, -T:].mean(dim=1)


@pytest.mark.parametrize("temporal", MECHANISMS)
@pytest.mark.parametrize("backbone", NETWORKS)
def test_frames_one_by_one_give_the_scores_of_the_clip_at_every_step(backbone, temporal):
    model = causal(backbone, temporal)
    clips = frames(model)
    stream = Stream(model)
    for n in range(1, clips.shape[1] + 1):
        scores = stream.push(clips[:, n - 1])
        torch.testing.assert_close(scores, of_the_clip(model, clips[:, :n]), atol=1e-5, rtol=1e-5)
        if n == T:
            with torch.no_grad():
                torch.testing.assert_close(scores, model(clips[:, :n]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temporal", MECHANISMS)
def test_in_double_precision_they_agree_to_1e_10(temporal):
    model = causal(temporal=temporal).double()
    clips = frames(model, n=7).double()
    stream = Stream(model)
    scores = [stream.push(frame) for frame in clips.unbind(1)][-1]
    torch.testing.assert_close(scores, of_the_clip(model, clips), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("temporal", ["m2a(last=zero)", "m2a(skip=false)", "m2a,tsm", "tea", "tdn"])
def test_a_stream_that_is_reset_begins_anew_and_its_neighbour_goes_on(temporal):
    model = causal(temporal=temporal)
    clips = frames(model)
    stream = Stream(model)
    for n in range(3):
        stream.push(clips[:, n])
    stream.reset(1)
    stream.push(clips[:, 3])
    scores = stream.push(clips[:, 4])
    torch.testing.assert_close(scores[:1], of_the_clip(model, clips[:1]))
    torch.testing.assert_close(scores[1:], of_the_clip(model, clips[1:, 3:]))


def test_a_state_that_was_saved_goes_on_to_the_same_scores(tmp_path):
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


def test_the_model_is_left_as_it_was_and_shares_its_weights():
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


def test_a_frame_that_fails_half_way_is_as_if_it_had_not_come():
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


def test_bytes_and_a_single_frame_are_taken():
    model = causal()
    picture = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(Stream(model).push(picture), Stream(model).push(picture / 255))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.rand(1, 2, 3, 8, 8), "have 5 axes; wanted b 3 h w, .* one by one"),
        (torch.rand(1, 4, 8, 8), "have 4 colours; wanted b 3 h w"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "frames are torch.int64; wanted uint8"),
        (torch.rand(2, 3, 32, 32), r"came after frames of shape \(1, 3, 32, 32\); go on with"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_other_frames_are_refused(wrong, words):
    stream = Stream(causal())
    stream.push(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match=words):
        stream._read(wrong)


def test_what_looks_ahead_makes_no_stream():
    two_way = create_model("resnet18_quarter", temporal="m2a", num_classes=2)
    with pytest.raises(ValueError, match="look at frames to come .* train one with model.causal"):
        Stream(two_way)
    volumes = create_model("r3d_18", temporal="none", num_classes=2)
    with pytest.raises(ValueError, match="whole clips with 3-D convolutions .* 2-D network"):
        Stream(volumes)
    with pytest.raises(ValueError, match="has 3-D convolutions, which look at frames still"):
        insert(volumes.backbone, "m2a", num_frames=8, causal=True)


def test_no_stream_that_is_not_there_is_reset_and_no_strange_state_loaded():
    stream = Stream(causal())
    with pytest.raises(IndexError, match="stream 0 was to be reset before a frame"):
        stream.reset(0)
    with pytest.raises(
        ValueError, match="no state of a stream of this model: .* none is frame_shape"
    ):
        stream.load_state({"x": torch.zeros(1)})


def test_streams_are_named_by_places_in_a_list_or_a_tensor_and_by_no_mask():
    model = causal()
    clips = frames(model)
    ours, theirs = Stream(model), Stream(model)
    for stream, places in ((ours, torch.tensor([1])), (theirs, [1])):
        stream.push(clips[:, 0])
        stream.reset(places)
    assert torch.equal(ours.push(clips[:, 1]), theirs.push(clips[:, 1]))
    for mask in (True, [False, True], torch.tensor([False, True])):
        with pytest.raises(ValueError, match="wanted places in the batch, .* and no mask"):
            ours.reset(mask)


def longer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    key = next(key for key in state if key.endswith("gather.frames"))
    return state | {key: torch.cat([state[key], state[key]], dim=1)}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: {key: state[key] for key in state if "gather" not in key}, "not in both"),
        (longer, r"gather.frames has the shape \(2, 4, .* instead of \(2, 2, "),
        (lambda state: state | {"scores.frames": state["scores.frames"][:1]}, "scores.frames has"),
        (lambda state: state | {"scores.frames": state["scores.frames"][:, 1:]}, "scores.frames"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_the_stream_goes_on(spoil, words):
    model = causal()
    clips = frames(model)
    stream, undisturbed = Stream(model), Stream(model)
    for one in (stream, undisturbed):
        one.push(clips[:, 0])
    with pytest.raises(ValueError, match=f"no state of a stream of this model: .*{words}"):
        stream.load_state(spoil(stream.state()))
    assert torch.equal(stream.push(clips[:, 1]), undisturbed.push(clips[:, 1]))


def test_the_state_of_a_model_with_longer_clips_is_refused():
    clip = ClipSpec(num_frames=T + 1, image_size=32)
    other = create_model("resnet18_quarter", temporal="tsm", num_classes=5, num_frames=T + 1,
                         clip=clip, causal=True)  # fmt: skip
    stream = Stream(other)
    stream.push(torch.rand(3, 32, 32))
    with pytest.raises(ValueError, match="scores.frames has the shape .* same backbone, .* num_fr"):
        Stream(causal(temporal="tsm")).load_state(stream.state())


def test_what_is_no_recognizer_and_no_tensor_is_named():
    model = causal()
    with pytest.raises(ValueError, match="ResNet18 is no recognizer of clips: wanted what create"):
        _check_causal(model.backbone)
    with pytest.raises(ValueError, match="frames are a list; wanted one tensor"):
        Stream(model)._read([torch.rand(3, 32, 32), torch.rand(3, 16, 16)])


def test_a_model_of_half_precision_takes_frames_as_they_come():
    model = causal().to(torch.bfloat16)
    picture = torch.rand(3, 32, 32)
    assert torch.equal(Stream(model).push(picture), Stream(model).push(picture.bfloat16()))


def test_a_causal_model_survives_its_file_and_learns(tmp_path):
    model = causal()
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors")
    assert read.plan == model.plan and read.plan is not None and read.plan.causal
    clips = frames(model, n=T)
    assert torch.equal(read(clips), model(clips))
    read.train()(clips).square().sum().backward()
    assert all(p.grad is not None for p in read.parameters())
    assert replace(read.plan, causal=False) != model.plan
