"""Measures time and memory of temporal modules, and compares M2A with its formula in plain torch.

    python benchmarks/temporal.py --json found.jsonl                  # all parts; about an hour
    python benchmarks/temporal.py --json found.jsonl --parts blocks --threads 1 --rounds 5
    python benchmarks/temporal.py --table found.jsonl                 # Markdown for docs
    python benchmarks/temporal.py --plot found.jsonl docs/performance.png

All variants alternate in one process, with the order reversed every other round. Ratios are medians
over rounds. `direct` is M2A as its paper writes it, with the same weights; `none` has no temporal
module. The part `step` measures the parts of one training step.

malloc has a large effect: by default it returns large freed blocks to the system, which clears the
pages before the next use. With `--keep` it keeps them, as `train.keep_freed_memory` does. Several
runs may append to one file.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import temporal_report
import temporal_step
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motionaware.engine.malloc import keep_freed_memory
from motionaware.models.backbones import open_backbone
from motionaware.models.insertion import insert
from motionaware.temporal.names import site_maker

SITES = [(64, 56), (128, 28), (256, 14), (512, 7)]  # channels, pixels a side
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
NUM_CLIPS, NUM_FRAMES = 4, 8  # of blocks; a network sees one clip
OTHERS = ["tsm", "tea", "tdn", "tam"]
Runs = dict[str, Callable[[], object]]


class Direct(nn.Module):
    """M2A as the paper writes it, with the weights of a Gate."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up = gate.get_submodule("down"), gate.get_submodule("up")

    def forward(self, clips: Tensor) -> Tensor:
        """Return clips of the same shape."""
        frames = clips.flatten(0, 1)
        narrow = self.down(frames).unflatten(0, clips.shape[:2])
        normal = F.layer_norm(narrow, narrow.shape[2:])
        after = torch.cat([normal[:, 1:], torch.zeros_like(normal[:, :1])], dim=1)
        motion = (after - normal).flatten(2)
        weights = (motion @ motion.mT / motion.shape[-1] ** 0.5).softmax(dim=-1)
        narrow = narrow + (weights @ motion).unflatten(2, narrow.shape[2:])
        gate = torch.sigmoid(self.up(narrow.flatten(0, 1)))
        return (frames * gate + frames).unflatten(0, clips.shape[:2])


def make(name: str, *, channels: int, num_frames: int = NUM_FRAMES) -> nn.Module:
    """Return the module of one site, with the same weights each time."""
    torch.manual_seed(0)
    maker = site_maker("m2a" if name == "direct" else name)
    assert maker is not None
    module = maker(channels=channels, num_frames=num_frames)
    return Direct(module) if name == "direct" else module


def make_direct(*, channels: int, num_frames: int) -> nn.Module:
    """Return the direct formula as a module; an argument of `insert`."""
    return make("direct", channels=channels, num_frames=num_frames)


