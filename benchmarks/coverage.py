"""Check which network families the default rule of `insert` supports, on a small member of each.

    python benchmarks/coverage.py             # about ten minutes; continues after an interruption
    python benchmarks/coverage.py --again vgg # test these families again

A family is a module of timm, or one of torchvision's video networks. Its member is the smallest of
twelve networks whose names suggest a small size. Weights are random, and images are small. A family
works if, with `m2a` and with `tsm` at the sites of the default rule,

1. every tensor of the network is bitwise unchanged,
2. the features keep their shape,
3. two evaluations give equal features,
4. the features of a clip do not depend on the other clip of the batch,
5. gradients reach every parameter of every module.

Each family runs in a separate process with limits of time and memory. The results are appended to
`benchmarks/coverage.jsonl`, from which the table in `docs/backbones.md` is written.
"""

import argparse
import copy
import json
import multiprocessing
import re
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from einops import reduce
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from motionaware.models.backbones import open_backbone
from motionaware.models.insertion import insert
from motionaware.models.shape_tracing import InputRefused, takes_volumes
from motionaware.models.sites import Choice, find_hosts

RESULTS = Path(__file__).with_name("coverage.jsonl")
TABLE = Path(__file__).parents[1] / "docs" / "backbones.md"
BEGIN, END = "<!-- coverage -->", "<!-- end of coverage -->"

VIDEO = {  # families of torchvision's video networks and of inflated networks -> members
    "video.resnet (r3d)": ["r3d_18"],
    "video.resnet (mc3)": ["mc3_18"],
    "video.resnet (r2plus1d)": ["r2plus1d_18"],
    "video.s3d": ["s3d"],
    "video.swin_transformer": ["swin3d_t"],
    "video.mvit": ["mvit_v2_s"],
    "inflated ResNet (I3D)": ["i3d_resnet18"],
    "inflated MobileNet (I3D)": ["i3d_mobilenet_v2"],
}
# Image sizes in pixels; the first that a network accepts is used.
SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 384, 512)
SMALL_NAME = (
    "test_|atto|femto|pico|nano|xxx?s|xx?_?small|tiny|mini|micro|_s|[a-z]0|18|11|26|small|lite"
)
NUM_CANDIDATES = 12
NUM_CLIPS = 2
MAX_SECONDS = 300  # per family
MAX_GIGABYTES = 12  # of address space, per family


def main() -> None:
    """Test all families that have no result yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--again", nargs="*", default=[], metavar="FAMILY")
    again = parser.parse_args().again
    results = (
        [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    )
    results = [row for row in results if row["family"] not in again]
    RESULTS.write_text("".join(f"{json.dumps(row)}\n" for row in results))
    tested = {row["family"] for row in results}
    families = {**{name: timm.list_models(module=name) for name in timm.list_modules()}, **VIDEO}
    for family, members in families.items():
        if family in tested:
            continue
        row = check_in_process(family, members)
        print(f"{family:<26} {row.get('model', ''):<36} {row['verdict']}", flush=True)
        results.append(row)
        with RESULTS.open("a") as file:
            file.write(f"{json.dumps(row)}\n")
    order = list(families)
    write_table(sorted(results, key=lambda row: order.index(row["family"])))


def check_in_process(family: str, members: list[str]) -> dict[str, Any]:
    """Check a family in a process that is stopped after `MAX_SECONDS`."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, family, members))
    start = time.monotonic()
    process.start()
    sender.close()
    row: dict[str, Any] = {"family": family, "verdict": f"not tested: over {MAX_SECONDS} s"}
    try:
        if receiver.poll(MAX_SECONDS):
            row = receiver.recv()
    except EOFError:
        row["verdict"] = f"not tested: over {MAX_GIGABYTES} GB"
    process.kill()
    process.join()
    return row | {"seconds": round(time.monotonic() - start, 1)}


def _send_result(pipe: Any, family: str, members: list[str]) -> None:
    limit = MAX_GIGABYTES * 10**9
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    row: dict[str, Any] = {"family": family}
    try:
        row["model"] = smallest(members)
        row |= check_network(row["model"])
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        row["verdict"] = f"{type(error).__name__}: {reason}"
    pipe.send(row)


def smallest(members: list[str]) -> str:
    """Return the member with the fewest parameters among those whose names suggest a small size."""
    likely = sorted(members, key=lambda name: (not re.search(SMALL_NAME, name), len(name)))
    sizes: dict[str, int] = {}
    for name in likely[:NUM_CANDIDATES] if len(members) > 1 else ():
        try:
            with torch.device("meta"):
                network = timm.create_model(name, num_classes=0)
        except Exception:  # some networks compute with their weights while they are built
            network = timm.create_model(name, num_classes=0)
        sizes[name] = sum(parameter.numel() for parameter in network.parameters())
    return min(sizes, key=lambda name: sizes[name], default=members[0])


