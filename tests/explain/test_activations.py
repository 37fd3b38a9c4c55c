import pytest
import torch
from torch import nn

from motionaware.clip import ClipSpec
from motionaware.explain.activations import Look, look
from motionaware.models.backbones import Backbone
from motionaware.models.insertion import insert
from motionaware.models.recognizer import VideoRecognizer, create_model
from motionaware.models.site_hooks import sites
from motionaware.ops.attention import normalize_frames
from motionaware.ops.motion import temporal_difference
from motionaware.temporal.gate import Gate
from motionaware.temporal.table import TEMPORAL

CLIP = torch.randint(
    0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def model_with(temporal: str, backbone: str = "resnet18_quarter", size: int = 64):
    torch.manual_seed(0)
    clip = ClipSpec(num_frames=4, image_size=size)
    return create_model(backbone, temporal=temporal, num_classes=3, num_frames=4, clip=clip)


def look_at(temporal: str, backbone: str = "resnet18_quarter", **options) -> Look:
    return look(model_with(temporal, backbone), CLIP, **options)


def state(model: nn.Module) -> list[tuple[object, ...]]:
    """All that a look could leave behind, but for the numbers."""
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


# ------------------------------------------------------------------------------------ what is seen

# What is absent everywhere, by module.
SHOWN = {
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


@pytest.mark.parametrize("temporal", SHOWN)
def test_a_site_shows_what_its_module_has_and_the_rest_is_said_to_be_absent(temporal: str):
    seen = look_at(temporal, sites=["layer2.1.conv1"])
    (site,) = seen.sites
    assert site.name == "layer2.1.conv1"
    absent = SHOWN[temporal].split()
    for what, shape in {"motion": (4, 8, 8), "gate": (4, 8, 8), "attention": (4, 4)}.items():
        value = getattr(site, what)
        assert (value is None) == (what in absent)
        if value is not None:
            assert value.shape == shape
            assert value.isfinite().all()
    assert [f"no {what} at any site: the module there has none" for what in absent] == [
        *seen.absent
    ]
    if site.attention is not None:
        torch.testing.assert_close(site.attention.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("temporal", "sentence"),
    [
        ("none", "the model has no temporal modules: no motion, no gate, no attention"),
        ("tsm", "the temporal modules take no differences, have no gate and do not attend"),
        ("tam", "the temporal modules take no differences, have no gate and do not attend"),
    ],
)
def test_without_anything_at_the_sites_there_is_grad_cam_and_a_sentence(
    temporal: str, sentence: str
):
    seen = look_at(temporal)
    assert seen.sites == ()
    assert seen.absent == (sentence,)
    assert seen.cam is not None


@pytest.mark.parametrize("name", sorted(TEMPORAL.keys() - {"identity", "tdn_stem"}))
def test_every_name_of_the_table_can_be_looked_at(name: str):
    seen = look_at(name)
    assert seen.cam is not None
    assert len(seen.sites) == 8 or seen.absent


def test_the_motion_is_the_root_mean_square_of_the_difference_of_normalised_frames():
    model = model_with("m2a")
    gate = model.backbone.get_submodule("layer1.0.conv1.temporal")
    assert isinstance(gate, Gate)
    narrow = []
    with torch.no_grad():
        handle = gate.inner.register_forward_hook(lambda _, inputs, __: narrow.append(inputs[0]))
        model.eval()(CLIP[None])
        handle.remove()
    wanted = temporal_difference(normalize_frames(narrow[0]))[0].square().mean(dim=1).sqrt()
    motion = look(model, CLIP).sites[0].motion
    assert motion is not None
    torch.testing.assert_close(motion, wanted)


@pytest.mark.parametrize(
    ("temporal", "low", "high", "words"),
    [
        ("m2a", 1, 2, "gate, in (1, 2)"),
        ("m2a(start=identity)", 0, 2, "gate, in (0, 2)"),
        ("m2a(combine=add)", -9, 9, "gate: what is added"),
        ("tdn", 0.5, 1.5, "gate, in (1/2, 3/2)"),
    ],
)
def test_the_gate_is_the_factor_on_the_input_and_its_words_say_where_it_lies(
    temporal: str, low: float, high: float, words: str
):
    model = model_with(temporal)
    seen = look(model, CLIP)
    site = seen.sites[0]
    assert site.gate is not None
    assert site.gate_words == words
    assert low < site.gate.min() <= site.gate.max() < high
    if temporal == "m2a(start=identity)":
        torch.testing.assert_close(site.gate, torch.ones_like(site.gate))


def test_the_gate_is_what_the_module_multiplies_by():
    model = model_with("m2a")
    module = model.backbone.get_submodule("layer1.0.conv1.temporal")
    passed = []
    handle = module.register_forward_hook(
        lambda _, inputs, output: passed.append((inputs[0], output))
    )
    gate = look(model, CLIP).sites[0].gate
    handle.remove()
    before, after = (clips[0].detach() for clips in passed[0])
    lit = (before > 1e-3).all(dim=1)  # where all channels say what they were multiplied by
    assert lit.any() and gate is not None
    torch.testing.assert_close(gate[lit], (after / before).mean(dim=1)[lit])


def test_several_modules_at_a_site_are_shown_by_their_number():
    seen = look_at("m2a,tsm,attention", sites=["layer1.0.conv1"])
    assert [site.name for site in seen.sites] == ["layer1.0.conv1 (1)", "layer1.0.conv1 (2)"]
    assert seen.absent == ("no motion at layer1.0.conv1 (2): the module there has none",)


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
def test_every_layout_of_hosts_can_be_looked_at(backbone: str, layout: str):
    seen = look_at("m2a", backbone)
    assert seen.cam is not None and seen.cam.max() == 1 and seen.cam.min() >= 0
    assert seen.absent == ()
    for site in seen.sites:
        assert site.motion is not None and site.motion.shape[1] == site.motion.shape[2]


def test_tokens_that_make_no_square_are_said_to_make_no_picture():
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
    seen = look(model, CLIP)
    assert seen.cam is None
    assert seen.absent == (
        "no motion at any site: tokens in no square",
        "no gate at any site: tokens in no square",
        "no Grad-CAM: no map of Rows that the class depends on is a picture",
    )


# ---------------------------------------------------------------------------------------- Grad-CAM


def test_grad_cam_is_taken_from_the_last_map_of_more_than_one_pixel():
    assert look_at("none").layer == "layer4"
    small = look(model_with("none", size=32), CLIP[..., :32, :32])
    assert small.layer == "layer3"  # at 32 pixels that of layer4 is a single one


def test_grad_cam_of_class_tokens_goes_back_to_where_the_class_depends_on_the_picture():
    layer = look_at("m2a", "vit_tiny_patch16_224").layer
    assert layer == "blocks.11.norm1"


def test_grad_cam_lights_up_where_the_class_is_seen():
    class Light(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels = nn.Conv2d(3, 2, 1, bias=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.pixels(images).mean(dim=(2, 3))

    light = Light()
    model = VideoRecognizer(
        Backbone(light, 2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        clip=ClipSpec(num_frames=4, image_size=64),
        class_names=["red", "blue"],
    )
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(2))
        light.pixels.weight.copy_(torch.eye(3)[[0, 2], :, None, None])
    clip = torch.zeros_like(CLIP)
    clip[1, 0, :8, :8] = 255
    clip[2, 2, 8:, 8:] = 255
    red = look(model, clip, target=0).cam
    assert red is not None
    assert red.nonzero().tolist() == (clip[:, 0] > 0).nonzero().tolist()
    blue = look(model, clip, target=1).cam
    assert blue is not None
    assert blue.nonzero().tolist() == (clip[:, 2] > 0).nonzero().tolist()


def test_the_layer_of_grad_cam_can_be_chosen():
    seen = look_at("m2a", layer="layer1")
    assert seen.layer == "layer1"
    assert seen.cam is not None and seen.cam.shape == (4, 16, 16)


# --------------------------------------------------------------------------------- nothing stays


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("temporal", ["m2a", "patch", "tea+attention", "none"])
def test_nothing_stays_on_the_model(temporal: str, training: bool):
    model = model_with(temporal).train(training)
    before, numbers = state(model), {k: v.clone() for k, v in model.state_dict().items()}
    look(model, CLIP)
    assert state(model) == before
    assert all(torch.equal(value, numbers[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("clip", "options", "words"),
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
def test_nothing_stays_on_the_model_though_it_refused(clip, options, words: str):
    model = model_with("m2a").train()
    before = state(model)
    with pytest.raises(ValueError, match=words):
        look(model, clip, **options)
    assert state(model) == before


def test_scores_are_those_of_a_plain_forward_and_gradients_may_be_switched_off_outside():
    model = model_with("m2a")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        seen = look(model, CLIP)
        torch.testing.assert_close(seen.probabilities, model.eval()(CLIP[None])[0].softmax(dim=-1))
    assert seen.cam is not None


def test_sites_of_a_model_without_any_cannot_be_asked_for():
    with pytest.raises(ValueError, match="site 'layer1' was asked for, but the model has none"):
        look_at("none", sites=["layer1"])


def test_all_sites_are_looked_at_by_default():
    model = model_with("m2a")
    assert [site.name for site in look(model, CLIP).sites] == sites(model.backbone)
