"""Train a motion-aware network on the synthetic data set MotionPairs, in your own loop."""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import motionaware

clips = motionaware.MotionPairs(split="train", num_clips=96, num_frames=8, image_size=32)
model = motionaware.create_model(
    "resnet18_quarter", temporal="m2a", class_names=clips.class_names, num_frames=8
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

for step, (batch, labels) in enumerate(DataLoader(clips, batch_size=16, shuffle=True)):
    loss = F.cross_entropy(model(batch), labels)  # clips are uint8, b t 3 h w
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.3f}")
