"""Record what a model computes on one clip: class probabilities, Grad-CAM and maps at the sites."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import reduce
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motionaware.engine.evaluate import evaluation_mode
from motionaware.engine.scores import check_scores
from motionaware.errors import UsageError
from motionaware.explain.grad_cam import Hook, grad_cam, output_hooks, spatial_layers
from motionaware.messages import did_you_mean
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import sites as sites_of
from motionaware.models.site_hooks import temporal_modules
from motionaware.temporal.shown_maps import MAP_KINDS, MapKind, ShownMap, ShowsMaps


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteMaps:
    """The maps that the temporal module at a site declares; None for those that it does not.

    Attributes:
        name: Name of the host. If several modules at the site have maps, their numbers follow.
        motion: Root mean square over the channels of the motion. Where the module compares
            normalised frames, the unit is their standard deviation.
        gate: Mean over the channels of the factor on the site's input, or of what is added to it.
        gate_label: What the gate's numbers mean, and their range.
        attention: How much each frame (row) attends to each frame (column); the mean over heads or
            patches.
    """

    name: str
    motion: Float[Tensor, "t h w"] | None = None
    gate: Float[Tensor, "t h2 w2"] | None = None
    gate_label: str = ""
    attention: Float[Tensor, "t t2"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """What a model computes on one clip.

    Attributes:
        probabilities: Softmax of the class scores.
        target: The class that Grad-CAM explains.
        cam: Grad-CAM, divided by its largest value in the clip; None if no layer allows it.
        layer: Name of the layer that Grad-CAM uses.
        sites: The maps of each site that has any, in the order of the network.
        absent: One sentence for each kind of map that a reader may expect but that does not exist.
    """

    probabilities: Float[Tensor, "k"]
    target: int
    cam: Float[Tensor, "t h w"] | None
    layer: str | None
    sites: tuple[SiteMaps, ...]
    absent: tuple[str, ...]


def record_activations(
    model: VideoRecognizer,
    clip: UInt8[Tensor, "t 3 h w"],
    *,
    sites: Sequence[str] | None = None,
    target: int | None = None,
    layer: str | None = None,
    video_name: str = "the clip",
) -> Activations:
    """Run a model on one clip and return its probabilities, Grad-CAM and the maps of its sites.

    The maps are read by forward hooks. The hooks are removed and the model's mode is restored
    afterwards, also after an error.

    Args:
        model: Is run in evaluation mode.
        clip: RGB frames in [0, 255], in the number and size of `model.clip`.
        sites: Names of hosts whose maps are recorded; all by default.
        target: The class that Grad-CAM explains; the most probable one by default.
        layer: The layer that Grad-CAM uses; by default the last layer that has a map of more than
            one pixel on which the class score depends.
        video_name: Name of the video in error messages.

    Raises:
        NonFiniteScores: The model's scores are infinite or NaN.
        UsageError: A site or layer is unknown, the clip does not fit `model.clip`, or a module's
            `shown_maps` does not follow its protocol.
    """
    hosts = sites_of(model.backbone)
    for name in sites or ():
        check_known(name, hosts, what="site")
    declared = _declared_maps(model.backbone, hosts if sites is None else sites)
    recorded: dict[str, dict[str, Any]] = {name: {} for name in declared}
    outputs: dict[str, Any] = {}
    hooks = [
        (shown.module, _recording_hook(name, kind, shown, recorded[name]))
        for name, maps in declared.items()
        for kind, shown in maps.items()
    ]
    hooks += output_hooks(model.backbone, outputs)
    with evaluation_mode(model), forward_hooks(hooks), torch.enable_grad():
        pixels = clip[None].to(model.mean) / 255
        scores = model(pixels.requires_grad_())[0]
        check_scores(scores.detach()[None], model, [video_name])
        probabilities = scores.detach().softmax(dim=-1).float().cpu()
        target = int(probabilities.argmax()) if target is None else target
        if layer is not None:
            check_known(layer, spatial_layers(model, outputs), what="layer")
        cam = grad_cam(model, outputs, scores[target], layer=layer)
    with_maps = {name: maps for name, maps in recorded.items() if maps}
    absent = _absent_maps(hosts, with_maps)
    if cam is None:
        kind = type(model.backbone).__name__
        absent.append(
            f"no Grad-CAM: {kind} has no spatial map of more than one pixel that the class "
            "depends on"
        )
    return Activations(
        probabilities=probabilities,
        target=target,
        cam=None if cam is None else cam[1],
        layer=None if cam is None else cam[0],
        sites=tuple(
            SiteMaps(name=name, **_without_columns(maps)) for name, maps in with_maps.items()
        ),
        absent=tuple(absent),
    )


@contextmanager
def forward_hooks(hooks: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Register forward hooks inside the `with` block, and remove them when it ends."""
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_known(name: str, known: Iterable[str], *, what: str) -> None:
    """Check that a name is one of the known names.

    Raises:
        UsageError: It is not; the message offers a similar name and lists the first known ones.
    """
    known = list(known)
    if name in known:
        return
    if not known:
        raise UsageError(f"{what} {name!r} was given, but the model has none; leave it out")
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    hint = did_you_mean(name, known, then=f"known: {listed}")
    raise UsageError(f"{what} {name!r} is unknown; {hint}")


