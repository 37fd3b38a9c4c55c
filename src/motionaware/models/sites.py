"""Choose the hosts of a network: the layers before which temporal modules act.

ResNets and networks of inverted residuals (MobileNetV2, EfficientNet) get the sites of the
reference code. All other networks get the sites of the general rule in `block_rule.py`. Arguments
of `insert` choose among these sites, or name other layers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from motionaware.errors import UsageError
from motionaware.models.block_rule import CONTAINERS, BlockRule, layers_inside, outermost
from motionaware.models.image_size import ImageSize
from motionaware.models.input_layout import Host, LayerInputs


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which hosts to use; by default all hosts of the rule.

    Attributes:
        where: Names of layers; `*` matches any characters. If a matching layer contains another,
            only the outer one counts.
        stages: Stages of the rule, counted from 1; a stage is the blocks of one parent.
        every: Step from block to block within a stage, starting at its first block.
    """

    where: tuple[str, ...] | None = None
    stages: tuple[int, ...] | None = None
    every: int | None = None

    @classmethod
    def from_arguments(
        cls,
        where: str | Iterable[str] | None,
        stages: int | Iterable[int] | None,
        every: int | None,
    ) -> "Choice":
        """Make a choice from single values or iterables.

        Raises:
            UsageError: Names are combined with stages or a step, the step is below 1, or an
                iterable is empty.
        """
        if where is not None and not (stages is None and every is None):
            raise UsageError(
                f"{where = } names the sites; {stages = } and {every = } choose among the sites of "
                "the rule: give only one kind"
            )
        if every is not None and every < 1:
            raise UsageError(f"{every = }; wanted the step from block to block, at least 1")
        names = (where,) if isinstance(where, str) else None if where is None else tuple(where)
        numbers = (stages,) if isinstance(stages, int) else None if stages is None else (*stages,)
        if names == () or numbers == ():
            raise UsageError(
                f"{where = }, {stages = }: an empty one selects nothing; leave it out to take all"
            )
        return cls(where=names, stages=numbers, every=every)


def find_hosts(
    network: nn.Module, choice: Choice, *, num_frames: int, image_size: ImageSize | None = None
) -> list[Host]:
    """Return the chosen hosts of a network, in its order.

    The network does not run. Its shapes are traced only if a host is not a 2-D convolution, which
    shows its input layout by itself.

    Args:
        network: A network; its temporal modules are ignored.
        choice: Which hosts.
        num_frames: Frames in a clip.
        image_size: Frame size; by default the size that the network was made for.

    Raises:
        UsageError: No layer matches, or the input of a host is no clip.
    """
    modules = dict(network.named_modules())
    known = {} if choice.where else _reference_hosts(network)
    if choice.where:
        names = _matching_names(network, choice.where)
    else:
        names = _select(known, choice, is_reference=True)
    convolutions = {n: m for n in names if isinstance(m := modules[n], nn.Conv2d)}
    if names and len(convolutions) == len(names):
        return [Host(n, "frames", m.in_channels, num_frames) for n, m in convolutions.items()]
    layer_inputs = LayerInputs(network, num_frames=num_frames, image_size=image_size)
    if not names:
        stages = BlockRule(layer_inputs).hosts()
        if not stages and layer_inputs.describe_unknown_tokens():
            raise UsageError(layer_inputs.describe_unknown_tokens())
        if not stages:
            children = ", ".join(name for name, _ in network.named_children())
            raise UsageError(
                f"{type(network).__name__} has no repeated blocks, so the default sites are "
                "unknown; name convolutions with where=, e.g. where='stages.*.conv1'; its children "
                f"are {children}"
            )
        names = _select(stages, choice, is_reference=False)
    return [layer_inputs.host(_first_layer(layer_inputs, name)) for name in names]


def _matching_names(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the outermost layers that match one of the patterns."""
    names = [name for name, _ in network.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(
                f"where={pattern!r} matches no module of {type(network).__name__}; "
                f"its children are {', '.join(name for name, _ in network.named_children())}"
            )
    return outermost([n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)])


def _reference_hosts(network: nn.Module) -> dict[str, list[str]]:
    """Return the convolutions before which the reference code puts its modules, by stage.

    These are the first convolution of each block of a ResNet, and the expansion of each inverted
    residual block (MobileNetV2, EfficientNet) that has an expansion and a skip connection.
    """
    residual: dict[str, list[str]] = {}  # stage -> sites
    inverted: dict[str, list[str]] = {}
    for name, block in network.named_modules():
        stage = name.rpartition(".")[0]
        conv1 = getattr(block, "conv1", None)
        if hasattr(block, "downsample") and isinstance(conv1, (nn.Conv2d, nn.Conv3d)):
            residual.setdefault(stage, []).append(f"{name}.conv1")
        elif getattr(block, "use_res_connect", False) and len(getattr(block, "conv", ())) == 4:
            # torchvision: expansion, depthwise convolution, projection, norm
            inverted.setdefault(stage, []).append(f"{name}.conv.0.0")
        elif getattr(block, "has_skip", False) and hasattr(block, "conv_pwl"):  # timm
            expansion = "conv_pw" if hasattr(block, "conv_pw") else "conv_exp"
            inverted.setdefault(stage, []).append(f"{name}.{expansion}")
    return {**residual, **inverted}


def _select(stages: dict[str, list[str]], choice: Choice, *, is_reference: bool) -> list[str]:
    """Return the sites of the chosen stages and blocks.

    By default these are all. As in the reference code, a ResNet whose third stage has 23 blocks or
    more (ResNet-101 and deeper) gets a module in every second block.
    """
    sites_by_stage = list(stages.values())
    is_deep_resnet = (
        is_reference
        and len(sites_by_stage) > 2
        and sites_by_stage[2][0].endswith(".conv1")
        and len(sites_by_stage[2]) >= 23
    )
    step = choice.every or (2 if is_deep_resnet else 1)
    for number in (choice.stages or ()) if stages else ():
        if not 1 <= number <= len(stages):
            raise UsageError(
                f"stages={choice.stages}, but the blocks have {len(stages)} parents: "
                f"{', '.join(stages)}; count them from 1, or name layers with where="
            )
    wanted = choice.stages or range(1, len(stages) + 1)
    return [
        site
        for number, sites in enumerate(sites_by_stage, 1)
        if number in wanted
        for site in sites[::step]
    ]


def _first_layer(layer_inputs: LayerInputs, name: str) -> str:
    """Return the layer; for a container, which would run a new child, the first layer inside."""
    if not isinstance(layer_inputs.modules[name], CONTAINERS):
        return name
    return next(iter(layers_inside(layer_inputs, name)), name)
