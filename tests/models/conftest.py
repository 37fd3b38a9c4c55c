from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.fixture
def make_transformer() -> Callable[..., nn.Module]:
    """Make a small network of transformers by the names of its model class and config class."""
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")

    def make(model: str, config: str, *, small: bool = True, **options: Any) -> nn.Module:
        torch.manual_seed(0)
        options = {**(SMALL if small else {}), **options}
        network = getattr(transformers, model)(getattr(transformers, config)(**options))
        for (
            parameter
        ) in network.parameters():  # position embeddings and class tokens start as zeros
            if not parameter.any():  # position embeddings and class tokens start as zeros
                nn.init.normal_(parameter, std=0.02)
        return network.eval()

    return make
