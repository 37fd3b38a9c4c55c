import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from motionaware.data.motionpairs import CLASS_NAMES
from motionaware.engine.config import Recipe
from motionaware.explain.saturation import attention_modules, draw_saturation, saturation
from motionaware.models.recognizer import VideoRecognizer, create_model

ABLATION = Path(__file__).parents[2] / "benchmarks" / "attention_ablation.py"


def model_with(temporal: str, recipe: Recipe) -> VideoRecognizer:
    torch.manual_seed(0)
    return create_model(
        "resnet18_quarter",
        temporal=temporal,
        num_frames=4,
        class_names=CLASS_NAMES,
        clip=recipe.clip,
    )


@pytest.mark.parametrize(
    ("temperature", "diagonal", "entropy", "to_uniform", "saturated"),
    [(1e-4, 1.0, 0.0, 0.75, 1.0), (1e6, 0.25, 1.0, 0.0, 0.0)],
)
def test_attention_is_the_identity_at_low_and_uniform_at_high_temperature(
    temperature: float,
    diagonal: float,
    entropy: float,
    to_uniform: float,
    saturated: float,
    tiny_recipe: Recipe,
):
    model = model_with(f"m2a(temperature={temperature})", tiny_recipe)
    found = saturation(model, tiny_recipe.data, config=tiny_recipe.eval)
    assert found.num_clips == 12
    site = found.sites[0]
    assert site.site == "layer1.0.conv1"
    expected = [diagonal, diagonal, diagonal, entropy, 1 - diagonal, to_uniform, saturated]
    measured = [site.diagonal, site.last_row, site.other_rows, site.entropy, site.to_identity]
    measured += [site.to_uniform, site.saturated]
    # Frames without motion are equal to each other, so their rows stay soft at low temperature.
    tolerance = 0.08 if temperature < 1 else 1e-3
    torch.testing.assert_close(
        torch.tensor(measured), torch.tensor(expected), atol=tolerance, rtol=0
    )
    assert (site.largest_other < 0.2) == (temperature < 1)


def test_the_diagonal_statistics_are_those_of_the_mean_map(
    tiny_recipe: Recipe,
):
    found = saturation(model_with("m2a", tiny_recipe), tiny_recipe.data, config=tiny_recipe.eval)
    assert len(found.sites) == 8
    for site in found.sites:
        rows = torch.tensor(site.mean_map)
        torch.testing.assert_close(rows.sum(dim=1), torch.ones(4))
        diagonal = rows.diagonal()
        assert site.diagonal == pytest.approx(float(diagonal.mean()))
        assert site.last_row == pytest.approx(float(diagonal[-1]))
        assert site.other_rows == pytest.approx(float(diagonal[:-1].mean()))
    lines = found.table().splitlines()
    assert lines[0] == "12 clips of val"
    assert lines[2].split()[:2] == ["layer1.0.conv1", f"{found.sites[0].diagonal:.3f}"]


def test_a_causal_row_is_compared_with_uniform_weights_on_visible_frames(tiny_recipe: Recipe):
    model = model_with("m2a(causal=true, temperature=1e6)", tiny_recipe)
    site = saturation(model, tiny_recipe.data, config=tiny_recipe.eval).sites[0]
    assert site.entropy == pytest.approx(1, abs=1e-3)
    assert site.to_uniform == pytest.approx(0, abs=1e-3)
    assert site.diagonal == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=1e-3)


def test_statistics_are_taken_of_each_head_and_not_of_the_mean_map(tiny_recipe: Recipe):
    model = model_with("m2a(heads=2, reduction=1)", tiny_recipe)
    maps_of_batches = []
    module = dict(attention_modules(model.backbone))["layer1.0.conv1"]
    handle = module.register_forward_hook(lambda m, i, _: maps_of_batches.append(m.head_maps(i[0])))  # pyright: ignore
    site = saturation(model, tiny_recipe.data, config=tiny_recipe.eval).sites[0]
    handle.remove()
    maps = torch.cat(maps_of_batches).double()
    entropies = torch.special.entr(maps).sum(dim=-1).mean() / math.log(4)
    assert site.entropy == pytest.approx(float(entropies), abs=1e-5)


def test_a_model_without_attention_is_refused(tiny_recipe: Recipe):
    with pytest.raises(ValueError, match="no site of _QuarterResNet18 attends over time; take a"):
        saturation(model_with("motion", tiny_recipe), tiny_recipe.data)


def test_several_attentions_at_a_site_have_their_module_names(tiny_recipe: Recipe):
    names = [
        name for name, _ in attention_modules(model_with("m2a,attention", tiny_recipe).backbone)
    ]
    assert names[:2] == ["layer1.0.conv1.temporal.0.inner", "layer1.0.conv1.temporal.1.inner"]


def hooks(network: nn.Module) -> list[object]:
    """Return all forward hooks, including those of `insert`."""
    return [hook for module in network.modules() for hook in module._forward_hooks.values()]


def test_the_measurement_leaves_nothing_on_the_model(tiny_recipe: Recipe):
    model = model_with("m2a", tiny_recipe).train()
    hooks_before = hooks(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    saturation(model, tiny_recipe.data, config=tiny_recipe.eval)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert hooks(model) == hooks_before
    assert all(module.training for module in model.modules())
    with pytest.raises(ValueError, match="class 0 is"):
        model.class_names = tuple("abcdefghijkl")
        saturation(model, tiny_recipe.data)
    assert hooks(model) == hooks_before


def test_the_maps_of_all_sites_are_drawn(tiny_recipe: Recipe, tmp_path: Path):
    found = saturation(model_with("m2a", tiny_recipe), tiny_recipe.data, config=tiny_recipe.eval)
    many = replace(found, sites=found.sites * 2)
    for number, one in enumerate((found, many, replace(found, sites=found.sites[:1]))):
        draw_saturation(one, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert picture.format == "PNG"
    with pytest.raises(ValueError, match=r"a.gif ends with '.gif'; the attention is drawn as .png"):
        draw_saturation(found, tmp_path / "a.gif")


# --------------------------------------------------------------- benchmarks/attention_ablation.py


def test_attention_with_the_identity_as_its_map_equals_the_motion_skip(tiny_recipe: Recipe):
    maps_replaced = runpy.run_path(str(ABLATION))["maps_replaced"]
    attending = model_with("m2a", tiny_recipe).eval()
    hooks_before = hooks(attending)
    skipping = model_with("motion+identity", tiny_recipe).eval()
    skipping.load_state_dict(attending.state_dict())
    clip = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = attending(clip)
    names = [name for name, _ in attention_modules(attending.backbone)]
    with maps_replaced(attending.backbone, dict.fromkeys(names, torch.eye(4))):
        torch.testing.assert_close(attending(clip), skipping(clip))
    assert not torch.equal(before, skipping(clip))
    assert torch.equal(attending(clip), before)
    assert hooks(attending) == hooks_before


def test_the_ablation_leaves_no_hook_if_a_site_is_unknown(tiny_recipe: Recipe):
    maps_replaced = runpy.run_path(str(ABLATION))["maps_replaced"]
    network: nn.Module = model_with("m2a", tiny_recipe).backbone
    hooks_before = hooks(network)
    maps = {"layer1.0.conv1": torch.eye(4), "layer9": torch.eye(4)}
    with pytest.raises(KeyError), maps_replaced(network, maps):
        pass
    assert hooks(network) == hooks_before
