import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

matplotlib = pytest.importorskip("matplotlib")

from motionaware.explain import lettering as module  # noqa: E402
from motionaware.explain.drawing import figure_maker, save_sheet  # noqa: E402
from motionaware.explain.lettering import (  # noqa: E402
    Face,
    choose_families,
    lettering,
    missing_words,
    shortened,
    text_width,
)


def face(family: str, characters: str) -> Face:
    return Face(family, lambda: {ord(one) for one in characters})


def ink(path: Path) -> int:
    return int((np.asarray(Image.open(path).convert("L")) < 128).sum())


def draw(text: str, path: Path) -> str | None:
    """Draw a text; give the note."""
    with lettering([text]) as note:
        figure = figure_maker()(figsize=(3, 1))
        figure.text(0.1, 0.5, text)
        save_sheet(figure, path)
    return note


def test_the_first_font_that_has_a_character_is_taken_and_no_more_are_read():
    def unread() -> set[int]:
        raise AssertionError("read without need")

    faces = [face("latin", "abc"), face("han", "跳跃"), face("thai", "ส"), Face("last", unread)]
    assert choose_families(set("跳ส"), faces) == (["han", "thai"], set())


def test_characters_that_no_font_has_are_left():
    assert choose_families(set("跳ส"), [face("han", "跳跃")]) == (["han"], {"ส"})


@pytest.mark.parametrize(
    ("characters", "package"),
    [
        ("跳跃", "fonts-noto-cjk"),
        ("さ", "fonts-noto-cjk"),
        ("안", "fonts-noto-cjk"),
        ("ส", "fonts-noto-core"),
        ("🎉", "fonts-symbola"),
    ],
)
def test_the_note_names_the_characters_and_a_package(characters: str, package: str):
    words = missing_words(set(characters))
    assert all(one in words for one in characters)
    assert package in words
    assert "\n" not in words


def test_a_long_list_of_characters_is_cut():
    assert "and 8 more" in missing_words({chr(0x4E00 + place) for place in range(20)})


def test_missing_characters_give_a_note_and_no_warning(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "_installed_faces", lambda needed: [])
    monkeypatch.setattr(module, "_add_new_fonts", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note = draw("跳跃 walk", tmp_path / "a.png")
    assert note is not None and "跳" in note and "w" not in note.partition(":")[0].split()[-1]


def test_an_installed_font_that_has_the_characters_is_used(tmp_path: Path, monkeypatch):
    # A font without letters stands for one without the script; DejaVu Serif is always there.
    monkeypatch.setattr(module, "_base_characters", lambda: frozenset())
    with lettering(["abc"]) as note:
        families = matplotlib.rcParams["font.family"]
    assert note is None
    assert len(families) == 2
    matplotlib.font_manager.findfont(families[-1], fallback_to_default=False)


def test_fonts_installed_after_matplotlib_made_its_list_are_found(monkeypatch):
    from matplotlib.font_manager import FontManager, fontManager

    entries = [entry for entry in fontManager.ttflist if entry.name != "DejaVu Serif"]
    path = next(e.fname for e in fontManager.ttflist if e.name == "DejaVu Serif")
    monkeypatch.setattr(fontManager, "ttflist", entries)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [path])
    assert module._add_new_fonts()
    assert any(entry.name == "DejaVu Serif" for entry in fontManager.ttflist)
    assert isinstance(fontManager, FontManager)
    assert not module._add_new_fonts()


def test_coloured_and_last_resort_fonts_are_not_chosen():
    names = [one.family for one in module._installed_faces({"跳"})]
    assert names
    assert not [name for name in names if "Last Resort" in name or "Color" in name]


def test_dollars_and_underscores_are_drawn_as_they_are(tmp_path: Path):
    assert draw(r"cost $x_1$ \frac", tmp_path / "a.png") is None
    draw("cost x1 frac", tmp_path / "b.png")
    assert ink(tmp_path / "a.png") > ink(tmp_path / "b.png")  # two dollars, a bar, a backslash
    draw("a $ b $$ {", tmp_path / "c.png")  # as mathtext it does not parse


def test_settings_of_matplotlib_are_as_before():
    before = dict(matplotlib.rcParams)
    with lettering(["跳跃 $x$"]):
        pass
    assert dict(matplotlib.rcParams) == before


def test_a_shortened_name_keeps_both_ends_and_its_width():
    name = "Pretending to put something behind something else"
    for width in range(4, 60):
        short = shortened(name, width)
        assert text_width(short) <= width
    assert shortened(name, 20).startswith("Pretendi")
    assert shortened(name, 20).endswith("ing else")
    assert text_width(shortened("跳跃动作" * 10, 11)) <= 11
    assert shortened("a\nb", 10) == "a b"
