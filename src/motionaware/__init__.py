"""motionaware adds temporal modules to any image or video network, to recognise motion.

>>> import torch, motionaware
>>> model = motionaware.create_model("resnet18_quarter", temporal="m2a", num_classes=3)
>>> model(torch.rand(1, 8, 3, 32, 32)).shape
torch.Size([1, 3])
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motionaware.apps.predict import Prediction as Prediction
    from motionaware.apps.predict import predict as predict
    from motionaware.apps.stream import stream as stream
    from motionaware.apps.visualize import visualize as visualize
    from motionaware.clip import ClipSpec as ClipSpec
    from motionaware.data.motionpairs import MotionPairs as MotionPairs
    from motionaware.data.video.open import open_video as open_video
    from motionaware.engine.config import Recipe as Recipe
    from motionaware.engine.config_io import read_recipe as read_recipe
    from motionaware.engine.evaluate import evaluate as evaluate
    from motionaware.engine.train import train as train
    from motionaware.errors import DataError as DataError
    from motionaware.errors import MotionAwareError as MotionAwareError
    from motionaware.errors import MotionAwareWarning as MotionAwareWarning
    from motionaware.errors import VideoError as VideoError
    from motionaware.models.checkpoint import load as load
    from motionaware.models.checkpoint import save as save
    from motionaware.models.insertion import insert as insert
    from motionaware.models.official_checkpoints import load_official as load_official
    from motionaware.models.recognizer import VideoRecognizer as VideoRecognizer
    from motionaware.models.recognizer import create_model as create_model
    from motionaware.models.site_hooks import sites as sites
    from motionaware.models.streaming import Stream as Stream
    from motionaware.temporal.table import TEMPORAL as TEMPORAL

__version__ = version("motionaware")

# The module that defines each public name. It is imported at first use: the CLI starts faster.
_MODULE_OF = {
    "ClipSpec": "clip",
    "DataError": "errors",
    "MotionAwareError": "errors",
    "MotionAwareWarning": "errors",
    "MotionPairs": "data.motionpairs",
    "Prediction": "apps.predict",
    "Recipe": "engine.config",
    "Stream": "models.streaming",
    "TEMPORAL": "temporal.table",
    "VideoError": "errors",
    "VideoRecognizer": "models.recognizer",
    "create_model": "models.recognizer",
    "evaluate": "engine.evaluate",
    "insert": "models.insertion",
    "load": "models.checkpoint",
    "load_official": "models.official_checkpoints",
    "open_video": "data.video.open",
    "predict": "apps.predict",
    "read_recipe": "engine.config_io",
    "save": "models.checkpoint",
    "sites": "models.site_hooks",
    "stream": "apps.stream",
    "train": "engine.train",
    "visualize": "apps.visualize",
}

__all__ = list(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll] - its names are the keys of the table


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'motionaware' has no attribute {name!r}")
    return getattr(importlib.import_module(f"motionaware.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