def check_network(name: str) -> dict[str, Any]:
    """Insert `m2a` and `tsm`, and check the five conditions at the top of this file."""
    network, hosts, num_frames, size = open_small(name)
    used = [host for host in hosts if host.num_frames > 1]
    row: dict[str, Any] = {
        "size": size,
        "num_frames": num_frames,
        "layout": ", ".join(sorted({host.layout for host in used})),
        "sites": len(used),
    }
    shape = (3, num_frames, size, size) if takes_volumes(network) else (num_frames, 3, size, size)
    clips = torch.rand(NUM_CLIPS, *shape)
    clips = clips if takes_volumes(network) else clips.flatten(0, 1)
    plain = run(network, clips)
    for temporal in ("m2a", "tsm"):
        changed = copy.deepcopy(network)
        insert(changed, temporal, num_frames=num_frames, image_size=size)
        modules = [changed.get_submodule(f"{host.name}.temporal") for host in used]
        after = changed.state_dict()
        if not all(torch.equal(after[key], value) for key, value in network.state_dict().items()):
            return row | {"verdict": f"{temporal}: a tensor of the network changed"}
        features, again = run(changed, clips), run(changed, clips)
        first, second = clips.chunk(2)
        mixed = run(changed, torch.cat([first, torch.rand_like(second)]))
        half = len(features) // 2
        if features.shape != plain.shape:
            return row | {"verdict": f"{temporal}: {plain.shape} became {features.shape}"}
        if not torch.equal(features, again):
            return row | {"verdict": f"{temporal}: two evaluations differ"}
        if not torch.allclose(features[:half], mixed[:half], rtol=1e-3, atol=1e-5):
            return row | {"verdict": f"{temporal}: clips of one batch mix"}
        changed(clips).square().sum().backward()
        if any(p.grad is None for module in modules for p in module.parameters()):
            return row | {"verdict": f"{temporal}: gradients do not reach every module"}
        if temporal == "m2a":
            row["parameters"] = sum(p.numel() for module in modules for p in module.parameters())
            row["gmac"] = (
                (count_macs(changed, clips) - count_macs(network, clips)) / NUM_CLIPS / 1e9
            )
    return row | {"verdict": "works"}


def open_small(name: str) -> tuple[nn.Module, list[Any], int, int]:
    """Open a network at the smallest image size that it accepts, and find its hosts."""
    error: Exception | None = None
    videos = {member for members in VIDEO.values() for member in members}
    for num_frames in (8, 16) if name in videos else (4,):
        for size in SIZES:
            try:
                network = open_backbone(name, image_size=size).network.eval()
                hosts = find_hosts(network, Choice(), num_frames=num_frames, image_size=size)
                with torch.no_grad():
                    volume = (1, 3, num_frames, size, size)
                    network(torch.rand(volume if takes_volumes(network) else (1, 3, size, size)))
            except Exception as current:  # report the last error that is not about the size
                error = error if isinstance(current, InputRefused) and error else current
                continue
            return network, hosts, num_frames, size
    assert error is not None
    raise error


def run(network: nn.Module, clips: Tensor) -> Tensor:
    """Return features, averaged over height and width if they are maps."""
    with torch.no_grad():
        features = network(clips)
    return reduce(features, "n c h w -> n c", "mean") if features.ndim == 4 else features


def count_macs(network: nn.Module, clips: Tensor) -> int:
    """Count multiply-adds. Gradients are on: without them the counter misses some networks."""
    counter = FlopCounterMode(display=False)
    with counter:
        network(clips)
    return counter.get_total_flops() // 2


def write_table(results: list[dict[str, Any]]) -> None:
    """Replace the table between its markers in the documentation."""
    works = sum(row["verdict"] == "works" for row in results)
    lines = [
        f"{works} of {len(results)} families work by the default rule "
        f"({works / len(results):.1%}); "
        f"timm {timm.__version__}, torch {torch.__version__.split('+')[0]}.",
        "",
        "| family | tested member | frames x pixels | layout | sites | M parameters of `m2a` "
        "| GMAC per clip of `m2a` | verdict |",
        "|---|---|---|---|--:|--:|--:|---|",
    ]
    for row in results:
        facts = [row["family"], row.get("model", "")]
        facts += [f"{row['num_frames']} x {row['size']}" if "size" in row else ""]
        facts += [row.get("layout", ""), str(row.get("sites", ""))]
        facts += [f"{row['parameters'] / 1e6:.3f}" if "parameters" in row else ""]
        facts += [f"{row['gmac']:.4f}" if "gmac" in row else ""]
        facts += [row["verdict"].replace("|", "/")]
        lines.append(f"| {' | '.join(facts)} |")
    before, _, rest = TABLE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    TABLE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)
    print(lines[0])


if __name__ == "__main__":
    main()
