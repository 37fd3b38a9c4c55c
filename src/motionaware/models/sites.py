"""Where temporal modules go: the reference's rule for the networks it knows, one for all others.

A *host* is the layer before which a module acts. The general rule, in three sentences. A *block* is
a module of at least two weighted layers whose class repeats within one parent and that is not
itself made of such a repetition (then it is a stage). Its host is its first convolution where that
one alone takes the block's own input, else the block itself. A network that repeats no block has
its convolutions, all but the first, as hosts.

A host must last: other libraries replace norms (SyncBatchNorm, frozen norms) and the parts of
blocks that can be fused for inference (`fuse`, `reparameterize`, `switch_to_deploy`). So the rule
chooses no norm, and instead of a part of a fusable block the block around it. Only a network that
has nothing else gets modules inside fusable blocks; it must be fused before `insert`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from motionaware.errors import UsageError
from motionaware.models.shape_tracing import Host, ImageSize, Watched

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # what one adds to them, they may run
FUSED_AWAY = ("fuse",)  # timm.utils.reparameterize_model replaces modules with this method,
FUSED_INSIDE = (*FUSED_AWAY, "reparameterize", "switch_to_deploy")  # and the parts of all these
SIDE_WAYS = ("downsample", "shortcut", "skip", "identity")  # convolutions beside a block's own


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which hosts are wanted; by default those of the rule.

    Attributes:
        where: Names of layers, `*` stands for any characters; of layers inside one another that
            match, the outermost.
        stages: Which stages of the rule, counted from 1; a stage is the blocks of one parent.
        every: Of each stage the first block, and every so many blocks another.
    """

    where: tuple[str, ...] | None = None
    stages: tuple[int, ...] | None = None
    every: int | None = None

    @classmethod
    def read(
        cls,
        where: str | Iterable[str] | None,
        stages: int | Iterable[int] | None,
        every: int | None,
    ) -> "Choice":
        """Take one or several of each.

        Raises:
            ValueError: Names together with stages or steps, or numbers below 1.
        """
        if where is not None and not (stages is None and every is None):
            raise UsageError(
                f"{where = } names the sites; {stages = } and {every = } thin out those of the "
                "rule: leave out one or the other"
            )
        if every is not None and every < 1:
            raise UsageError(f"{every = }; it steps from block to block and starts at 1")
        names = (where,) if isinstance(where, str) else None if where is None else tuple(where)
        numbers = (stages,) if isinstance(stages, int) else None if stages is None else (*stages,)
        if names == () or numbers == ():
            raise UsageError(
                f"{where = }, {stages = }: an empty one names nothing; leave it out to take all"
            )
        return cls(where=names, stages=numbers, every=every)


def find_hosts(
    network: nn.Module, choice: Choice, *, num_frames: int, image_size: ImageSize | None = None
) -> list[Host]:
    """Choose hosts; nothing runs, and shapes flow only where a layer does not say what it takes.

    Args:
        network: Without temporal modules.
        choice: Which hosts.
        num_frames: Frames of the clips that the network is given.
        image_size: Side, or height and width; what the network says of itself where it is None.

    Raises:
        ValueError: Nothing fits, or what comes to a host is no clip.
    """
    modules = dict(network.named_modules())
    known = {} if choice.where else _known_hosts(network)
    names = _matching(network, choice.where) if choice.where else _thin(known, choice, known=True)
    convolutions = {n: m for n in names if isinstance(m := modules[n], nn.Conv2d)}
    if names and len(convolutions) == len(names):  # they say what they take
        return [Host(n, "frames", m.in_channels, num_frames) for n, m in convolutions.items()]
    watched = Watched(network, num_frames=num_frames, image_size=image_size)
    if not names:
        stages = _Rule(watched).hosts()
        if not stages and watched.unknown_order():
            raise UsageError(watched.unknown_order())
        if not stages:
            children = ", ".join(name for name, _ in network.named_children())
            raise UsageError(
                f"where modules go is known for networks of repeated blocks, not for "
                f"{type(network).__name__}; name convolutions with where=, e.g. "
                f"where='stages.*.conv1'; its children are {children}"
            )
        names = _thin(stages, choice, known=False)
    return [watched.host(_enter(watched, name)) for name in names]