def main() -> None:
    """Measure and append rows to a file, or show the rows of files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="file to append rows to")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="print tables")
    parser.add_argument(
        "--plot",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="files with rows, and the picture to write",
    )
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keep", action="store_true", help="let malloc keep freed memory")
    parser.add_argument(
        "--cpu-time", action="store_true", help="measure CPU time; for one thread on a busy machine"
    )
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet50", "mobilenet_v2"])
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"])
    parser.add_argument("--layouts", nargs="+", default=[*LAYOUTS], choices=[*LAYOUTS])
    parser.add_argument(
        "--size", type=int, default=224, help="height and width of a network's frames, in pixels"
    )
    args = parser.parse_args()
    if args.table or args.plot:
        if args.table:
            print(temporal_report.tables(args.table))
        if args.plot:
            temporal_report.plot(args.plot[:-1], args.plot[-1])
        return
    if args.keep:
        keep_freed_memory()
    measure = Measure(args)
    for threads in args.threads:
        torch.set_num_threads(threads)
        for part in args.parts:
            PARTS[part](measure, args)


class Measure:
    """Runs functions alternately, and writes one row for each."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.rounds, self.path = args.rounds, args.json
        self.clock = time.process_time if args.cpu_time else time.perf_counter
        self.conditions = {
            "malloc": "keeps" if args.keep else "default",
            "torch": torch.__version__,
        }
        self.conditions["clock"] = "cpu" if args.cpu_time else "wall"

    def write(self, row: dict[str, Any]) -> None:
        """Append a row to the file."""
        line = json.dumps(self.conditions | {"threads": torch.get_num_threads()} | row)
        print(line, flush=True)
        if self.path:
            with self.path.open("a") as file:
                file.write(line + "\n")

    def __call__(
        self, runs: Runs, facts: dict[str, Any], *, references: list[str], **more: dict[str, Any]
    ) -> None:
        """Write one row per function: its median time and its median ratio to each reference."""
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(self.rounds + 2):
            for name in list(runs)[:: 1 if number % 2 else -1]:
                start = self.clock()
                runs[name]()
                if number > 1:  # two warm-up rounds
                    seconds[name].append(self.clock() - start)
        for name, times in seconds.items():
            ratios = {
                reference: round(
                    statistics.median(
                        a / b for a, b in zip(times, seconds[reference], strict=True)
                    ),
                    3,
                )
                for reference in references
            }
            row = facts | {"module": name, "ms": round(1e3 * statistics.median(times), 3)}
            self.write(row | {"of": ratios} | {key: values[name] for key, values in more.items()})


def blocks(measure: Measure, args: argparse.Namespace) -> None:
    """Measure single modules at the four kinds of sites of a ResNet-18."""
    for channels, side in SITES:
        for layout, memory_format in LAYOUTS.items():
            torch.manual_seed(0)
            frames = torch.randn(NUM_CLIPS * NUM_FRAMES, channels, side, side)
            frames = frames.contiguous(memory_format=memory_format)
            clips = frames.unflatten(0, (NUM_CLIPS, NUM_FRAMES))
            names = ["direct", "m2a", *OTHERS] if channels == SITES[0][0] else ["direct", "m2a"]
            modules = {name: make(name, channels=channels) for name in names}
            compare(measure, modules, clips, {"site": [channels, side], "layout": layout}, "blocks")


def compare(
    measure: Measure, modules: dict[str, nn.Module], clips: Tensor, facts: dict[str, Any], part: str
) -> None:
    """Measure inference, a training step, and the memory kept for the backward pass."""
    leaf = clips.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    gradient = torch.randn_like(clips)

    def infer(module: nn.Module) -> None:
        with torch.inference_mode():
            module(clips)

    def step(module: nn.Module) -> None:
        leaf.grad = None
        module.zero_grad()
        module(leaf).backward(gradient)

    facts = facts | {"part": part}
    runs: Runs = {name: lambda m=module: infer(m) for name, module in modules.items()}
    runs["copy"] = clips.clone  # a lower bound for any module
    measure(runs, facts | {"what": "inference"}, references=["direct", "copy"])
    runs = {name: lambda m=module: step(m) for name, module in modules.items()}
    kept = {name: kept_bytes(module, leaf) for name, module in modules.items()}
    measure(runs, facts | {"what": "training step"}, references=["direct"], kept_bytes=kept)


def kept_bytes(module: nn.Module, inputs: Tensor) -> int:
    """Return the bytes kept for the backward pass, without the input, parameters and buffers."""
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        module(inputs)
    excluded = {
        t.untyped_storage().data_ptr() for t in (inputs, *module.parameters(), *module.buffers())
    }
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for pointer, size in sizes.items() if pointer not in excluded)


def make_network(name: str, temporal: str, memory_format: torch.memory_format) -> nn.Module:
    """Return a network with random weights, the same each time."""
    torch.manual_seed(0)
    network = open_backbone(name, pretrained=False).network
    maker = make_direct if temporal == "direct" else temporal
    return insert(network, maker, num_frames=NUM_FRAMES).to(memory_format=memory_format)


