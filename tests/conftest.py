from pathlib import Path

import pytest

from motionaware.apps.prepare import prepare
from motionaware.clip import ClipSpec
from motionaware.engine.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
    TrainConfig,
)


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Seconds of training with all that a resumed run has to carry on: dropout, momentum, average.

    30 clips in batches of 8, two at a time: two steps an epoch, the last one of 14 clips.
    """
    return Recipe(
        model=ModelConfig(backbone="resnet18_quarter", temporal="m2a"),
        clip=ClipSpec(num_frames=4, image_size=32),
        data=DataConfig(
            kind="motionpairs",
            root=str(tmp_path_factory.mktemp("motionpairs")),
            num_workers=0,
            num_train_clips=30,
            num_val_clips=12,
            num_test_clips=12,
        ),
        optim=OptimConfig(learning_rate=0.02, milestones_epochs=(2,)),
        train=TrainConfig(epochs=2, batch_size=8, accumulate=2, num_threads=1, device="cpu"),
        eval=EvalConfig(batch_size=6),
    )


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One mp4 of 6 frames a class and split."""
    root = tmp_path_factory.mktemp("videos")
    prepare(root, num_clips={"train": 12, "val": 12, "test": 12}, num_frames=6, image_size=32)
    return root
