"""Refuse scores that are infinite or not a number (NaN), before a class is read from them.

`argmax` and `topk` of NaN give a class without an error, so every caller that names classes checks
the scores first.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import NonFiniteScores

_NAMED = 3  # videos


def check_scores(scores: Float[Tensor, "b *k"], model: nn.Module, names: Sequence[str]) -> None:
    """Check the scores of `b` videos.

    Args:
        scores: Before the softmax, one row a video.
        model: What gave them; its weights are searched for the cause if a score is not finite.
        names: The video of each row, for the error.

    Raises:
        NonFiniteScores: A score is infinite or NaN.
    """
    # One reduction and one transfer in the usual case. A sum of finite scores can overflow, so only
    # the test below decides.
    if scores.sum().isfinite():
        return
    rows = scores.flatten(start_dim=1).isfinite().all(dim=1).logical_not().nonzero().flatten()
    if len(rows):
        found = [names[int(row)] for row in rows]
        raise NonFiniteScores(
            f"the model's scores of {shorten(found)} are infinite or not a number (NaN), so they "
            f"name no class; {_cause(model)}"
        )


def shorten(names: Sequence[str]) -> str:
    """Join the first few names; say how many more there are."""
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def broken_weights(model: nn.Module) -> list[str]:
    """The names of the parameters and buffers that hold infinite values or NaN."""
    return [
        name
        for name, tensor in model.state_dict(keep_vars=True).items()
        if tensor.is_floating_point() and not tensor.detach().isfinite().all()
    ]


def _cause(model: nn.Module) -> str:
    broken = broken_weights(model)
    if broken:
        return (
            f"{len(broken)} of the model's weights are infinite or NaN themselves, the first is "
            f"{broken[0]}: use another checkpoint, or train again with a lower "
            "optim.learning_rate"
        )
    dtype = next((one.dtype for one in model.parameters()), None)
    return (
        f"the weights are finite ({str(dtype).removeprefix('torch.')}), so values overflow inside "
        "the network: run it in float32, or use a checkpoint trained with a lower "
        "optim.learning_rate"
    )