def networks(measure: Measure, args: argparse.Namespace) -> None:
    """Measure complete networks on one clip, in each mode and layout."""
    torch._dynamo.config.recompile_limit = 64  # many networks share their code
    # Otherwise a network with temporal modules runs the graph compiled for one without hooks.
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    for name in args.networks:
        facts = {"part": "networks", "network": name, "size": args.size}
        infer, step, kept = {}, {}, {}
        for layout, memory_format in LAYOUTS.items():
            if layout not in args.layouts:
                continue
            torch.manual_seed(0)
            frames = torch.randn(NUM_FRAMES, 3, args.size, args.size)
            frames = frames.contiguous(memory_format=memory_format)
            for temporal in ("none", "direct", "m2a"):
                network = make_network(name, temporal, memory_format)
                check_compiled(network, frames, args.modes)
                network_kept_bytes = kept_bytes(network.train(), frames)
                for mode in args.modes:
                    variant = f"{temporal}, {layout}, {mode}"
                    kept[variant] = network_kept_bytes
                    infer[variant] = make_pass(network, frames, mode, train=False)
                    step[variant] = make_pass(network, frames, mode, train=True)
        references = [variant for variant in infer if not variant.startswith("m2a")]
        measure(infer, facts | {"what": "inference"}, references=references)
        what = {"what": "training step"}
        measure(step, facts | what, references=references, kept_bytes=kept)
        torch.compiler.reset()


def check_compiled(network: nn.Module, frames: Tensor, modes: list[str]) -> None:
    """Check that the compiled network computes the same as the eager one."""
    if "compiled" in modes:
        with torch.inference_mode():
            compiled = torch.compile(network.eval(), fullgraph=True)(frames)
            torch.testing.assert_close(compiled, network(frames), rtol=1e-3, atol=1e-3)


def make_pass(
    network: nn.Module, frames: Tensor, mode: str, *, train: bool
) -> Callable[[], object]:
    """Return a function that runs one forward pass, and for training the backward pass too."""
    run = torch.compile(network, fullgraph=True) if mode == "compiled" else network

    def infer() -> None:
        network.eval()
        with torch.inference_mode():
            run(frames)

    def step() -> None:
        network.train().zero_grad()
        run(frames).square().mean().backward()

    return step if train else infer


def onnx(measure: Measure, args: argparse.Namespace) -> None:
    """Compare ONNX Runtime with torch on the same networks: `pip install motionaware[export]`."""
    import onnxruntime

    for name in args.networks:
        frames = torch.randn(NUM_FRAMES, 3, args.size, args.size)
        runs: Runs = {}
        for temporal in ("none", "direct", "m2a"):
            network = make_network(name, temporal, torch.contiguous_format).eval()
            program = torch.onnx.export(network, (frames,), dynamo=True, verbose=False)
            assert program is not None
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            session = onnxruntime.InferenceSession(
                program.model_proto.SerializeToString(), options, ["CPUExecutionProvider"]
            )
            feed = {session.get_inputs()[0].name: frames.numpy()}
            runs[f"{temporal}, onnx"] = lambda s=session, f=feed: s.run(None, f)
            runs[f"{temporal}, contiguous, eager"] = make_pass(
                network, frames, "eager", train=False
            )
        facts = {"part": "onnx", "network": name, "size": args.size, "what": "inference"}
        references = [variant for variant in runs if not variant.startswith("m2a")]
        measure(runs, facts, references=references)


def step(measure: Measure, args: argparse.Namespace) -> None:
    """Measure the parts of one training step."""
    for row in temporal_step.measure_steps(num_steps=args.rounds, keeps=args.keep):
        measure.write({"part": "step"} | row)


PARTS: dict[str, Callable[[Measure, argparse.Namespace], None]] = {
    "blocks": blocks,
    "networks": networks,
    "onnx": onnx,
    "step": step,
}

if __name__ == "__main__":
    main()
