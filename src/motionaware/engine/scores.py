"""Check that scores are finite before a class is derived from them.

`argmax` and `topk` of NaN return a class without an error. So each function that turns scores into
classes checks them first.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import NonFiniteScores

_NAMES_SHOWN = 3


def check_scores(scores: Float[Tensor, "b *k"], model: nn.Module, names: Sequence[str]) -> None:
    """Check the scores of `b` videos.

    Args:
        scores: Scores before the softmax, one row for each video.
        model: The model that computed them. If a score is not finite, its weights are checked to
            find the cause.
        names: Name of the video of each row, for the error.

    Raises:
        NonFiniteScores: A score is infinite or NaN.
    """
    # Usually one reduction and one transfer suffice. The sum of finite scores can overflow, so a
    # sum that is not finite proves nothing yet.
    if scores.sum().isfinite():
        return
    rows = scores.flatten(start_dim=1).isfinite().all(dim=1).logical_not().nonzero().flatten()
    if len(rows):
        found = [names[int(row)] for row in rows]
        raise NonFiniteScores(
            f"the model's scores of {shorten(found)} are infinite or not a number (NaN), so they "
            f"name no class; {_describe_cause(model)}"
        )


def shorten(names: Sequence[str]) -> str:
    """Join the first few different names and append how many more there are."""
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def non_finite_weights(model: nn.Module) -> list[str]:
    """Return the names of parameters and buffers that hold infinite values or NaN."""
    return [
        name
        for name, tensor in model.state_dict(keep_vars=True).items()
        if tensor.is_floating_point() and not tensor.detach().isfinite().all()
    ]


def _describe_cause(model: nn.Module) -> str:
    names = non_finite_weights(model)
    if names:
        return (
            f"{len(names)} of the model's weights are infinite or NaN themselves, the first is "
            f"{names[0]}: use another checkpoint, or train again with a lower "
            "optim.learning_rate"
        )
    dtype = next((parameter.dtype for parameter in model.parameters()), None)
    return (
        f"the weights are finite ({str(dtype).removeprefix('torch.')}), so values overflow inside "
        "the network: run it in float32, or use a checkpoint trained with a lower "
        "optim.learning_rate"
    )
