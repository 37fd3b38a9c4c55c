"""Makes tables and a plot from the rows of benchmarks/temporal.py."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(paths: Iterable[Path]) -> list[Row]:
    """Return the rows of all files; the last one of those with the same conditions."""
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    conditions = ("part", "site", "network", "size", "recipe", "layout", "what", "module")
    conditions += ("threads", "malloc", "clock")
    return list({json.dumps([row.get(key) for key in conditions]): row for row in rows}.values())


def tables(paths: Iterable[Path]) -> str:
    """Return all tables as Markdown."""
    rows = read(paths)
    parts = (_blocks(rows), _others(rows), _networks(rows), _onnx(rows), _steps(rows))
    return "\n".join(line for part in parts for line in part)


def _select(rows: list[Row], **facts: Any) -> list[Row]:
    return [row for row in rows if all(row.get(key) == value for key, value in facts.items())]


def _groups(rows: list[Row], *keys: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[str, tuple[tuple[Any, ...], list[Row]]] = {}
    for row in rows:
        key = tuple(row.get(key) for key in keys)
        groups.setdefault(json.dumps(key), (key, []))[1].append(row)
    yield from groups.values()


def _head(title: str, columns: list[str]) -> Iterator[str]:
    yield from ("", f"**{title}**", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|")


def _line(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _faster(row: Row, reference: str) -> str:
    return f"{1 / row['of'][reference]:.2f}x"


def _megabytes(row: Row) -> float:
    return row["kept_bytes"] / 1e6


def _blocks(rows: list[Row]) -> Iterator[str]:
    for (threads, malloc), some in _groups(_select(rows, part="blocks"), "threads", "malloc"):
        yield from _head(
            f"{threads} thread{'s' * (threads > 1)}, malloc {malloc}",
            ["site", "layout", "copy", "inference", "faster", "step", "faster", "MB kept", "of"],
        )
        for (site, layout), here in _groups(some, "site", "layout"):
            found = {(row["module"], row["what"]): row for row in here}
            keys = [("m2a", "inference"), ("m2a", "training step")]
            if any(key not in found for key in keys):
                continue
            direct = [found["direct", what] for _, what in keys]
            ours = [found[key] for key in keys]
            yield _line(
                f"{site[0]} x {site[1]} x {site[1]}",
                layout,
                f"{found['copy', 'inference']['ms']:.1f}",
                f"{direct[0]['ms']:.1f} -> {ours[0]['ms']:.1f}",
                _faster(ours[0], "direct"),
                f"{direct[1]['ms']:.1f} -> {ours[1]['ms']:.1f}",
                _faster(ours[1], "direct"),
                f"{_megabytes(direct[1]):.1f} -> {_megabytes(ours[1]):.1f}",
                f"{ours[1]['kept_bytes'] / direct[1]['kept_bytes']:.2f}",
            )


def _others(rows: list[Row]) -> Iterator[str]:
    some = [row for row in _select(rows, part="blocks") if row["site"] == [64, 56]]
    for (threads, malloc, layout), here in _groups(some, "threads", "malloc", "layout"):
        found = {(row["module"], row["what"]): row for row in here}
        modules = dict.fromkeys(row["module"] for row in here if row["what"] != "inference")
        yield from _head(
            f"All modules at 64 x 56 x 56, {layout}, threads {threads}, malloc {malloc}",
            ["module", "inference", "step", "MB kept"],
        )
        for name in modules:
            step, infer = found[name, "training step"], found[name, "inference"]
            yield _line(name, infer["ms"], step["ms"], f"{_megabytes(step):.1f}")


def _networks(rows: list[Row]) -> Iterator[str]:
    keys = ("network", "size", "threads", "malloc", "what")
    for (network, size, threads, malloc, what), here in _groups(
        _select(rows, part="networks"), *keys
    ):
        yield from _head(
            f"{network} at 8 x {size} x {size}, {what}, threads {threads}, malloc {malloc}",
            ["mode", "none", "direct", "ours", "ours of none", "faster than direct, same mode",
             "faster than direct, contiguous eager"],
        )  # fmt: skip
        found = {row["module"]: row for row in here}
        for name, ours in found.items():
            temporal, mode = name.split(", ", 1)
            if temporal != "m2a":
                continue
            base = "direct, contiguous, eager"
            yield _line(
                mode,
                *(f"{found[f'{one}, {mode}']['ms']:.0f}" for one in ("none", "direct", "m2a")),
                f"{ours['of'][f'none, {mode}']:.3f}",
                _faster(ours, f"direct, {mode}"),
                _faster(ours, base) if base in ours["of"] else "",
            )


def _onnx(rows: list[Row]) -> Iterator[str]:
    keys = ("network", "size", "threads", "malloc")
    for (network, size, threads, malloc), here in _groups(_select(rows, part="onnx"), *keys):
        yield from _head(
            f"{network} at 8 x {size} x {size}, ONNX Runtime, threads {threads}, malloc {malloc}",
            ["mode", "ms", "faster than direct, onnx", "faster than direct, contiguous eager"],
        )
        for row in here:
            yield _line(
                row["module"],
                f"{row['ms']:.0f}",
                _faster(row, "direct, onnx"),
                _faster(row, "direct, contiguous, eager"),
            )


def _steps(rows: list[Row]) -> Iterator[str]:
    some = _select(rows, part="step")
    if not some:
        return
    parts = list(dict.fromkeys(part for row in some for part in row["parts"]))
    columns = ["recipe", "threads", "malloc", *parts, "page faults"]
    yield from _head("Parts of a training step, in per cent of its time", columns)
    for row in some:
        yield _line(
            row["recipe"],
            row["threads"],
            row["malloc"],
            *(f"{100 * row['parts'].get(part, 0) / row['ms']:.1f}" for part in parts),
            row["page_faults"],
        )


def plot(paths: Iterable[Path], target: Path) -> None:
    """Plot speed relative to the direct formula, and memory kept: one group of bars per site."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in _select(read(paths), part="blocks", module="m2a") if row["threads"] == 1]
    direct = _select(read(paths), part="blocks", module="direct", what="training step", threads=1)
    mallocs = list(dict.fromkeys(row["malloc"] for row in rows))
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    sites = list(dict.fromkeys(tuple(row["site"]) for row in rows))
    labels = [f"{c}x{side}x{side}" for c, side in sites]
    series = [(malloc, layout) for malloc in mallocs for layout in ("contiguous", "channels last")]
    for axis, what in zip(axes, ("inference", "training step"), strict=False):
        for number, (malloc, layout) in enumerate(series):
            found = {
                tuple(row["site"]): 1 / row["of"]["direct"]
                for row in _select(rows, what=what, malloc=malloc, layout=layout)
            }
            width = 0.8 / len(series)
            axis.bar(
                [place + number * width for place in range(len(sites))],
                [found.get(site, 0) for site in sites],
                width,
                label=f"{layout}, malloc {malloc}",
            )
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_title(f"{what}: speed-up over the direct formula")
    axes[0].legend(fontsize=7)
    for number, (name, some) in enumerate((("direct", direct), ("ours", rows))):
        kept = {
            tuple(row["site"]): row["kept_bytes"] / 1e6
            for row in _select(some, what="training step", layout="channels last")
        }
        axes[2].bar(
            [place + 0.4 * number for place in range(len(sites))],
            [kept.get(site, 0) for site in sites],
            0.4,
            label=name,
        )
    axes[2].set_title("MB kept for backward, beyond the input")
    axes[2].legend(fontsize=7)
    for axis in axes:
        axis.set_xticks([place + 0.3 for place in range(len(sites))], labels, fontsize=8)
    figure.savefig(target, dpi=130)