def _matching(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    names = [name for name, _ in network.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(
                f"where={pattern!r} matches no module of {type(network).__name__}; "
                f"its children are {', '.join(name for name, _ in network.named_children())}"
            )
    return _outermost([n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)])


def _outermost(names: Sequence[str]) -> list[str]:
    """Of names inside one another the outermost."""
    kept: dict[str, None] = {}
    for name in names:  # parents come before their children
        parts = name.split(".")
        if not any(".".join(parts[:length]) in kept for length in range(1, len(parts))):
            kept[name] = None
    return list(kept)


def _known_hosts(network: nn.Module) -> dict[str, list[str]]:
    """Names of the convolutions before which the reference puts its modules, by stage.

    In ResNets the first convolution of every block. In networks of inverted residuals (MobileNetV2,
    EfficientNet) the expansion of every block that has one and a skip.
    """
    residual: dict[str, list[str]] = {}  # stage -> sites
    inverted: dict[str, list[str]] = {}
    for name, block in network.named_modules():
        stage = name.rpartition(".")[0]
        conv1 = getattr(block, "conv1", None)
        if hasattr(block, "downsample") and isinstance(conv1, (nn.Conv2d, nn.Conv3d)):
            residual.setdefault(stage, []).append(f"{name}.conv1")
        elif getattr(block, "use_res_connect", False) and len(getattr(block, "conv", ())) == 4:
            # torchvision: expand, depthwise, project, norm
            inverted.setdefault(stage, []).append(f"{name}.conv.0.0")
        elif getattr(block, "has_skip", False) and hasattr(block, "conv_pwl"):
            expansion = "conv_pw" if hasattr(block, "conv_pw") else "conv_exp"
            inverted.setdefault(stage, []).append(f"{name}.{expansion}")
    return {**residual, **inverted}


def _thin(stages: dict[str, list[str]], choice: Choice, *, known: bool) -> list[str]:
    """Keep the stages and blocks asked for.

    By default all, or, as the reference has it, of each stage of a ResNet every second block where
    the third has 23 blocks or more (ResNet-101 and deeper).
    """
    rows = list(stages.values())
    deep = known and len(rows) > 2 and rows[2][0].endswith(".conv1") and len(rows[2]) >= 23
    step = choice.every or (2 if deep else 1)
    for number in (choice.stages or ()) if rows else ():
        if not 1 <= number <= len(rows):
            raise UsageError(
                f"stages={choice.stages}, but the blocks have {len(rows)} parents: "
                f"{', '.join(stages)}; count them from 1, or name layers with where="
            )
    wanted = choice.stages or range(1, len(rows) + 1)
    return [name for number, row in enumerate(rows, 1) if number in wanted for name in row[::step]]


def _enter(watched: Watched, name: str) -> str:
    """The layer itself; for a container, which would run what joins it, its first member."""
    if not isinstance(watched.modules[name], CONTAINERS):
        return name
    return next(iter(_layers_inside(watched, name)), name)


def _layers_inside(watched: Watched, name: str) -> list[str]:
    """Layers of a module in the order of their calls, without containers."""
    return [n for n in watched.inside[name] if not isinstance(watched.modules[n], CONTAINERS)]


class _Rule:
    """The general rule for a network through which shapes have flowed."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.modules = watched.modules
        self.lasting = True  # choose no host that fusing would replace

    def hosts(self) -> dict[str, list[str]]:
        """Hosts of the general rule, by stage."""
        found = self._hosts()
        if not found:
            self.lasting = False
            found = self._hosts()
        return found

    def _hosts(self) -> dict[str, list[str]]:
        rows = {name: self._row(name) for name in self.modules}
        repeated = {kind for row in rows.values() for kind in row}
        stages = {
            type(module)
            for name, module in self.modules.items()
            if any(rows[n] for n in self.modules if n == name or n.startswith(f"{name}."))
        }
        blocks = [n for n, m in self.modules.items() if type(m) in repeated - stages]
        hosts: dict[str, list[str]] = {}
        for name in _outermost(blocks):
            host = self._entrance(name)
            if host is not None:
                hosts.setdefault(name.rpartition(".")[0], []).append(host)
        if hosts:
            return hosts
        convolutions = [
            n for n in self.watched.calls if isinstance(self.modules[n], nn.Conv2d | nn.Conv3d)
        ]
        plain = [n for n in convolutions[1:] if self.watched.read(n) and self._may_host(n)]
        return {"": plain} if plain else {}

    def _row(self, parent: str) -> set[type[nn.Module]]:
        """Classes of blocks that repeat within a parent; more often where it is no container."""
        least = 2 if type(self.modules[parent]) in CONTAINERS else 3
        members = self._members(self.modules[parent], parent)
        kinds = Counter(type(self.modules[n]) for n in members if self._is_block(n))
        return {kind for kind, number in kinds.items() if number >= least}

    def _members(self, parent: nn.Module, prefix: str) -> Iterator[str]:
        """Names of children, those inside plain containers too."""
        for key, child in parent.named_children():
            name = f"{prefix}.{key}" if prefix else key
            if type(child) in CONTAINERS:
                yield from self._members(child, name)
            elif name in self.watched.inside:
                yield name

    def _is_block(self, name: str) -> bool:
        weighted = [
            m
            for m in self.modules[name].modules()
            if not isinstance(m, _BatchNorm)
            and any(p.ndim > 1 for p in m.parameters(recurse=False))
        ]
        return len(weighted) > 1 and self._entrance(name) is not None

    def _entrance(self, name: str) -> str | None:
        """The host of a block; None where nothing that comes to it is a clip."""
        watched, call = self.watched, self.watched.calls.get(name)
        inside = _layers_inside(watched, name)
        if call is None or call.given is None:  # a list, or keywords: look behind the door
            return self._first_weighted(inside)
        if self.watched.read(name) is None or call.shape == self.watched.calls[""].shape:
            return None  # no clip, or the picture itself: that is the stem
        takers = [n for n in inside if self.watched.calls[n].given is call.given]
        convolutions = [
            n
            for n in takers
            if isinstance(self.modules[n], nn.Conv2d | nn.Conv3d)
            and not any(word in n.removeprefix(name) for word in SIDE_WAYS)
        ]
        if len(convolutions) == 1 and self._may_host(convolutions[0]):
            return convolutions[0]
        if not isinstance(self.modules[name], CONTAINERS):
            return name if self._may_host(name) else None
        return self._first_weighted(takers) or self._first_weighted(inside)

    def _first_weighted(self, names: Iterable[str]) -> str | None:
        """The first layer with weights that takes a clip and may be a host."""
        for name in names:
            weighted = any(p.ndim > 1 for p in self.modules[name].parameters())
            if weighted and self.watched.read(name) and self._may_host(name):
                return name
        return None

    def _may_host(self, name: str) -> bool:
        """True if a hook on the layer outlives the conversions of other libraries."""
        if _is_norm(self.modules[name]):
            return False
        parts = name.split(".")
        around = (self.modules[".".join(parts[:depth])] for depth in range(1, len(parts)))
        return not self.lasting or not (
            any(hasattr(self.modules[name], method) for method in FUSED_AWAY)
            or any(hasattr(module, method) for module in around for method in FUSED_INSIDE)
        )


def _is_norm(module: nn.Module) -> bool:
    """True for norms of all libraries: BatchNorm2d, LayerNorm, RMSNorm, BatchNormAct2d, ..."""
    return isinstance(module, _BatchNorm) or "norm" in type(module).__name__.lower()
