"""A short training loop, for benchmarks whose data or modules a recipe cannot name."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import trange

BATCH_SIZE, LEARNING_RATE = 16, 0.1  # as in recipes/motionpairs.yaml, also optimizer and schedule


def fit(model: nn.Module, clips: Tensor, labels: Tensor, *, epochs: int, seed: int) -> None:
    """Train on clips `b t 3 h w`, uint8, in memory; an incomplete last batch is dropped."""
    chance = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    steps = len(clips) // BATCH_SIZE
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps)
    model.train()
    for _ in trange(epochs, desc="epochs", leave=False):
        order = torch.randperm(len(clips), generator=chance)[: steps * BATCH_SIZE]
        for picked in order.split(BATCH_SIZE):
            loss = F.cross_entropy(model(clips[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 20)
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def answers(model: nn.Module, clips: Tensor) -> Tensor:
    """Return the most likely class of each clip."""
    model.eval()
    return torch.cat([model(some).argmax(dim=1) for some in clips.split(64)])
