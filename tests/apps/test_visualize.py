import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from motionaware.apps.visualize import judge_with_attention, visualize
from motionaware.models.recognizer import VideoRecognizer, create_model

CLIP = torch.randint(
    0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def model_with(temporal: str) -> VideoRecognizer:
    torch.manual_seed(0)
    return create_model("resnet18_quarter", temporal=temporal, num_classes=3, num_frames=4)


@pytest.mark.parametrize("temporal", ["m2a", "m2a,tsm", "none", "tsm"])
def test_a_picture_is_drawn_with_or_without_attention(temporal: str, tmp_path: Path):
    path = tmp_path / "picture.png"
    visualize(model_with(temporal), CLIP, path, title="a clip", top_k=9)
    with Image.open(path) as picture:
        assert picture.size == (1440, 552)


def test_there_is_a_map_of_each_site_and_its_rows_sum_to_one():
    model = model_with("m2a")
    probabilities, maps = judge_with_attention(model, CLIP)
    assert [site for site, _ in maps] == [
        f"layer{stage}.{block}.conv1" for stage in (1, 2, 3, 4) for block in (0, 1)
    ]
    for _, weights in maps:
        assert weights.shape == (4, 4)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(probabilities, model.eval()(CLIP[None])[0].softmax(dim=-1).detach())


@pytest.mark.parametrize("training", [True, False])
def test_nothing_stays_on_the_model(training: bool):
    model = model_with("m2a").train(training)
    before = [
        (name, set(vars(module)), len(module._forward_hooks), module.training)
        for name, module in model.named_modules()
    ]
    judge_with_attention(model, CLIP)
    after = [
        (name, set(vars(module)), len(module._forward_hooks), module.training)
        for name, module in model.named_modules()
    ]
    assert before == after


def test_hooks_are_gone_though_the_model_refused_the_clip():
    model = model_with("m2a")
    with pytest.raises(ValueError, match="have 3 frames"):
        judge_with_attention(model, CLIP[:3])
    assert not any(module._forward_hooks for module in model.modules())


def test_without_matplotlib_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"run: pip install 'motionaware\[plots\]'"):
        visualize(model_with("m2a"), CLIP, tmp_path / "picture.png")
