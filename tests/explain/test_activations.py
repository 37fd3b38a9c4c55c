import ast
import inspect

import pytest
import torch
from torch import nn

from motionaware.clip import ClipSpec
from motionaware.errors import UsageError
from motionaware.explain import activations as activations_module
from motionaware.explain.activations import Activations, record_activations, rms_over_channels
from motionaware.models.backbones import Backbone
from motionaware.models.insertion import insert
from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.models.site_hooks import sites
from motionaware.ops.attention import normalize_frames
from motionaware.ops.motion import temporal_difference
from motionaware.temporal.gate import Gate
from motionaware.temporal.shown_maps import MAP_KINDS, ShownMap, ShowsMaps
from motionaware.temporal.table import CAUSAL, TEMPORAL, Mechanism

CLIP = torch.randint(
    0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def model_with(temporal: str, backbone: str = "resnet18_quarter", size: int = 64):
    torch.manual_seed(0)
    clip = ClipSpec(num_frames=4, image_size=size)
    return create_model(backbone, temporal=temporal, num_classes=3, num_frames=4, clip=clip)


def record(temporal: str, backbone: str = "resnet18_quarter", **options) -> Activations:
    return record_activations(model_with(temporal, backbone), CLIP, **options)


def state(model: nn.Module) -> list[tuple[object, ...]]:
    """Everything that could be left on a model, except the values of its tensors."""
    return [
        (
            name,
            set(vars(module)),
            *(len(hooks) for key, hooks in vars(module).items() if key.endswith("_hooks")),
            module.training,
            [(one.requires_grad, one.grad) for one in module.parameters(recurse=False)],
        )
        for name, module in model.named_modules()
    ]


# ---------------------------------------------------------------------------- maps at the sites

# Temporal name -> kinds of maps that it does not have.
ABSENT = {
    "m2a": "",
    "m2a,tsm": "",
    "m2a(heads=2)": "",
    "m2a(start=identity)": "",
    "m2a(combine=add)": "",
    "m2a(causal=true)": "",
    "m2a(both_directions=true)": "",
    "tea+attention": "",
    "tdn+attention": "",
    "tea@official+attention": "",
    "patch": "",
    "patch@official": "",
    "motion": "attention",
    "motion+identity": "attention",
    "motion+tam": "attention",
    "tdn": "attention",
    "attention": "motion",
    "tea": "gate attention",
    "action": "gate attention",
}


@pytest.mark.parametrize("temporal", ABSENT)
def test_a_site_has_the_maps_of_its_module_and_the_others_are_reported_absent(temporal: str):
    activations = record(temporal, sites=["layer2.1.conv1"])
    (site,) = activations.sites
    assert site.name == "layer2.1.conv1"
    absent = ABSENT[temporal].split()
    for what, shape in {"motion": (4, 8, 8), "gate": (4, 8, 8), "attention": (4, 4)}.items():
        value = getattr(site, what)
        assert (value is None) == (what in absent)
        if value is not None:
            assert value.shape == shape
            assert value.isfinite().all()
    assert [f"no {what} at any site: the module there has none" for what in absent] == [
        *activations.absent
    ]
    if site.attention is not None:
        torch.testing.assert_close(site.attention.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("temporal", "absent"),
    [
        ("none", "the model has no temporal modules: no motion, no gate, no attention"),
        ("tsm", "the temporal modules declare no motion, no gate and no attention"),
        ("tam", "the temporal modules declare no motion, no gate and no attention"),
    ],
)
def test_a_model_without_maps_at_its_sites_still_has_grad_cam(temporal: str, absent: str):
    activations = record(temporal)
    assert activations.sites == ()
    assert activations.absent == (absent,)
    assert activations.cam is not None


def declared(temporal: nn.Module) -> dict[str, ShownMap]:
    """The first map of each kind that a module or one inside it declares."""
    maps: dict[str, ShownMap] = {}
    for module in temporal.modules():
        if isinstance(module, ShowsMaps):
            maps = {**module.shown_maps(), **maps}
    return maps


def names_of_the_table() -> list[str]:
    """Each entry of TEMPORAL and CAUSAL in each place where it can be written."""
    names = []
    for table, suffix in ((TEMPORAL, ""), (CAUSAL, "(causal=true)")):
        for name, entry in table.items():
            if isinstance(entry, str) or entry.site or entry.gate:
                names.append(name + suffix)
            if isinstance(entry, Mechanism) and entry.motion:
                names.append(f"{name}+attention{suffix}")
            if isinstance(entry, Mechanism) and entry.attention:
                names.append(f"motion+{name}{suffix}")
    return list(dict.fromkeys(names))


@pytest.mark.parametrize("name", names_of_the_table())
def test_the_recorded_maps_are_those_that_the_module_declares(name: str):
    """The values are read here by hooks on the declared modules, without `explain`."""
    where = ["conv1"] if name == "tdn_stem" else None
    torch.manual_seed(0)
    clip = ClipSpec(num_frames=4, image_size=64)
    model = create_model(
        "resnet18_quarter", temporal=name, num_classes=3, num_frames=4, clip=clip, where=where
    ).eval()
    host = sites(model.backbone)[-1]
    maps = declared(model.backbone.get_submodule(f"{host}.temporal"))
    values: dict[str, torch.Tensor] = {}
    handles = []
    for kind, shown in maps.items():

        def store(_, inputs, output, kind=kind, read=shown.read):
            value = read(inputs, output)
            if value is None:  # `patch@official` has no patches on small maps
                return
            if kind == "motion":
                value = value.square().mean(dim=1).sqrt()
            values[kind] = value.mean(dim=1) if kind == "gate" else value

        handles.append(shown.module.register_forward_hook(store))
    with torch.no_grad():
        model(CLIP[None])
    for handle in handles:
        handle.remove()
    activations = record_activations(model, CLIP, sites=[host])
    assert activations.cam is not None
    assert len(activations.sites) == bool(values)
    for site in activations.sites:
        for kind in MAP_KINDS:
            recorded = getattr(site, kind)
            if kind in values:
                torch.testing.assert_close(recorded, values[kind])
            else:
                assert recorded is None
        assert site.gate_label == (maps["gate"].label if "gate" in values else "")


class Blur(nn.Module):
    """A user's module that declares its motion."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Identity()

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips + self.change(clips.roll(1, dims=1) - clips)

    def shown_maps(self):
        return {"motion": ShownMap(module=self.change, read=lambda inputs, output: output[0])}


def own_model(make) -> VideoRecognizer:
    torch.manual_seed(0)
    clip = ClipSpec(num_frames=4, image_size=64)
    return create_model("resnet18_quarter", temporal=make, num_classes=3, num_frames=4, clip=clip)


def test_a_users_module_declares_its_own_maps():
    activations = record_activations(own_model(Blur), CLIP, sites=["layer2.1.conv1"])
    (site,) = activations.sites
    assert site.motion is not None and site.motion.shape == (4, 8, 8)
    assert activations.absent == (
        "no gate at any site: the module there has none",
        "no attention at any site: the module there has none",
    )


class UnknownKind(Blur):
    def shown_maps(self):
        return {"flow": ShownMap(module=self.change, read=lambda inputs, output: output[0])}


class WrongShape(Blur):
    def shown_maps(self):
        return {"motion": ShownMap(module=self.change, read=lambda inputs, output: output)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (UnknownKind, r"UnknownKind.shown_maps\(\) gives 'flow': ShownMap; wanted a ShownMap for"),
        (WrongShape, r"motion at layer1.0.conv1 has the shape \(1, 4, .*; wanted t c h w"),
    ],
)
def test_wrong_declarations_of_a_users_module_are_refused(make, message: str):
    model = own_model(make)
    before = state(model)
    with pytest.raises(UsageError, match=message):
        record_activations(model, CLIP)
    assert state(model) == before


def test_activations_know_no_class_of_a_temporal_module():
    tree = ast.parse(inspect.getsource(activations_module))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    temporal = {name for name in modules if name and name.startswith("motionaware.temporal")}
    assert temporal == {"motionaware.temporal.shown_maps"}


def test_the_root_mean_square_is_taken_over_the_channels():
    motion = torch.tensor([3.0, 4.0]).sqrt()[None, :, None, None] * torch.ones(2, 2, 1, 3)
    torch.testing.assert_close(rms_over_channels(motion), torch.full((2, 1, 3), 3.5).sqrt())


def test_the_motion_is_the_root_mean_square_of_the_difference_of_normalised_frames():
    model = model_with("m2a")
    gate = model.backbone.get_submodule("layer1.0.conv1.temporal")
    assert isinstance(gate, Gate)
    narrow = []
    with torch.no_grad():
        handle = gate.inner.register_forward_hook(lambda _, inputs, __: narrow.append(inputs[0]))
        model.eval()(CLIP[None])
        handle.remove()
    expected = temporal_difference(normalize_frames(narrow[0]))[0].square().mean(dim=1).sqrt()
    motion = record_activations(model, CLIP).sites[0].motion
    assert motion is not None
    torch.testing.assert_close(motion, expected)


@pytest.mark.parametrize(
    ("temporal", "low", "high", "label"),
    [
        ("m2a", 1, 2, "gate, in (1, 2)"),
        ("m2a(start=identity)", 0, 2, "gate, in (0, 2)"),
        ("m2a(combine=add)", -9, 9, "gate: what is added"),
        ("tdn", 0.5, 1.5, "gate, in (1/2, 3/2)"),
    ],
)
def test_the_gate_is_the_factor_on_the_input_and_its_label_gives_the_range(
    temporal: str, low: float, high: float, label: str
):
    model = model_with(temporal)
    activations = record_activations(model, CLIP)
    site = activations.sites[0]
    assert site.gate is not None
    assert site.gate_label == label
    assert low < site.gate.min() <= site.gate.max() < high
    if temporal == "m2a(start=identity)":
        torch.testing.assert_close(site.gate, torch.ones_like(site.gate))


def test_the_gate_times_the_input_is_the_output_of_the_module():
    model = model_with("m2a")
    module = model.backbone.get_submodule("layer1.0.conv1.temporal")
    passed = []
    handle = module.register_forward_hook(
        lambda _, inputs, output: passed.append((inputs[0], output))
    )
    gate = record_activations(model, CLIP).sites[0].gate
    handle.remove()
    before, after = (clips[0].detach() for clips in passed[0])
    nonzero = (before > 1e-3).all(dim=1)  # pixels at which every channel can be divided
    assert nonzero.any() and gate is not None
    torch.testing.assert_close(gate[nonzero], (after / before).mean(dim=1)[nonzero])


def test_several_modules_at_a_site_have_numbers_in_their_names():
    activations = record("m2a,tsm,attention", sites=["layer1.0.conv1"])
    assert [site.name for site in activations.sites] == ["layer1.0.conv1 (1)", "layer1.0.conv1 (2)"]
    assert activations.absent == ("no motion at layer1.0.conv1 (2): the module there has none",)


@pytest.mark.parametrize(
    ("backbone", "layout"),
    [
        ("resnet18_quarter", "frames"),
        ("swin_t", "maps"),
        ("vit_tiny_patch16_224", "tokens"),
        ("r3d_18", "volumes"),
        ("swin3d_t", "volumemaps"),
    ],
)
def test_maps_are_recorded_for_every_layout_of_hosts(backbone: str, layout: str):
    activations = record("m2a", backbone)
    assert activations.cam is not None and activations.cam.max() == 1 and activations.cam.min() >= 0
    assert activations.absent == ()
    for site in activations.sites:
        assert site.motion is not None and site.motion.shape[1] == site.motion.shape[2]


def test_tokens_that_form_no_square_have_no_map():
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(2))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = images.flatten(2)[:, :, :15].mT
            for block in self.blocks:
                rows = block(rows)
            return rows.mean(dim=1)

    torch.manual_seed(0)
    network = insert(Rows(), "m2a(reduction=1)", num_frames=4, where="blocks.*", image_size=64)
    model = VideoRecognizer(
        Backbone(network, 3), clip=ClipSpec(num_frames=4, image_size=64), class_names=["a", "b"]
    )
    activations = record_activations(model, CLIP)
    assert activations.cam is None
    assert activations.absent == (
        "no motion at any site: its tokens form no square",
        "no gate at any site: its tokens form no square",
        "no Grad-CAM: Rows has no spatial map of more than one pixel that the class depends on",
    )


# ---------------------------------------------------------------------------------------- Grad-CAM


def test_grad_cam_uses_the_last_layer_with_a_map_of_more_than_one_pixel():
    assert record("none").layer == "layer4"
    small = record_activations(model_with("none", size=32), CLIP[..., :32, :32])
    assert small.layer == "layer3"  # at 32 pixels the map of layer4 is a single pixel


def test_grad_cam_of_a_class_token_uses_the_last_layer_whose_patches_affect_the_class():
    layer = record("m2a", "vit_tiny_patch16_224").layer
    assert layer == "blocks.11.norm1"


def test_grad_cam_is_positive_where_the_class_is_visible_and_zero_elsewhere():
    class ColourMeans(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels = nn.Conv2d(3, 2, 1, bias=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.pixels(images).mean(dim=(2, 3))

    network = ColourMeans()
    model = VideoRecognizer(
        Backbone(network, 2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        clip=ClipSpec(num_frames=4, image_size=64),
        class_names=["red", "blue"],
    )
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(2))
        network.pixels.weight.copy_(torch.eye(3)[[0, 2], :, None, None])
    clip = torch.zeros_like(CLIP)
    clip[1, 0, :8, :8] = 255
    clip[2, 2, 8:, 8:] = 255
    red = record_activations(model, clip, target=0).cam
    assert red is not None
    assert red.nonzero().tolist() == (clip[:, 0] > 0).nonzero().tolist()
    blue = record_activations(model, clip, target=1).cam
    assert blue is not None
    assert blue.nonzero().tolist() == (clip[:, 2] > 0).nonzero().tolist()


def test_the_layer_of_grad_cam_can_be_chosen():
    activations = record("m2a", layer="layer1")
    assert activations.layer == "layer1"
    assert activations.cam is not None and activations.cam.shape == (4, 16, 16)


# ---------------------------------------------------------------------------- nothing is left


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("temporal", ["m2a", "patch", "tea+attention", "none"])
def test_recording_leaves_nothing_on_the_model(temporal: str, training: bool):
    model = model_with(temporal).train(training)
    before, numbers = state(model), {k: v.clone() for k, v in model.state_dict().items()}
    record_activations(model, CLIP)
    assert state(model) == before
    assert all(torch.equal(value, numbers[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("clip", "options", "message"),
    [
        (CLIP[:3], {}, "have 3 frames"),
        (CLIP, {"layer": "layer5"}, "layer 'layer5' is unknown; did you mean 'layer4'?"),
        (
            CLIP,
            {"sites": ["layer1.0"]},
            "site 'layer1.0' is unknown; did you mean 'layer1.0.conv1'",
        ),
    ],
)
def test_a_refused_recording_leaves_nothing_on_the_model(clip, options, message: str):
    model = model_with("m2a").train()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        record_activations(model, clip, **options)
    assert state(model) == before


def test_probabilities_are_those_of_a_plain_forward_pass_even_where_gradients_are_off():
    model = model_with("m2a")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        activations = record_activations(model, CLIP)
        torch.testing.assert_close(
            activations.probabilities, model.eval()(CLIP[None])[0].softmax(dim=-1)
        )
    assert activations.cam is not None


def test_a_site_of_a_model_without_sites_is_refused():
    with pytest.raises(ValueError, match="site 'layer1' was given, but the model has none"):
        record("none", sites=["layer1"])


def test_all_sites_are_recorded_by_default():
    model = model_with("m2a")
    assert [site.name for site in record_activations(model, CLIP).sites] == sites(model.backbone)
