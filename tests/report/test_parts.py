"""Columns, gains, tables and their marks; the whole is tested in test_compare.py."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.cost import Cost
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.statistics import exact_mcnemar
from motionaware.explain.text_rendering import fonts_for
from motionaware.report import blocks, figures
from motionaware.report import csv_export as rows
from motionaware.report import tables as numbers
from motionaware.report import write as report
from motionaware.report.columns import Column, make_gains
from motionaware.report.environment import commit_of
from motionaware.report.examples import choose_examples
from motionaware.report.finished_runs import open_finished
from motionaware.report.predictions import EvaluatedRun
from motionaware.report.sections import Findings
from motionaware.report.train_runs import Run

NAMES = ("left", "right", "up", "never")
LABELS = np.array([0, 0, 1, 1, 2, 2])
COST = Cost(num_parameters=1, gmac=1.0, latency_seconds=1.0, backward_bytes=1)


def column(temporal: str, answers: dict[int, list[int]], backbone: str = "b") -> Column:
    """One that answered each video as listed, by seed."""
    runs = []
    for seed, predicted in answers.items():
        right = np.array(predicted) == LABELS
        runs.append(
            EvaluatedRun(
                run=Run(
                    backbone=backbone,
                    temporal=temporal,
                    seed=seed,
                    recipe=Recipe(),
                    folder=RunFolder(f"{temporal}{seed}"),
                ),
                predicted=np.array(predicted),
                right=right,
                in_top5=None,
                confidence=np.where(right, 0.9, 0.1),
                labels=LABELS,
                indices=np.arange(6),
                names=tuple("abcdef"),
                class_names=NAMES,
                num_skipped=0,
            )
        )
    return Column(backbone=backbone, temporal=temporal, runs=tuple(runs), failures=(), cost=COST)


NONE = column("none", {0: [0, 0, 0, 0, 0, 0], 1: [0, 0, 1, 0, 0, 0]})
M2A = column("m2a", {0: [0, 1, 1, 1, 2, 2], 1: [0, 0, 1, 1, 2, 0], 2: [0] * 6})


def found(columns, gains=()) -> Findings:
    """All that a report tells of these."""
    return Findings(
        title="",
        columns=tuple(columns),
        gains=tuple(gains),
        pairs=(),
        baseline="none",
        split="test",
        recipe="r",
        facts={"date": "today", "commit": "c", "machine": "m"},
    )


def summary(columns, gains=()) -> tuple[str, ...]:
    """The lines a report begins with."""
    (bullets,) = report._summary(found(columns, gains))
    assert isinstance(bullets, blocks.Bullets)
    return bullets.lines


def test_a_gain_is_taken_over_the_seeds_that_both_have():
    (gain,) = make_gains([NONE, M2A], baseline="none", pairs=[])
    assert gain.seeds == (0, 1)
    assert gain.difference == pytest.approx((3 + 2) / 12)
    assert gain.spread == pytest.approx(np.std([3 / 6, 2 / 6], ddof=1))
    assert [(one.seed, one.only_one, one.only_other) for one in gain.runs] == [(0, 4, 1), (1, 2, 0)]
    assert [one.p for one in gain.runs] == [exact_mcnemar(4, 1), exact_mcnemar(2, 0)]


def test_p_is_corrected_for_all_pairs_that_were_compared():
    tsm = column("tsm", {0: LABELS.tolist(), 1: LABELS.tolist()})
    gains = make_gains([NONE, M2A, tsm], baseline="none", pairs=[("tsm", "m2a"), ("m2a", "none")])
    named = [(gain.one.temporal, gain.other.temporal) for gain in gains]
    assert named == [("m2a", "none"), ("tsm", "none"), ("tsm", "m2a")]  # none twice
    smallest = min(gains, key=lambda gain: gain.interval.p)
    assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.interval.p))
    p_values = sorted((one.p, one.p_holm) for gain in gains for one in gain.runs)
    assert p_values[0][1] == pytest.approx(min(1, 6 * p_values[0][0]))


def test_one_pair_is_spoken_of_in_the_singular():
    gains = make_gains([NONE, column("m2a", {0: [0, 1, 1, 1, 2, 2]})], baseline="none", pairs=[])
    assert "for the one pair of this table" in numbers.gains_table(gains).caption
    assert "for the one pair of this table" in numbers.mcnemar_table(gains).caption
    (words,) = report._reading(found([NONE], gains))
    assert isinstance(words, blocks.Words)
    assert "over the one pair of columns and over the one pair of runs" in words.words
    assert "The pair shares one seed only: its interval speaks of" in words.words


def test_a_single_column_is_not_the_highest_and_has_one_seed():
    first, second, source = summary([column("none", {0: [0] * 6})])
    assert first.startswith("1 column, seed 0; judged on the 6 videos of the test split, 4 classes")
    assert second == "b: `none`, 33.3 % top-1."
    assert "Seed 0. Report of" in source


def test_columns_that_tie_are_equal_and_no_class_gains_most():
    same = [column(name, {0: [0] * 6}) for name in ("none", "m2a")]
    gains = make_gains(same, baseline="none", pairs=[])
    lines = summary(same, gains)
    assert lines[1] == "b: `none` and `m2a` are equal, with 33.3 % top-1."
    assert numbers.gains_table(gains).rows[0][-2:] == ("-", "-")
    best = summary([NONE, M2A])[1]
    assert best.startswith("b: the highest is `m2a`, ")


def test_a_short_training_took_more_than_nothing():
    said = [numbers.minutes(seconds) for seconds in (2.0, 59.0, 60.0, 200.0)]
    assert said == ["0.033", "0.98", "1.0", "3.3"]


def test_one_epoch_is_the_only_mark_of_its_axis(tmp_path: Path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: drawn.append(figure))
    for curve in ([[0.5]], [[0.5, 0.6]]):
        monkeypatch.setattr(Column, "curves", lambda self, curve=curve: np.array(curve))
        figures.draw_curves([NONE], "b", tmp_path / "curves.png")
        ticks = drawn[-1].axes[0].get_xticks()
        assert all(tick == round(tick) for tick in ticks)
        assert 1 in ticks


def many(num_classes: int, num_columns: int, *, name: str, temporal: str) -> list[Column]:
    """Columns that confuse each class with the next, class 1 most."""
    labels = np.repeat(np.arange(num_classes), 4)
    predicted = labels.copy()
    predicted[::4] = (predicted[::4] + 1) % num_classes
    predicted[4:8] = 0
    columns = []
    for place in range(num_columns):
        (base,) = column(f"{temporal}{place}", {0: [0] * 6}).runs
        names = tuple(f"{name}{number}" for number in range(num_classes))
        run = replace(
            base,
            predicted=predicted,
            right=predicted == labels,
            confidence=np.full(len(labels), 0.5),
            labels=labels,
            indices=np.arange(len(labels)),
            names=tuple(map(str, labels)),
            class_names=names,
        )
        columns.append(
            Column(backbone="b", temporal=f"{temporal}{place}", runs=(run,), failures=(), cost=COST)
        )
    return columns


LONG = "Pretending to put something with $x_1$ behind something without letting it drop "


@pytest.mark.parametrize(
    ("num_classes", "num_columns", "name", "temporal"),
    [
        (12, 4, "class ", "m2a(reduction=4)"),
        (2, 17, LONG, "m2a(reduction=4,start=identity),tsm,mix.py:" + "Name" * 20),
        (174, 2, LONG, "tsm"),
        (31, 3, "c", "m"),
        (1, 1, "c", "m"),
    ],
)
def test_the_picture_of_confusion_is_whole(
    tmp_path: Path, num_classes: int, num_columns: int, name: str, temporal: str
):
    pytest.importorskip("matplotlib")
    columns = many(num_classes, num_columns, name=name, temporal=temporal)
    path = tmp_path / "confusion.png"
    with fonts_for([]):
        left_out = figures.draw_confusion(columns, "b", path)
    pixels = np.asarray(Image.open(path).convert("L"))
    assert min(one.min() for one in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])) > 200
    words = f"the 30 of {num_classes} classes that are confused most" if num_classes > 30 else ""
    assert left_out == words


def test_titles_and_labels_of_the_picture_of_confusion_do_not_overlap(tmp_path: Path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: drawn.append(figure))
    columns = many(12, 5, name=LONG, temporal="m2a(reduction=4,start=identity),tsm,mix.py:Mix ")
    figures.draw_confusion(columns, "b", tmp_path / "c.png")
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [axes.get_window_extent(renderer) for axes in figure.axes]
    boxes += [axes.title.get_window_extent(renderer) for axes in figure.axes if axes.get_title()]
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            assert not one.overlaps(other)


def test_the_classes_that_are_confused_most_are_drawn_in_their_order(monkeypatch):
    monkeypatch.setattr(figures, "MOST_CONFUSED", 2)
    table = np.array([[0.9, 0, 0.1], [0, 1.0, 0], [0.4, 0, 0.6]])
    assert figures.most_confused([table, table]).tolist() == [0, 2]


def test_no_two_of_twenty_columns_look_alike():
    columns = [column(f"m{place}", {0: [0] * 6}) for place in range(20)]
    assert len({figures.look_of(columns, one.temporal) for one in columns}) == 20


def test_columns_of_different_backbones_are_not_compared():
    other = column("none", {0: [0] * 6}, backbone="other")
    assert make_gains([other, M2A], baseline="none", pairs=[]) == []


def test_columns_without_a_seed_in_common_are_not_compared():
    assert make_gains([column("none", {7: [0] * 6}), M2A], baseline="none", pairs=[]) == []


def test_a_class_without_videos_has_no_gain():
    (gain,) = make_gains([NONE, M2A], baseline="none", pairs=[])
    of_left = (0.5 + 1) / 2 - 1  # of the seeds that both have
    np.testing.assert_allclose(gain.per_class()[0], of_left)
    assert np.isnan(gain.per_class()[3])
    most, least = numbers.extreme_classes(gain)
    assert (most.words(), least.words()) == ("right (and 1 more)", "left")
    assert least.gain == pytest.approx(of_left)
    _, of_classes = rows.class_rows([NONE, M2A])
    assert of_classes[3] == ["never", 0, None, None]


def test_differences_of_classes_of_one_size_have_the_gain_as_their_mean():
    (gain,) = make_gains([NONE, M2A], baseline="none", pairs=[])
    assert len(M2A.seeds) > len(gain.seeds)
    assert np.nanmean(gain.per_class()) == pytest.approx(gain.difference)


def test_a_class_that_gains_most_is_not_said_to_be_alone_if_others_gain_as_much():
    both = column("tsm", {0: [0, 1, 1, 1, 2, 2]})
    (gain,) = make_gains([column("none", {0: [0, 0, 0, 0, 0, 0]}), both], baseline="none", pairs=[])
    most, least = numbers.extreme_classes(gain)
    assert (most.words(), least.words()) == ("right (and 1 more)", "left")
    assert numbers.gains_table([gain]).rows[0][-2:] == ("right (and 1 more) +100.0", "left -50.0")


def test_pairs_that_cannot_be_compared_are_named_with_the_reason():
    lost = Column(backbone="b", temporal="tsm", runs=(), failures=("why",), cost=None)
    columns = [NONE, M2A, lost, column("tea", {7: [0] * 6})]
    gains = make_gains(columns, baseline="none", pairs=[("m2a", "tsm")])
    (said,) = report._not_compared(replace(found(columns, gains), pairs=(("m2a", "tsm"),)))
    assert isinstance(said, blocks.Bullets)
    assert said.lines == (
        "b: `tsm` over `none` cannot be said: no run of `tsm` finished.",
        "b: `tea` over `none` cannot be said: no seed in common.",
        "b: `m2a` over `tsm` cannot be said: no run of `tsm` finished.",
    )
    assert report._not_compared(found([NONE, M2A], gains)) == []
    assert "1 run failed, see below: numbers are without." in summary(columns)


@pytest.mark.parametrize(
    ("baseline", "why"), [((), "there is no such column"), (("none",), "no run of it finished")]
)
def test_gains_without_a_baseline_are_said_to_be_absent(baseline: tuple[str, ...], why: str):
    lost = [
        Column(backbone="b", temporal=name, runs=(), failures=("x",), cost=None)
        for name in baseline
    ]
    (said,) = report._not_compared(found([*lost, M2A]))
    assert isinstance(said, blocks.Bullets)
    assert said.lines == (f"b: no gains over `none`: {why}.",)


def test_confusion_is_a_share_of_the_right_class():
    found = M2A.confusion()
    np.testing.assert_allclose(found[0], [5 / 6, 1 / 6, 0, 0])
    np.testing.assert_allclose(found.sum(axis=1), [1, 1, 1, 0])


def test_examples_are_those_that_one_has_right_with_every_seed_and_the_other_with_none():
    (gain,) = make_gains([NONE, M2A], baseline="none", pairs=[])
    found = choose_examples(gain, num=3)
    assert [(one.right.temporal, one.video) for one in found] == [("m2a", "d"), ("m2a", "e")]
    assert [one.video for one in choose_examples(gain, num=1)] == ["d"]


# ------------------------------------------------------------------------------------------- marks

TABLE = blocks.Table(("a_b", "n"), (("x | <y> & 5 %", "1 ± 2"),), "All of `it`.")


def test_markdown_keeps_a_bar_inside_its_cell():
    text = blocks.to_markdown("T", [TABLE], folder=Path())
    assert "| x \\| <y> & 5 % | 1 ± 2 |" in text
    assert "|---|---:|" in text


def test_html_says_what_was_written():
    text = blocks.to_html_body([TABLE, blocks.Heading("a < b")])
    assert "<td>x | &lt;y&gt; &amp; 5 %</td><td class=n>1 ± 2</td>" in text
    assert "<h2>a &lt; b</h2>" in text
    assert "All of <code>it</code>." in text


def test_half_pictures_may_stand_side_by_side(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"x")
    pictures = [blocks.Picture(tmp_path / "a.png", "c", half=half) for half in (True, False)]
    text = blocks.to_html_body(pictures)
    assert text.count("<figure class=half><img ") == text.count("<figure><img ") == 1


def test_no_class_name_ends_the_script_that_holds_it():
    text = blocks.to_html_body([blocks.Chooser('{"classes": ["</script>"]}', "")])
    assert text.count("</script>") == 1


def test_latex_is_escaped():
    text = blocks.to_latex([TABLE])
    assert r"a\_b & n \\" in text
    assert r"x | $<$y$>$ \& 5 \% & 1 $\pm$ 2 \\" in text
    assert r"\begin{tabular}{lr}" in text


def test_latex_has_minus_signs_and_no_table_is_wider_than_the_text():
    table = blocks.Table(("a", "b"), (("i3d-r18, 2026-11-24", "[-1.2, +3] -4"),), "c")
    text = blocks.to_latex([table])
    assert r"i3d-r18, 2026-11-24 & [$-$1.2, +3] $-$4 \\" in text
    assert text.startswith("% \\usepackage{booktabs,graphicx}")
    assert text.count(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{") == 1
    assert text.count("{") == text.count("}")


def test_what_is_folded_is_kept_as_it_is():
    folded = blocks.Folded("more", "a:\n  b: <c>\n")
    html = "<details><summary>more</summary><pre>a:\n  b: &lt;c&gt;</pre></details>"
    assert blocks.to_html_body([folded]) == html
    assert "```\na:\n  b: <c>\n```" in blocks.to_markdown("t", [folded], folder=Path())


def test_a_table_with_a_summary_is_folded():
    folded = blocks.Table(("a",), (("b",),), "c", summary="more")
    text = blocks.to_html_body([folded])
    assert text.startswith("<details><summary>more</summary>")
    assert text.endswith("</details>")


def test_csv_leaves_out_what_is_not_there():
    assert blocks.to_csv(["a", "b"], [[None, 0.1], ["x,y", 0]]) == 'a,b\n,0.1\n"x,y",0\n'


# ----------------------------------------------------------------------------------------- commits


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_commit_is_that_of_the_checkout_a_file_is_part_of(tmp_path: Path):
    def git(*words: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    file, stranger = tmp_path / "file.yaml", tmp_path / "stranger.yaml"
    file.write_text("1")
    stranger.write_text("1")
    assert commit_of(file) is None
    git("init")
    git("add", "file.yaml")
    git("commit", "-m", "one")
    head = git("rev-parse", "--short=12", "HEAD")
    assert commit_of(file) == head
    assert commit_of(stranger) is None
    file.write_text("2")
    assert commit_of(file) == f"{head}-dirty"


def test_a_finished_run_whose_data_were_moved_says_where_it_notes_them(
    tiny_recipe: Recipe, tmp_path: Path
):
    data = DataConfig(kind="folder", root=str(tmp_path / "gone"))
    folder = RunFolder(tmp_path / "run")
    folder.begin(replace(tiny_recipe, data=data))
    folder.write_log([{"epoch": 1}, {"epoch": 2}])
    folder.last.touch()
    words = rf"data\.root {tmp_path}/gone, which is not a folder; .* in {tmp_path}/run/recipe\.yaml"
    with pytest.raises(ValueError, match=words):
        open_finished(folder.path, tmp_path)
