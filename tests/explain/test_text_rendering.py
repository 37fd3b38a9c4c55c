import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

matplotlib = pytest.importorskip("matplotlib")

from motionaware.explain import text_rendering as module  # noqa: E402
from motionaware.explain.drawing import import_figure_class, save_figure  # noqa: E402
from motionaware.explain.text_rendering import (  # noqa: E402
    Font,
    choose_families,
    fonts_for,
    missing_glyphs_note,
    shorten,
    text_width,
)


def font(family: str, characters: str) -> Font:
    return Font(family, lambda: {ord(one) for one in characters})


def num_dark_pixels(path: Path) -> int:
    return int((np.asarray(Image.open(path).convert("L")) < 128).sum())


def draw(text: str, path: Path) -> str | None:
    """Draw a text and return the note on missing characters."""
    with fonts_for([text]) as note:
        figure = import_figure_class()(figsize=(3, 1))
        figure.text(0.1, 0.5, text)
        save_figure(figure, path)
    return note


def test_fonts_are_read_in_order_until_all_characters_are_found():
    def fail() -> set[int]:
        raise AssertionError("this font must not be read")

    fonts = [font("latin", "abc"), font("han", "跳跃"), font("thai", "ส"), Font("last", fail)]
    assert choose_families(set("跳ส"), fonts) == (["han", "thai"], set())


def test_characters_that_no_font_has_are_returned():
    assert choose_families(set("跳ส"), [font("han", "跳跃")]) == (["han"], {"ส"})


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
def test_the_note_lists_the_characters_and_a_package(characters: str, package: str):
    note = missing_glyphs_note(set(characters))
    assert all(character in note for character in characters)
    assert package in note
    assert "\n" not in note


def test_a_long_list_of_characters_is_truncated():
    assert "and 8 more" in missing_glyphs_note({chr(0x4E00 + place) for place in range(20)})


def test_missing_characters_cause_a_note_and_no_warning(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "_installed_fonts", lambda needed: [])
    monkeypatch.setattr(module, "_add_new_fonts", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note = draw("跳跃 walk", tmp_path / "a.png")
    assert note is not None and "跳" in note and "w" not in note.partition(":")[0].split()[-1]


def test_an_installed_font_that_has_the_characters_is_added(tmp_path: Path, monkeypatch):
    # An empty base font has no letters; DejaVu Serif comes with matplotlib.
    monkeypatch.setattr(module, "_base_characters", lambda: frozenset())
    with fonts_for(["abc"]) as note:
        families = matplotlib.rcParams["font.family"]
    assert note is None
    assert len(families) == 2
    matplotlib.font_manager.findfont(families[-1], fallback_to_default=False)


def test_fonts_installed_after_matplotlib_cached_its_list_are_found(monkeypatch):
    from matplotlib.font_manager import FontManager, fontManager

    entries = [entry for entry in fontManager.ttflist if entry.name != "DejaVu Serif"]
    path = next(e.fname for e in fontManager.ttflist if e.name == "DejaVu Serif")
    monkeypatch.setattr(fontManager, "ttflist", entries)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [path])
    assert module._add_new_fonts()
    assert any(entry.name == "DejaVu Serif" for entry in fontManager.ttflist)
    assert isinstance(fontManager, FontManager)
    assert not module._add_new_fonts()


def test_colour_and_last_resort_fonts_are_not_chosen():
    names = [one.family for one in module._installed_fonts({"跳"})]
    assert names
    assert not [name for name in names if "Last Resort" in name or "Color" in name]


def test_dollars_and_underscores_are_drawn_literally(tmp_path: Path):
    assert draw(r"cost $x_1$ \frac", tmp_path / "a.png") is None
    draw("cost x1 frac", tmp_path / "b.png")
    assert num_dark_pixels(tmp_path / "a.png") > num_dark_pixels(
        tmp_path / "b.png"
    )  # two dollars, a bar, a backslash
    draw("a $ b $$ {", tmp_path / "c.png")  # as mathtext it does not parse


def test_the_settings_of_matplotlib_are_restored():
    before = dict(matplotlib.rcParams)
    with fonts_for(["跳跃 $x$"]):
        pass
    assert dict(matplotlib.rcParams) == before


def test_a_shortened_name_keeps_both_ends_and_fits_the_width():
    name = "Pretending to put something behind something else"
    for width in range(4, 60):
        short = shorten(name, width)
        assert text_width(short) <= width
    assert shorten(name, 20).startswith("Pretendi")
    assert shorten(name, 20).endswith("ing else")
    assert text_width(shorten("跳跃动作" * 10, 11)) <= 11
    assert shorten("a\nb", 10) == "a b"
