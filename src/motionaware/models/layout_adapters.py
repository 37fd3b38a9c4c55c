"""Adapters: forward pre-hooks that convert a host's input to clips `b t c h w` and back.

There is one adapter per input layout; see `input_layout.py` for the layouts.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from motionaware.models.site_hooks import Adapter, is_symbol
from motionaware.models.token_grid import find_clip_grid, find_grid, grid_in_arguments
from motionaware.ops import layout


@dataclass(frozen=True)
class FramesAdapter(Adapter):
    """Runs a temporal module on frames `(b t) c h w`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the host's first input by the output of its temporal module."""
        frames, *rest = inputs
        clips = layout.unfold_time(frames, num_frames=self.host.num_frames)
        return layout.fold_time(self.run(host, clips)), *rest


@dataclass(frozen=True)
class MapsAdapter(Adapter):
    """Runs a temporal module on maps with channels last, `(b t) h w c`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the host's first input by the output of its temporal module."""
        maps, *rest = inputs
        clips = layout.unfold_maps(maps, num_frames=self.host.num_frames)
        return layout.fold_maps(self.run(host, clips)), *rest


@dataclass(frozen=True)
class TokensAdapter(Adapter):
    """Runs a temporal module on image tokens `(b t) n c`; prefix tokens pass unchanged."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the host's image tokens by the output of its temporal module."""
        tokens, *rest = inputs
        site, num_prefix = self.host, self.host.num_prefix
        if site.grid and is_symbol(tokens):  # torch.fx traces for the frame size of `insert`
            height, _ = site.grid
        else:
            height, _ = find_grid(
                tokens.shape[1] - num_prefix,
                rest,
                site=site.name,
                module=host.get_submodule(self.path_of_module()),
                map_sizes=[] if site.map_size is None else site.map_size.sizes(),
                scale=site.scale,
                inserted_for=site.grid,
            )
        clips = layout.unfold_token_maps(
            tokens[:, num_prefix:], num_frames=site.num_frames, height=height
        )
        image_tokens = layout.fold_tokens(self.run(host, clips))
        return _with_prefix(tokens, image_tokens, num_prefix), *rest


@dataclass(frozen=True)
class VolumesAdapter(Adapter):
    """Runs a temporal module on volumes of a 3-D network, `b c t h w`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the host's first input by the output of its temporal module."""
        volumes, *rest = inputs
        clips = layout.unfold_volumes(volumes)
        return layout.fold_volumes(self.run(host, clips)), *rest


@dataclass(frozen=True)
class VolumeMapsAdapter(Adapter):
    """Runs a temporal module on volumes with channels last, `b t h w c`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the host's first input by the output of its temporal module."""
        maps, *rest = inputs
        clips = layout.unfold_volume_maps(maps)
        return layout.fold_volume_maps(self.run(host, clips)), *rest


@dataclass(frozen=True)
class VolumeTokensAdapter(Adapter):
    """Runs a temporal module on the tokens of whole clips, `b n c`.

    The host's second input may be the grid `(t, h, w)`.
    """

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the host's image tokens by the output of its temporal module."""
        tokens, *rest = inputs
        given = grid_in_arguments(rest)
        if given is not None and len(given) == 3:
            t, h, w = given
            num_prefix = tokens.shape[1] - t * h * w
        else:
            site, num_prefix = self.host, self.host.num_prefix
            t, h, w = find_clip_grid(
                tokens.shape[1] - num_prefix,
                site=site.name,
                map_sizes=[] if site.map_size is None else site.map_size.sizes(),
                num_frames=site.num_frames,
                inserted_for=site.grid,
            )
        fold, unfold = layout.fold_volume_tokens, layout.unfold_volume_tokens
        if self.host.time_last:
            fold, unfold = layout.fold_time_last_tokens, layout.unfold_time_last_tokens
        clips = unfold(tokens[:, num_prefix:], num_frames=t, height=h)
        return _with_prefix(tokens, fold(self.run(host, clips)), num_prefix), *rest


def _with_prefix(tokens: Any, image_tokens: Any, num_prefix: int) -> Any:
    """Return new image tokens behind the unchanged prefix tokens."""
    return torch.cat([tokens[:, :num_prefix], image_tokens], dim=1) if num_prefix else image_tokens


ADAPTERS: dict[str, type[Adapter]] = {  # by the layout of the host's input
    "frames": FramesAdapter,
    "maps": MapsAdapter,
    "tokens": TokensAdapter,
    "volumes": VolumesAdapter,
    "volumemaps": VolumeMapsAdapter,
    "volumetokens": VolumeTokensAdapter,
}
