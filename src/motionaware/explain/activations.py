"""Looking: what a model sees in one clip, taken by hooks that are gone afterwards."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motionaware.engine.evaluate import evaluation_mode
from motionaware.engine.scores import check_scores
from motionaware.errors import UsageError
from motionaware.explain.grad_cam import Hook, grad_cam, map_hooks, picture_layers
from motionaware.messages import did_you_mean
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import sites as sites_of
from motionaware.models.site_hooks import temporal_modules
from motionaware.ops.attention import normalize_frames
from motionaware.temporal.causal_modules import PastDifference
from motionaware.temporal.gate import Gate
from motionaware.temporal.m2a import MotionAttention, TemporalDifference
from motionaware.temporal.official import OfficialExcitation, OfficialPatchAttention
from motionaware.temporal.patch import PatchMotionAttention
from motionaware.temporal.tdn import BidirectionalDifference, LongTermDifference
from motionaware.temporal.tea import AlignedDifference

MOTIONS = (
    TemporalDifference,
    PastDifference,
    AlignedDifference,
    BidirectionalDifference,
    OfficialExcitation,
)
PATCHES = (PatchMotionAttention, OfficialPatchAttention)
SHOWN = (Gate, MotionAttention, LongTermDifference, *MOTIONS, *PATCHES)

# How a gate combines or starts -> what its last convolution says, and in which words.
GATES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "half": ("gate, in (1, 2)", lambda wide: 1 + wide.sigmoid()),
    "identity": ("gate, in (0, 2)", lambda wide: 2 * wide.sigmoid()),
    "add": ("gate: what is added", lambda wide: wide),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """What a site shows of a clip; None where its module has no such thing.

    Attributes:
        name: Of the host; of several modules there each has its number behind it.
        motion: Root mean square over the channels of what the module takes for motion. Where it
            compares normalised frames the unit is their standard deviation.
        gate: Mean over the channels of the factor on the site's input, or of what is added to it.
        gate_words: What these numbers are, and where they lie.
        attention: How much each frame (row) attends to each frame (column); mean over heads, or
            over patches.
    """

    name: str
    motion: Float[Tensor, "t h w"] | None = None
    gate: Float[Tensor, "t h2 w2"] | None = None
    gate_words: str = ""
    attention: Float[Tensor, "t t2"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What a model sees in a clip.

    Attributes:
        probabilities: Of the classes.
        target: The class that Grad-CAM was asked about.
        cam: Its Grad-CAM, divided by the largest value in the clip; None if there is none.
        layer: Whose map it was taken from.
        sites: What they show, in the order of the network.
        absent: What a reader would look for in vain, a sentence each.
    """

    probabilities: Float[Tensor, "k"]
    target: int
    cam: Float[Tensor, "t h w"] | None
    layer: str | None
    sites: tuple[Site, ...]
    absent: tuple[str, ...]


def look(
    model: VideoRecognizer,
    clip: UInt8[Tensor, "t 3 h w"],
    *,
    sites: Sequence[str] | None = None,
    target: int | None = None,
    layer: str | None = None,
    video_name: str = "the clip",
) -> Look:
    """See what a model sees in a clip; the model is left as it was, whatever happens.

    Args:
        model: It is evaluated in evaluation mode.
        clip: Frames as the model wants them.
        sites: Names of hosts to look at; all by default.
        target: The class for Grad-CAM; the likeliest by default.
        layer: Whose map Grad-CAM takes; by default the last one of more than one pixel on which the
            class depends.
        video_name: For errors.

    Raises:
        NonFiniteScores: The model's scores are infinite or NaN.
        ValueError: A site or layer is unknown, or the clip is not as the model wants it.
    """
    hosts = sites_of(model.backbone)
    for name in sites or ():
        check_known(name, hosts, what="site")
    terms = dict(_terms(model.backbone, hosts if sites is None else sites))
    notes: dict[str, dict[str, Any]] = {name: {} for name in terms}
    maps: dict[str, Any] = {}
    hooks = [pair for name, term in terms.items() for pair in _hooks(term, notes[name])]
    hooks += map_hooks(model.backbone, maps)
    with evaluation_mode(model), hooked(hooks), torch.enable_grad():
        pixels = clip[None].to(model.mean) / 255
        scores = model(pixels.requires_grad_())[0]
        check_scores(scores.detach()[None], model, [video_name])
        probabilities = scores.detach().softmax(dim=-1).float().cpu()
        target = int(probabilities.argmax()) if target is None else target
        if layer is not None:
            check_known(layer, picture_layers(model, maps), what="layer")
        cam = grad_cam(model, maps, scores[target], layer=layer)
    found = [Site(name=name, **_checked(note)) for name, note in notes.items() if note]
    absent = _absences(hosts, found, [note for note in notes.values() if note])
    if cam is None:
        kind = type(model.backbone).__name__
        absent += [f"no Grad-CAM: no map of {kind} that the class depends on is a picture"]
    return Look(
        probabilities=probabilities,
        target=target,
        cam=None if cam is None else cam[1],
        layer=None if cam is None else cam[0],
        sites=tuple(found),
        absent=tuple(absent),
    )


