"""Write a table as Markdown, HTML, LaTeX or CSV."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """A table of strings.

    Attributes:
        header: Column heads.
        rows: Cells, one tuple per row.
        caption: Text below (LaTeX: above) the table.
        num_text_columns: Number of leading columns that are left-aligned; the others hold numbers
            and are right-aligned.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    num_text_columns: int = 1

    @property
    def num_number_columns(self) -> int:
        """Number of right-aligned columns."""
        return len(self.header) - self.num_text_columns


def to_markdown(table: Table) -> str:
    """Return the table as Markdown, without its caption."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    alignment = ["---"] * table.num_text_columns + ["---:"] * table.num_number_columns
    rule = f"|{'|'.join(alignment)}|"
    return "\n".join([line(table.header), rule, *map(line, table.rows)])


def to_html(table: Table) -> str:
    """Return the table as an HTML `<table>`, without its caption."""

    def line(cells: Sequence[str], tag: str) -> str:
        classes = [""] * table.num_text_columns + [" class=n"] * table.num_number_columns
        return "".join(
            f"<{tag}{css}>{escape(cell)}</{tag}>" for cell, css in zip(cells, classes, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    return f"<table><thead><tr>{line(table.header, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def to_latex(table: Table) -> str:
    r"""Return the table as a LaTeX `table*`, shrunk to the line width if it is wider.

    The document needs the packages booktabs and graphicx.
    """

    def line(cells: Sequence[str]) -> str:
        return "    " + " & ".join(map(_escape_latex, cells)) + r" \\"

    alignment = "l" * table.num_text_columns + "r" * table.num_number_columns
    return "\n".join(
        [
            r"\begin{table*}",
            r"  \centering",
            f"  \\caption{{{_escape_latex(table.caption)}}}",
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            f"  \\begin{{tabular}}{{{alignment}}}",
            r"    \toprule",
            line(table.header),
            r"    \midrule",
            *map(line, table.rows),
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table*}",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "<": "$<$", ">": "$>$", "`": "",
}  # fmt: skip


def _escape_latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)  # a minus sign instead of a hyphen


def to_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a header and rows as CSV with full precision; None becomes an empty field."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue()
