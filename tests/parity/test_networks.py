"""Whole networks of the reference code (gebob19/M2A at 312686f), read and run. See README.md."""

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from motionaware import create_model, load_official
from motionaware.models.official_checkpoints import translate_gate

NUMBERS = Path(__file__).parent / "numbers"
NETWORKS = json.loads((NUMBERS / "networks.json").read_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_reference_checkpoint_runs_here_unchanged(name):
    facts = NETWORKS[name]
    weights = {key: _fill(key, shape) for key, shape in facts["state_dict"].items()}
    model = load_official(weights, **_arguments(facts))

    frames, size = facts["frames"], facts["size"]
    generator = torch.Generator().manual_seed(facts["input_seed"])
    normalised = torch.randn(2, frames * 3, size, size, generator=generator)
    clips = normalised.unflatten(1, (frames, 3)) * model.std + model.mean
    with torch.inference_mode():
        scores = model(clips)

    wanted = torch.tensor(facts["logits"])
    difference = (scores - wanted).abs().max() / wanted.abs().max()
    assert difference < 1e-4
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]


def test_a_checkpoint_written_from_several_gpus_reads_like_any_other(tmp_path):
    facts = NETWORKS["resnet18-motion+attn"]
    weights = {key: _fill(key, shape) for key, shape in facts["state_dict"].items()}
    path = tmp_path / "ckpt.best.pth.tar"
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}, "epoch": 3}, path)
    one = load_official(weights, **_arguments(facts)).state_dict()
    other = load_official(path, **_arguments(facts)).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


REFERENCE_SPELLINGS = {
    "tea": "tea@official",
    "tdn": "tdn@official",
    "tam": "tam@official",
    "tea+attn": "tea@official+attention",
    "tdn+attn": "tdn@official+attention",
    "motion+tam": "motion+tam@official",
    "tea+tam": "tea@official+tam@official",
    "tdn+tam": "tdn@official+tam@official",
    "patch_mattn": "patch@official",
}


@pytest.mark.parametrize("tsm", [False, True])
@pytest.mark.parametrize("reference", REFERENCE_SPELLINGS)
def test_networks_of_the_references_comparison_are_read(reference, tsm):
    """A site's names as its block wrote them, in the place of the network where M2A has its own."""
    ours = REFERENCE_SPELLINGS[reference] + tsm * ",tsm"
    torch.manual_seed(0)
    model = create_model("resnet18", temporal=ours, num_classes=10)
    model.load_state_dict(
        {k: torch.rand(v.shape).to(v.dtype) for k, v in model.state_dict().items()}
    )
    wanted = model.state_dict()
    checkpoint = {}
    plain = NETWORKS["resnet18-motion+attn" + tsm * "+tsm"]["state_dict"]
    block = load_file(NUMBERS / f"{reference}-a.safetensors")
    inside = [key.removeprefix("param.") for key in block if key.startswith("param.")]
    for name in plain:
        site = name.removesuffix(".conv_down.weight")
        if site != name:
            gate = site.replace("base_model", "backbone").removesuffix(".0") + ".temporal"
            gate += tsm * ".0"
            for key in inside:
                checkpoint[f"{site}.{key}"] = wanted[f"{gate}.{translate_gate(key)}"]
        elif ".conv_" not in name:
            host = re.sub(r"\.conv1\.[12]\.weight$", ".conv1.weight", name)
            host = host.replace("base_model", "backbone").replace("new_fc", "head")
            checkpoint[name] = wanted[host]
    for spelling in (reference + tsm * ",tsm", ours):
        read = load_official(
            checkpoint, backbone="resnet18", temporal=spelling, num_classes=10, num_frames=8
        )
        assert read.plan is not None
        assert read.plan.temporal == ours
        for key, tensor in read.state_dict().items():
            assert key in ("mean", "std") or torch.equal(tensor, wanted[key]), key


def test_tsm_authors_names_are_read():
    ours = create_model("resnet18", temporal="tsm", num_classes=5).state_dict()
    theirs = {}
    for key, value in ours.items():
        if key not in ("mean", "std"):
            key = key.replace("backbone.", "base_model.").replace("head.", "new_fc.")
            theirs[re.sub(r"(layer\d\.\d\.conv1)\.weight", r"\1.net.weight", key)] = value
    read = load_official(
        theirs, backbone="resnet18", temporal="tsm", num_classes=5, num_frames=8
    ).state_dict()
    assert all(torch.equal(read[key], ours[key]) for key in ours)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_sites_of_deep_resnets_are_the_reference_ones(backbone):
    model = create_model(backbone, temporal="m2a,tsm", num_classes=5)
    hosts = [name for name, _ in model.named_modules() if name.endswith(".temporal")]
    # Every block of ResNet-50; every second of each stage of ResNet-101, whose third has 23.
    assert len(hosts) == {"resnet50": 3 + 4 + 6 + 3, "resnet101": 2 + 2 + 12 + 2}[backbone]


