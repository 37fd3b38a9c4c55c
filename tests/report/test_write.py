import json
import re
import sys
from pathlib import Path

import pytest

from motionaware.errors import MissingPackage
from motionaware.report.captioned_figures import CaptionedFigure
from motionaware.report.gains import compute_gains
from motionaware.report.write import (
    class_chart_data,
    inline_html,
    make_environment,
    render_html,
    render_markdown,
    text_content,
)


@pytest.fixture
def content(make_results, none, m2a, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The variables of the template, for two cells with one gain."""
    monkeypatch.setattr("motionaware.report.cells.Cell.training_seconds", lambda self: 60.0)
    monkeypatch.setattr("motionaware.engine.run_folder.RunFolder.count_skipped", lambda self: 0)
    gains = compute_gains([none, m2a], baseline="none", pairs=[])
    return text_content(make_results([none, m2a], gains))


def test_markdown_and_html_have_the_same_headings(content):
    headings = re.findall(r"^## (.*)$", render_markdown(content, Path()), flags=re.MULTILINE)
    assert headings == ["Accuracy and cost", "Gains", "Provenance"]
    assert re.findall(r"<h2>(.*)</h2>", render_html(content)) == headings


def test_html_escapes_names_and_marks_code(content):
    content |= {"title": "a < b", "summary": ["`<x>` is\n  best"]}
    page = render_html(content)
    assert "<h1>a &lt; b</h1>" in page
    assert "<li><code>&lt;x&gt;</code> is best</li>" in page
    assert inline_html("`a`  b") == "<code>a</code> b"


@pytest.mark.parametrize(
    ("min_seeds", "num_gains", "text"),
    [
        (1, 1, "The two models share only one seed: their interval"),
        (1, 2, "Some pairs of models share only one seed: their interval"),
        (3, 1, "With 3 seeds, the bootstrap interval is too narrow"),
    ],
)
def test_the_report_warns_of_few_seeds(content, min_seeds: int, num_gains: int, text: str):
    content |= {"min_seeds": min_seeds, "gains": content["gains"] * num_gains}
    assert text in render_markdown(content, Path())
    assert text in render_html(content)


def test_there_is_no_warning_with_five_seeds(content):
    content["min_seeds"] = 5
    text = render_markdown(content, Path())
    assert "share only one seed" not in text
    assert "seeds, the bootstrap" not in text
    assert "10,000 resamples" in text
    assert "Holm's method over 1 pair of models" in text


def test_a_figure_is_linked_in_markdown_and_embedded_in_html(content, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"x")
    figures = [
        CaptionedFigure(tmp_path / "a.png", "cap `x`", is_narrow=one) for one in (True, False)
    ]
    content |= {
        "class_chart": {},
        "min_class_count": 3,
        "max_class_count": 20,
        "class_figures": figures,
        **{f"{kind}_figures": [] for kind in ("cost", "curve", "confusion", "example")},
    }
    text = render_markdown(content, tmp_path)
    assert "![cap `x`](a.png)\n\n*cap `x`*" in text
    assert "Each class has 3 to 20 videos." in text
    page = render_html(content)
    assert page.count("<figure class=narrow>") == page.count("<figure>") == 1
    assert 'src="data:image/png;base64,eA=="' in page
    assert "<figcaption>cap <code>x</code></figcaption>" in page


def test_a_class_name_cannot_end_the_script_with_the_data():
    environment = make_environment(is_html=True)
    environment.filters |= {"inline": str, "as_table": str, "figure_source": str}
    template = "{% import 'html.jinja' as write %}{{ write.class_chart(data) }}"
    page = environment.from_string(template).render(data={"classes": ["</script>"]})
    assert page.count("</script>") == 1


def test_folded_tables_and_the_recipe_are_kept(content):
    content |= {"recipe_yaml": "a:\n  b: <c>\n", "run_name": "run"}
    summary = "<details><summary>Recipe of run</summary>"
    assert f"{summary}\n\n```\na:\n  b: <c>\n```\n\n</details>" in render_markdown(content, Path())
    page = render_html(content)
    assert summary in page
    assert "<pre>a:\n  b: &lt;c&gt;</pre>" in page
    assert (
        "<summary>Exact McNemar test of each pair of runs</summary>\n<div class=wide><table>"
        in page
    )


def test_the_chart_starts_with_the_largest_gain_over_the_baseline(
    none, m2a, make_cell, make_results
):
    tsm = make_cell("tsm", {0: [0] * 6, 1: [0] * 6})
    cells = [none, tsm, m2a]
    gains = compute_gains(cells, baseline="none", pairs=[])
    data = class_chart_data(make_results(cells, gains))
    assert data["selected"] == (2, 0)
    assert data["counts"] == [2, 2, 2, 0]
    accuracies = json.loads(json.dumps(data))["cells"][2]["accuracies"]
    assert accuracies[0] == [0.5, 1.0, 1.0, None]


def test_a_missing_jinja2_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingPackage, match=r"pip install 'motionaware\[compare\]'"):
        make_environment(is_html=False)
