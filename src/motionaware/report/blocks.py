"""What a report is made of, and how each piece is written in Markdown, HTML and LaTeX."""

import base64
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    """A heading of the second or third level."""

    words: str
    level: int = 2


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    words: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of words; the first `num_names` columns are names, the others numbers.

    One that has a `summary` is folded up under these words.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    num_names: int = 1
    summary: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows; where there is room, two that are `half` stand side by side."""

    path: Path
    caption: str
    half: bool = False


@dataclass(frozen=True)
class Chooser:
    """Per-class differences between any two columns, chosen where there is a script: in HTML."""

    data: str  # JSON
    otherwise: str


@dataclass(frozen=True)
class Folded:
    """Lines kept as they are, folded up under a summary."""

    summary: str
    text: str


Block = Heading | Words | Bullets | Table | Picture | Chooser | Folded


def to_markdown(title: str, blocks: Sequence[Block], *, folder: Path) -> str:
    """A report as Markdown; pictures are linked from `folder`."""
    parts = [f"# {title}"]
    for block in blocks:
        match block:
            case Heading(words, level):
                parts.append(f"{'#' * level} {words}")
            case Words(words):
                parts.append(words)
            case Bullets(lines):
                parts.append("\n".join(f"- {line}" for line in lines))
            case Table():
                parts.append(_markdown_table(block))
            case Picture(path, caption):
                parts.append(f"![{caption}]({path.relative_to(folder).as_posix()})\n\n*{caption}*")
            case Chooser(_, otherwise):
                parts.append(otherwise)
            case Folded(summary, text):
                parts.append(_markdown_folded(summary, f"```\n{text.rstrip()}\n```"))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    num = len(table.header)
    rule = "|" + "|".join(["---"] * table.num_names + ["---:"] * (num - table.num_names)) + "|"
    lines = [line(table.header), rule, *(line(row) for row in table.rows)]
    words = "\n".join(lines) + f"\n\n*{table.caption}*"
    if not table.summary:
        return words
    return _markdown_folded(table.summary, words)


def _markdown_folded(summary: str, words: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{words}\n\n</details>"


def to_html_body(blocks: Sequence[Block]) -> str:
    """The inside of a page; pictures are inlined."""
    parts = []
    for block in blocks:
        match block:
            case Heading(words, level):
                parts.append(f"<h{level}>{escape(words)}</h{level}>")
            case Words(words):
                parts.append(f"<p>{_inline(words)}</p>")
            case Bullets(lines):
                items = "".join(f"<li>{_inline(line)}</li>" for line in lines)
                parts.append(f"<ul>{items}</ul>")
            case Table():
                parts.append(_html_table(block))
            case Picture(path, caption, half):
                content = base64.b64encode(path.read_bytes()).decode()
                parts.append(
                    f"<figure{' class=half' if half else ''}>"
                    f'<img alt="{escape(caption)}" src="data:image/png;base64,{content}">'
                    f"<figcaption>{_inline(caption)}</figcaption></figure>"
                )
            case Chooser(data, _):
                inside = data.replace("</", "<\\/")  # so that no name can end the script
                parts.append(
                    f'<script type="application/json" id="classes">{inside}</script>'
                    '<div id="chooser"></div>'
                )
            case Folded(summary, text):
                parts.append(_html_folded(summary, f"<pre>{escape(text.rstrip())}</pre>"))
    return "\n".join(parts)


def _inline(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words, quote=False))


def _html_table(table: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if place < table.num_names else ' class=n'}>{_inline(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    head = f"<thead><tr>{cells(table.header, 'th')}</tr></thead>"
    written = (
        f"<div class=wide><table>{head}<tbody>{body}</tbody></table></div>"
        f"<p class=caption>{_inline(table.caption)}</p>"
    )
    if not table.summary:
        return written
    return _html_folded(table.summary, written)


def _html_folded(summary: str, written: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{written}</details>"


def to_latex(tables: Sequence[Table]) -> str:
    """Tables for a paper, no wider than its text; they want the packages booktabs and graphicx."""
    parts = ["% \\usepackage{booktabs,graphicx}"]
    for table in tables:
        shape = "l" * table.num_names + "r" * (len(table.header) - table.num_names)
        rows = [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
        parts.append(
            "\n".join(
                [
                    r"\begin{table*}",
                    r"  \centering",
                    f"  \\caption{{{_latex(table.caption)}}}",
                    r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                    f"  \\begin{{tabular}}{{{shape}}}",
                    r"    \toprule",
                    "    " + " & ".join(map(_latex, table.header)) + r" \\",
                    r"    \midrule",
                    *(f"    {row}" for row in rows),
                    r"    \bottomrule",
                    r"  \end{tabular}}",
                    r"\end{table*}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "<": "$<$", ">": "$>$", "`": "",
}  # fmt: skip


def _latex(words: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in words)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)  # a minus, not a hyphen


def to_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows for machines: numbers as they are, nothing where there is none."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue()