def test_a_checkpoint_of_another_network_is_refused_with_the_first_differences():
    facts = NETWORKS["resnet18-motion+attn"]
    weights = {key: _fill(key, shape) for key, shape in facts["state_dict"].items()}
    with pytest.raises(ValueError, match="2 of another shape, first head.bias") as error:
        load_official(weights, **_arguments(facts, num_classes=7))
    assert "(10,), wanted (7,)" in str(error.value)


def _zeros(facts: dict[str, Any]) -> dict[str, Tensor]:
    return {key: torch.zeros(shape) for key, shape in facts["state_dict"].items()}


def _tsm_names(names: list[str]) -> dict[str, Tensor]:
    """A TSM checkpoint of ResNet-18 with the shift at the given blocks; other blocks are plain."""
    ours = create_model("resnet18", temporal="none", num_classes=10).state_dict()
    theirs = {}
    for key, value in ours.items():
        if key not in ("mean", "std"):
            key = key.replace("backbone.", "base_model.").replace("head.", "new_fc.")
            for block in names:
                key = key.replace(f"{block}.conv1.weight", f"{block}.conv1.net.weight")
            theirs[key] = value
    return theirs


BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
MOTION, WITH_SHIFT = "resnet18-motion+attn", "resnet18-motion+attn+tsm"
TWINS = "temporal='m2a', or, if it was trained so, temporal='motion', temporal='attention'"


@pytest.mark.parametrize(
    ("network", "asked", "words"),
    [
        ("tsm", "none", "layer1.0.conv1.net.weight is .* a temporal shift; load it with .*='tsm'"),
        ("tsm", "m2a", "its sites have no gates; load it with temporal='tsm'"),
        ("tsm", "m2a,tsm", "its sites have no gates; load it with temporal='tsm'"),
        ("tsn", "tsm", "no tensor has the name of .* a temporal shift; load it .*='none'"),
        ("tsn", "m2a", "its sites have no gates; load it with temporal='none'"),
        (MOTION, "none", f"its sites have gates of down, up; load it with {TWINS}"),
        (MOTION, "tsm", "no tensor has .* temporal shift and its sites have gates of"),
        (MOTION, "tea", f"its sites have gates of down, up; load it with {TWINS}"),
        (MOTION, "m2a,tsm", "no tensor has the name of .* a temporal shift; load it .*='m2a'"),
        (WITH_SHIFT, "m2a", "conv1.2.weight is .* a temporal shift; load .* temporal='m2a,tsm'"),
        ("mobilenetv2-motion+attn", "none", f"its sites have gates of down, up; .* {TWINS}"),
    ],
)
def test_a_temporal_name_that_contradicts_the_names_of_the_tensors_is_refused(
    network, asked, words
):
    facts = NETWORKS.get(network, NETWORKS[MOTION])
    if network in NETWORKS:
        weights = _zeros(facts)
    else:
        weights = _tsm_names(BLOCKS if network == "tsm" else [])
    with pytest.raises(ValueError, match=f"was not trained with temporal='{asked}.*: .*{words}"):
        load_official(weights, **_arguments(facts, temporal=asked))


@pytest.mark.parametrize("reference", REFERENCE_SPELLINGS)
def test_the_one_name_that_the_tensors_prove_is_suggested(reference):
    ours = REFERENCE_SPELLINGS[reference]
    block = load_file(NUMBERS / f"{reference}-a.safetensors")
    names = [f"base_model.layer1.0.conv1.0.{n[6:]}" for n in block if n.startswith("param.")]
    weights = dict.fromkeys([*names, "base_model.layer1.0.conv1.2.weight"], torch.zeros(1))
    wanted = "m2a" if reference == "patch_mattn" else ours  # named among those it may also be
    with pytest.raises(ValueError, match=re.escape(f"load it with temporal='{wanted},tsm'")):
        load_official(weights, **_arguments(NETWORKS[MOTION], temporal="none"))


def test_a_shift_at_other_sites_is_refused():
    words = (
        "has a temporal shift at 7 sites, 'tsm' here at 8; first .* backbone.layer1.0.conv1.weig"
    )
    with pytest.raises(ValueError, match=words):
        load_official(_tsm_names(BLOCKS[1:]), **_arguments(NETWORKS[MOTION], temporal="tsm"))


def test_a_checkpoint_of_another_program_is_told_which_are_read():
    weights = {"backbone.layer1.0.conv1.conv.net.weight": torch.zeros(1)}
    words = (
        "its first tensor is backbone.layer1.0.conv1.conv.net.weight, wanted names such as .*M2A"
    )
    with pytest.raises(ValueError, match=words):
        load_official(weights, **_arguments(NETWORKS[MOTION], temporal="tsm"))


def _arguments(facts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "backbone": facts["arch"],
        "temporal": facts["temporal_module"] + (",tsm" if facts["use_tsm"] else ""),
        "num_classes": facts["classes"],
        "num_frames": facts["frames"],
    }
    return arguments | changes


def _fill(name: str, shape: list[int]) -> Tensor:
    """A tensor of the reference state dict, as README.md of the numbers prescribes it."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name.endswith("running_var"):
        return values.abs() * 0.5 + 0.5
    if name.endswith("running_mean"):
        return values * 0.1
    if len(shape) > 1:
        return values / math.sqrt(values[0].numel())
    return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
