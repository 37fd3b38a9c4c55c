#!/usr/bin/env bash
# transformers 5.24.0: from_pretrained redraws the weights of modules that a subclass adds, also where the
# module sets them itself.
#
# Expected: class Mine(ViTModel) adds a layer in __init__ and sets its weights to zero (an
# identity start, as LoRA and zero-initialised gates need it). from_pretrained of a plain ViT checkpoint reports
# the layer as MISSING, "newly initialized", and it keeps the zeros of its constructor.
# Behaviour: the constructor runs on the meta device, so its values are lost; then the class's own _init_weights
# draws the missing layer from a normal distribution with standard deviation config.initializer_range.
# Output: largest weight after Mine(config) 0.0, after Mine.from_pretrained 0.07 (random).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 transformers==5.24.0 numpy
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - "$folder/plain" 2>/dev/null <<'P'
import sys
import torch
from torch import nn
from transformers import ViTConfig, ViTModel

config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
                   image_size=32, patch_size=8)


class Mine(ViTModel):
    def __init__(self, config, **options):
        super().__init__(config, **options)
        self.extra = nn.Linear(32, 32)
        nn.init.zeros_(self.extra.weight)


torch.manual_seed(0)
ViTModel(config).save_pretrained(sys.argv[1])
built = Mine(config).extra.weight.abs().max().item()
loaded = Mine.from_pretrained(sys.argv[1]).extra.weight.abs().max().item()
print(f"largest weight: built {built:.3f}, loaded {loaded:.3f}")
assert built == 0.0 and 0.03 < loaded < 0.15
P
