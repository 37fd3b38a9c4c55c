from motionaware.report.table_writer import Table, to_csv, to_html, to_latex, to_markdown

TABLE = Table(("a_b", "n"), (("x | <y> & 5 %", "1 ± 2"),), "All of `it`.")


def test_markdown_escapes_bars_and_aligns_numbers_right():
    assert to_markdown(TABLE).splitlines() == [
        "| a_b | n |",
        "|---|---:|",
        "| x \\| <y> & 5 % | 1 ± 2 |",
    ]


def test_html_is_escaped():
    assert to_html(TABLE) == (
        "<table><thead><tr><th>a_b</th><th class=n>n</th></tr></thead>"
        "<tbody><tr><td>x | &lt;y&gt; &amp; 5 %</td><td class=n>1 ± 2</td></tr></tbody></table>"
    )


def test_latex_is_escaped():
    text = to_latex(TABLE)
    assert r"a\_b & n \\" in text
    assert r"x | $<$y$>$ \& 5 \% & 1 $\pm$ 2 \\" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"\caption{All of it.}" in text


def test_latex_has_minus_signs_and_limits_the_width_of_a_table():
    table = Table(("a", "b"), (("i3d-r18, 2026-11-24", "[-1.2, +3] -4"),), "c")
    text = to_latex(table)
    assert r"i3d-r18, 2026-11-24 & [$-$1.2, +3] $-$4 \\" in text
    assert text.count(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{") == 1
    assert text.count("{") == text.count("}")


def test_csv_has_empty_fields_for_missing_values():
    assert to_csv(["a", "b"], [[None, 0.1], ["x,y", 0]]) == 'a,b\n,0.1\n"x,y",0\n'
