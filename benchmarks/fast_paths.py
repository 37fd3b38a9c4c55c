"""Measures how much faster the fast paths of ops/ are than the plain formulas.

    python benchmarks/fast_paths.py                       # all parts, about 10 minutes
    python benchmarks/fast_paths.py --parts module --rounds 40

    module      M2A (gate and attention) at a site     all fast paths / plain formulas
    gate        the gate without an inner module       ops/gating.py / its formula
    attention   motion attention on a gate's channels  ops/attention.py / its formula
    pointwise   the 1x1 convolutions of the gate       ops/pointwise.py / torch's convolution

Prints a Markdown table: plain time in milliseconds, and the gain (plain time / fast time) as median
[quartiles] of the ratios of rounds. Both alternate in one process on one thread, with the order
reversed every other round. The clock is CPU time, which other processes disturb little.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motionaware.ops.attention import add_attended_motion
from motionaware.ops.autograd_utils import use_fast_paths
from motionaware.ops.pointwise import convolve, convolve_backward
from motionaware.temporal.gate import Gate
from motionaware.temporal.m2a import MotionAttention, TemporalDifference

NUM_FRAMES, REDUCTION = 8, 8
SITES = [  # network, channels, pixels of a side, clips in a batch
    ("resnet18 at 112", 64, 28, 1),
    ("resnet18 at 112", 64, 28, 4),
    ("resnet18 at 112", 128, 14, 4),
    ("resnet18 at 112", 256, 7, 4),
    ("resnet18 at 112", 512, 4, 4),
    ("resnet50 at 224", 64, 56, 1),
    ("resnet50 at 224", 256, 56, 1),
    ("resnet50 at 224", 512, 28, 1),
    ("resnet50 at 224", 1024, 14, 1),
    ("resnet50 at 224", 2048, 7, 1),
]
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
Run = Callable[[], object]


def main() -> None:
    """Measure the chosen parts and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| part | site | clips | layout | pass | plain ms | gain |\n|---|---|---|---|---|---|---|"
    )
    for part in args.parts:
        for network, channels, side, num_clips in SITES:
            for layout, memory_format in LAYOUTS.items():
                torch.manual_seed(0)
                frames = torch.randn(num_clips * NUM_FRAMES, channels, side, side)
                frames = frames.contiguous(memory_format=memory_format)
                for name, plain, fast in PARTS[part](frames):
                    milliseconds, gain = race(plain, fast, rounds=args.rounds)
                    site = f"{network}: {channels} x {side} x {side}"
                    row = (part, site, num_clips, layout, name, f"{milliseconds:.2f}", gain)
                    print(f"| {' | '.join(map(str, row))} |", flush=True)


def race(plain: Run, fast: Run, *, rounds: int) -> tuple[float, str]:
    """Return the median time of `plain` in milliseconds, and the gain of `fast`."""
    seconds: dict[Run, list[float]] = {plain: [], fast: []}
    for number in range(rounds + 2):
        for run in (plain, fast) if number % 2 else (fast, plain):
            run()  # so that each is measured in the memory state that it leaves itself
            start = time.process_time()
            run()
            if number > 1:
                seconds[run].append(time.process_time() - start)
    ratios = [a / b for a, b in zip(seconds[plain], seconds[fast], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    gain = f"{median:.2f} [{low:.2f}-{high:.2f}]"
    return 1e3 * statistics.median(seconds[plain]), gain


def measure_module(frames: Tensor) -> Iterator[tuple[str, Run, Run]]:
    """Yield M2A in inference and training."""
    inner = MotionAttention(TemporalDifference())
    clips = frames.unflatten(0, (-1, NUM_FRAMES))
    yield from _passes(Gate(inner, channels=frames.shape[1], reduction=REDUCTION), clips)


def measure_gate(frames: Tensor) -> Iterator[tuple[str, Run, Run]]:
    """Yield the gate without an inner module in inference and training."""
    clips = frames.unflatten(0, (-1, NUM_FRAMES))
    yield from _passes(Gate(nn.Identity(), channels=frames.shape[1], reduction=REDUCTION), clips)


def measure_attention(frames: Tensor) -> Iterator[tuple[str, Run, Run]]:
    """Yield motion attention on as many channels as a gate has, in inference and training."""
    narrow = frames[:, : frames.shape[1] // REDUCTION].clone(memory_format=torch.preserve_format)
    if frames.is_contiguous():
        narrow = narrow.contiguous()
    yield from _passes(add_attended_motion, narrow.unflatten(0, (-1, NUM_FRAMES)))


def _passes(function: Callable[[Tensor], Tensor], clips: Tensor) -> Iterator[tuple[str, Run, Run]]:
    leaf = clips.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    d_output = torch.randn_like(clips)
    parameters = list(function.parameters()) if isinstance(function, nn.Module) else []

    def infer(fast: bool) -> None:
        with torch.inference_mode(), use_fast_paths(fast):
            function(clips)

    def train(fast: bool) -> None:
        for tensor in (leaf, *parameters):
            tensor.grad = None
        with use_fast_paths(fast):
            function(leaf).backward(d_output)

    yield "inference", lambda: infer(False), lambda: infer(True)
    yield "training step", lambda: train(False), lambda: train(True)


def measure_pointwise(frames: Tensor) -> Iterator[tuple[str, Run, Run]]:
    """Yield the two convolutions of a gate, forward and backward."""
    channels = frames.shape[1]
    width = channels // REDUCTION
    narrow = frames[:, :width].clone(memory_format=torch.preserve_format)
    if frames.is_contiguous():
        narrow = narrow.contiguous()
    for name, x, num_outputs in (("down", frames, width), ("up", narrow, channels)):
        kernel, bias = torch.randn(num_outputs, x.shape[1], 1, 1), torch.randn(num_outputs)
        d_output = torch.randn_like(narrow if name == "down" else frames)

        def forward_plainly(x=x, kernel=kernel, bias=bias) -> object:
            with torch.no_grad():
                return F.conv2d(x, kernel, bias)

        def forward(x=x, kernel=kernel, bias=bias) -> object:
            with torch.no_grad():
                return convolve(x, kernel, bias)

        def backward_plainly(d_output=d_output, x=x, kernel=kernel) -> object:
            return torch.ops.aten.convolution_backward(
                d_output, x, kernel, kernel.shape[:1],
                [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True] * 3,
            )  # fmt: skip

        def backward(d_output=d_output, x=x, kernel=kernel) -> object:
            return convolve_backward(d_output, x, kernel, [True] * 3)

        yield f"{name}, forward", forward_plainly, forward
        yield f"{name}, backward", backward_plainly, backward


PARTS: dict[str, Callable[[Tensor], Iterator[tuple[str, Run, Run]]]] = {
    "module": measure_module,
    "gate": measure_gate,
    "attention": measure_attention,
    "pointwise": measure_pointwise,
}

if __name__ == "__main__":
    main()