@contextmanager
def hooked(hooks: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Let hooks look at the outputs of modules, and take them away again."""
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_known(name: str, known: Iterable[str], *, what: str) -> None:
    """Refuse a name that is none of the known ones, offering one that is near.

    Raises:
        ValueError: It is none of them.
    """
    known = list(known)
    if name in known:
        return
    if not known:
        raise UsageError(f"{what} {name!r} was asked for, but the model has none; leave it out")
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    raise UsageError(f"{what} {name!r} is unknown; {did_you_mean(name, known)}There are {shown}")


# ------------------------------------------------------------------------------------ at the sites


def _terms(network: nn.Module, hosts: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    """The modules of each site that have something to show, by the name of the site."""
    paths = temporal_modules(network)
    for host in hosts:
        temporal = network.get_submodule(paths[host])
        parts = list(temporal) if isinstance(temporal, nn.Sequential) else [temporal]
        shown = [part for part in parts if _first(part, *SHOWN) is not None]
        for number, part in enumerate(shown, start=1):
            yield (host if len(shown) == 1 else f"{host} ({number})"), part


def _first(term: nn.Module, *kinds: type[nn.Module]) -> nn.Module | None:
    return next((module for module in term.modules() if isinstance(module, kinds)), None)


def _hooks(term: nn.Module, note: dict[str, Any]) -> Iterator[tuple[nn.Module, Hook]]:
    """What notes the motion, the gate and the attention of one module, as far as it has them."""
    gate = _first(term, Gate)
    if isinstance(gate, Gate):
        words, factor = GATES["add" if gate.combine == "add" else gate.start]

        def keep_gate(_: nn.Module, inputs: tuple[Tensor], frames: Tensor) -> None:
            # `up` is given the frames of all clips as images, and there is one clip.
            note["gate"] = reduce(factor(frames.detach()), "t c h w -> t h w", "mean").cpu()
            note["gate_words"] = words

        yield gate.up, keep_gate
    excited = _first(term, LongTermDifference)
    if isinstance(excited, LongTermDifference):

        def keep_factor(_: nn.Module, inputs: tuple[Tensor], clips: Tensor) -> None:
            note["gate"] = reduce(1 + clips[0].detach(), "t c h w -> t h w", "mean").cpu()
            note["gate_words"] = "gate, in (1/2, 3/2)"

        yield excited.motion, keep_factor
    if (motion := _first(term, *MOTIONS)) is not None:

        def keep_motion(_: nn.Module, inputs: tuple[Tensor], clips: Tensor) -> None:
            note["motion"] = energy(clips)[0].cpu()

        yield motion, keep_motion
    if (attention := _first(term, MotionAttention)) is not None:

        def keep_attention(one: nn.Module, inputs: tuple[Tensor], clips: Tensor) -> None:
            assert isinstance(one, MotionAttention)
            with torch.no_grad():
                note["attention"] = one.attention_map(inputs[0])[0].float().cpu()

        yield attention, keep_attention
    patches = _first(term, *PATCHES)
    if isinstance(patches, PATCHES):
        size = patches.patch_size

        def keep_patches(_: nn.Module, inputs: tuple[Tensor], clips: Tensor) -> None:
            if not (isinstance(patches, OfficialPatchAttention) and inputs[0].shape[-2] % size):
                note.update(_in_patches(inputs[0].detach(), size))

        yield patches, keep_patches


def energy(motion: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t h w"]:
    """How much moves at each place: the root mean square over the channels."""
    return reduce(motion.detach().float().square(), "b t c h w -> b t h w", "mean").sqrt()


def _in_patches(clips: Float[Tensor, "1 t c h w"], size: int) -> dict[str, Tensor]:
    """Motion inside each patch, and how patches attend over time, in the mean."""
    h, w = clips.shape[-2:]
    whole = F.pad(clips[0], (0, -w % size, 0, -h % size), mode="replicate")
    y, x = (length // size for length in whole.shape[-2:])
    patches = rearrange(whole, "t c (y p) (x q) -> (y x) t c p q", y=y, x=x)
    attention = MotionAttention(TemporalDifference())
    moving = energy(attention.motion(normalize_frames(patches)))
    picture = rearrange(moving, "(y x) t p q -> t (y p) (x q)", y=y, x=x)
    weights = reduce(attention.attention_map(patches), "n t t2 -> t t2", "mean")
    return {"motion": picture[:, :h, :w].cpu(), "attention": weights.float().cpu()}


def _checked(note: dict[str, Any]) -> dict[str, Any]:
    """Without pictures of tokens that are no picture: they lie in one column."""
    return {
        what: None
        if isinstance(value, Tensor) and value.ndim == 3 and value.shape[2] == 1 < value.shape[1]
        else value
        for what, value in note.items()
    }


def _absences(
    hosts: Sequence[str], found: Sequence[Site], notes: Sequence[Mapping[str, Any]]
) -> list[str]:
    if not hosts:
        return ["the model has no temporal modules: no motion, no gate, no attention"]
    if not found:
        return ["the temporal modules take no differences, have no gate and do not attend"]
    lines = []
    for what in ("motion", "gate", "attention"):
        reasons: dict[str, list[str]] = {}
        for site, note in zip(found, notes, strict=True):
            if getattr(site, what) is None:
                why = "the module there has none" if what not in note else "tokens in no square"
                reasons.setdefault(why, []).append(site.name)
        for why, names in reasons.items():
            where = "any site" if len(names) == len(found) else ", ".join(names)
            lines.append(f"no {what} at {where}: {why}")
    return lines
