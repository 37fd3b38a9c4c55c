"""Write a report: report.html, report.md, tables.tex, CSV files and figures.

The text of the report is in `templates/report.jinja`; its elements (headings, tables, figures) are
macros in `templates/html.jinja` and `templates/markdown.jinja`.
"""

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motionaware.engine.statistics import NUM_RESAMPLES
from motionaware.errors import MissingPackage
from motionaware.files import write_atomically
from motionaware.report.captioned_figures import (
    draw_class_figures,
    draw_confusion_figures,
    draw_cost_figures,
    draw_curve_figures,
    draw_example_figures,
    remove_figures,
)
from motionaware.report.csv_export import (
    GAINS_HEADER,
    RESULTS_HEADER,
    RUNS_HEADER,
    class_counts,
    class_rows,
    gains_rows,
    none_for_nan,
    results_rows,
    runs_rows,
)
from motionaware.report.provenance import provenance_lines, shareable_recipe
from motionaware.report.results import ComparisonResults
from motionaware.report.summary import missing_gains, source_line, summary_lines
from motionaware.report.table_writer import to_csv, to_html, to_latex, to_markdown
from motionaware.report.tables import accuracy_table, gains_table, mcnemar_table

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(results: ComparisonResults, out: Path, *, num_examples: int) -> None:
    """Write all files of a report; figures go to `figures` below `out`.

    Args:
        results: The data of the report.
        out: Folder of the report.
        num_examples: Example clips per highlighted pair and direction.

    Raises:
        MissingPackage: jinja2 or matplotlib is not installed.
        OSError: A file cannot be written.
    """
    remove_figures(out)
    finished = results.finished_cells()
    content = text_content(results)
    if finished:
        content |= figure_content(results, out, num_examples)
    tables = [accuracy_table(results.cells)]
    if results.gains:
        tables += [gains_table(results.gains), mcnemar_table(results.gains)]
    latex = [f"% {source_line(results)}\n% \\usepackage{{booktabs,graphicx}}"]
    texts = {
        "report.md": render_markdown(content, out),
        "report.html": render_html(content),
        "tables.tex": "\n\n".join([*latex, *map(to_latex, tables)]) + "\n",
        "results.csv": to_csv(
            RESULTS_HEADER, results_rows(results.cells, results.gains, results.baseline)
        ),
        "gains.csv": to_csv(GAINS_HEADER, gains_rows(results.gains)),
        "runs.csv": to_csv(RUNS_HEADER, runs_rows(results.cells, out)),
    }
    if finished:
        texts["classes.csv"] = to_csv(*class_rows(finished))
    for name, text in texts.items():
        write_atomically(out / name, text.encode())


def text_content(results: ComparisonResults) -> dict[str, Any]:
    """Return the variables of the template that need no figure."""
    gains = results.gains
    content: dict[str, Any] = {
        "title": results.title,
        "summary": summary_lines(results),
        "accuracy_table": accuracy_table(results.cells),
        "failures": [f"failed: {message}" for cell in results.cells for message in cell.failures],
        "missing_gains": missing_gains(results),
        "gains": gains,
        "provenance": provenance_lines(results),
    }
    runs = [evaluated.run for cell in results.cells for evaluated in cell.runs]
    if gains:
        content |= {
            "gains_table": gains_table(gains),
            "mcnemar_table": mcnemar_table(gains),
            "min_seeds": min(len(gain.seeds) for gain in gains),
            "num_resamples": NUM_RESAMPLES,
        }
    if runs:
        content |= {"run_name": runs[0].name, "recipe_yaml": shareable_recipe(runs[0].recipe)}
    return content


def figure_content(results: ComparisonResults, out: Path, num_examples: int) -> dict[str, Any]:
    """Draw the figures, and return the variables of the template that belong to them."""
    counts = [number for number in class_counts(results.finished_cells()[0]) if number]
    return {
        "min_class_count": min(counts),
        "max_class_count": max(counts),
        "class_chart": class_chart_data(results),
        "class_figures": draw_class_figures(results, out),
        "cost_figures": draw_cost_figures(results, out),
        "curve_figures": draw_curve_figures(results, out),
        "confusion_figures": draw_confusion_figures(results, out),
        "example_figures": draw_example_figures(results, out, num=num_examples),
    }


def class_chart_data(results: ComparisonResults) -> dict[str, Any]:
    """Return the data of the interactive chart: each cell's top-1 per class and seed."""
    cells = results.finished_cells()
    highlighted = results.highlighted_gains()
    selected = (0, min(1, len(cells) - 1))
    if highlighted:
        selected = (cells.index(highlighted[0].cell), cells.index(highlighted[0].reference))
    return {
        "classes": cells[0].runs[0].class_names,
        "counts": class_counts(cells[0]),
        "cells": [
            {
                "name": cell.name,
                "seeds": cell.seeds,
                "accuracies": [
                    none_for_nan(cell.per_class_accuracy([seed])) for seed in cell.seeds
                ],
            }
            for cell in cells
        ],
        "selected": selected,
    }


def render_markdown(content: dict[str, Any], out: Path) -> str:
    """Return the report as Markdown, with links to figures relative to `out`."""
    environment = make_environment(is_html=False)
    environment.filters |= {
        "inline": one_line,
        "as_table": to_markdown,
        "figure_source": lambda path: path.relative_to(out).as_posix(),
    }
    text = _render_body(environment, "markdown.jinja", content)
    return f"# {content['title']}\n\n{text}\n"


def render_html(content: dict[str, Any]) -> str:
    """Return the report as one HTML page without external files."""
    environment = make_environment(is_html=True)
    from markupsafe import Markup, escape  # a dependency of jinja2

    environment.filters |= {
        "inline": lambda text: Markup(inline_html(str(escape(text)))),
        "as_table": lambda table: Markup(to_html(table)),
        "figure_source": embed_png,
    }
    body = Markup(_render_body(environment, "html.jinja", content))
    return environment.get_template("page.html").render(title=content["title"], body=body)


def make_environment(*, is_html: bool) -> "Environment":
    """Return a jinja2 environment for the templates of this package.

    Raises:
        MissingPackage: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingPackage(
            "the report of a comparison needs jinja2; run: pip install 'motionaware[compare]'"
        ) from error
    return Environment(
        loader=PackageLoader("motionaware.report"),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _render_body(environment: "Environment", macros: str, content: dict[str, Any]) -> str:
    write = environment.get_template(macros).module
    text = environment.get_template("report.jinja").render(write=write, **content)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def one_line(text: str) -> str:
    """Return a text with each run of white space, such as a line break, as one space."""
    return " ".join(text.split())


def inline_html(html: str) -> str:
    """Return HTML on one line, with `code` in backticks as a code element.

    >>> inline_html("`a` &lt; b")
    '<code>a</code> &lt; b'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", one_line(html))


def embed_png(path: Path) -> str:
    """Return a PNG file as a `data:` URL."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