# ------------------------------------------------------------------------------- maps of the sites


def _declared_maps(network: nn.Module, hosts: Iterable[str]) -> dict[str, dict[MapKind, ShownMap]]:
    """Return the maps that the temporal modules of each site declare, by the name of the site."""
    paths = temporal_modules(network)
    found = {}
    for host in hosts:
        temporal = network.get_submodule(paths[host])
        parts = list(temporal) if isinstance(temporal, nn.Sequential) else [temporal]
        declared = [maps for part in parts if (maps := _maps_of(part))]
        for number, maps in enumerate(declared, start=1):
            found[host if len(declared) == 1 else f"{host} ({number})"] = maps
    return found


def _maps_of(temporal: nn.Module) -> dict[MapKind, ShownMap]:
    """Return the first map of each kind that a temporal module or a module inside it declares."""
    maps: dict[MapKind, ShownMap] = {}
    for module in temporal.modules():
        if isinstance(module, ShowsMaps):
            for kind, shown in module.shown_maps().items():
                if kind not in MAP_KINDS or not isinstance(shown, ShownMap):
                    raise UsageError(
                        f"{type(module).__name__}.shown_maps() gives {kind!r}: "
                        f"{type(shown).__name__}; wanted a ShownMap for each of "
                        f"{', '.join(MAP_KINDS)} that it has"
                    )
                maps.setdefault(kind, shown)
    return maps


def _recording_hook(site: str, kind: MapKind, shown: ShownMap, recorded: dict[str, Any]) -> Hook:
    """Return a forward hook that reads one declared map and stores it in `recorded`."""
    num_axes = 2 if kind == "attention" else 4

    def record(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        with torch.no_grad():
            value = shown.read(inputs, output)
            if value is None:
                return
            if value.ndim != num_axes:
                raise UsageError(
                    f"{kind} at {site} has the shape {tuple(value.shape)}; wanted "
                    f"{'t t' if num_axes == 2 else 't c h w'}: let `read` return it so"
                )
            if kind == "motion":
                recorded[kind] = rms_over_channels(value).cpu()
            elif kind == "gate":
                recorded[kind] = reduce(value, "t c h w -> t h w", "mean").cpu()
                recorded["gate_label"] = shown.label
            else:
                recorded[kind] = value.float().cpu()

    return record


def rms_over_channels(motion: Float[Tensor, "t c h w"]) -> Float[Tensor, "t h w"]:
    """Return the root mean square over the channels at each pixel."""
    return reduce(motion.float().square(), "t c h w -> t h w", "mean").sqrt()


def _without_columns(maps: Mapping[str, Any]) -> dict[str, Any]:
    """Replace maps of tokens that form no square by None; their tokens are one column of pixels."""
    return {kind: None if _is_column(value) else value for kind, value in maps.items()}


def _is_column(value: Tensor | str) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3 and value.shape[2] == 1 < value.shape[1]


def _absent_maps(hosts: Sequence[str], recorded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one sentence for each kind of map that is missing at some or all sites."""
    if not hosts:
        return ["the model has no temporal modules: no motion, no gate, no attention"]
    if not recorded:
        return ["the temporal modules declare no motion, no gate and no attention"]
    sentences = []
    for kind in MAP_KINDS:
        sites_by_reason: dict[str, list[str]] = defaultdict(list)
        for site, maps in recorded.items():
            if kind not in maps:
                sites_by_reason["the module there has none"].append(site)
            elif _is_column(maps[kind]):
                sites_by_reason["its tokens form no square"].append(site)
        for reason, names in sites_by_reason.items():
            where = "any site" if len(names) == len(recorded) else ", ".join(names)
            sentences.append(f"no {kind} at {where}: {reason}")
    return sentences
