import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from motionaware.apps.visualize import class_number, visualize
from motionaware.clip import ClipSpec
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video
from motionaware.errors import NonFiniteScores
from motionaware.explain.activations import record_activations
from motionaware.explain.drawing import Scene, draw_sheet
from motionaware.models.checkpoint import save
from motionaware.models.recognizer import VideoRecognizer, create_model


def model_with(temporal: str = "m2a") -> VideoRecognizer:
    torch.manual_seed(0)
    return create_model(
        "resnet18_quarter",
        temporal=temporal,
        num_frames=4,
        class_names=["left", "right", "7"],
        clip=ClipSpec(num_frames=4, image_size=32),
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 seconds of noise at 2 frames a second."""
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (50, 3, 36, 48), dtype=torch.uint8, generator=generator)
    write_video(path, frames, fps=2)
    return path


def test_a_sheet_has_a_row_for_each_kind_of_map_that_the_module_has(video: Path, tmp_path: Path):
    heights = {}
    for temporal in ("m2a", "m2a,tsm", "patch", "tea", "none", "tsm"):
        drawn = visualize(model_with(temporal), video, tmp_path / "sheet.png")
        assert drawn.picture == str(tmp_path / "sheet.png")
        assert drawn.cam_layer == "layer3"
        with Image.open(drawn.picture) as picture:
            assert picture.format == "PNG"
            heights[temporal] = picture.height
    # Rows: frames; motion and gate of three sites, or motion only, or neither; Grad-CAM.
    assert heights["m2a"] == heights["m2a,tsm"] == heights["patch"]
    assert heights["m2a"] > heights["tea"] > heights["none"] == heights["tsm"]


def test_nan_scores_are_an_error_and_no_picture_is_written(video: Path, tmp_path: Path):
    model = model_with()
    torch.nn.init.constant_(model.head.bias, math.nan)
    with pytest.raises(NonFiniteScores, match=r"scores of .*noise\.mp4 are infinite or not"):
        visualize(model, video, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_has_rows_for_each_chosen_site(video: Path, tmp_path: Path):
    heights = []
    for names in (["layer1.0.conv1"], ["layer1.0.conv1", "layer3.0.conv1"]):
        drawn = visualize(model_with(), video, tmp_path / "sheet.png", sites=names)
        assert list(drawn.sites) == names
        with Image.open(drawn.picture) as picture:
            heights.append(picture.height)
    assert heights[1] > heights[0] + 200


def test_a_gif_has_one_picture_a_frame_and_repeats(video: Path, tmp_path: Path):
    drawn = visualize(model_with(), video, tmp_path / "movie.gif", fps=4, sites="all")
    with Image.open(drawn.picture) as movie:
        assert (getattr(movie, "n_frames", 0), movie.info["duration"]) == (4, 250)
        assert movie.info["loop"] == 0


def test_an_mp4_has_one_picture_a_frame(video: Path, tmp_path: Path):
    drawn = visualize(model_with(), video, tmp_path / "movie.MP4", fps=4)
    movie = open_video(drawn.picture)
    assert movie.num_frames == 4
    assert movie.height % 2 == movie.width % 2 == 0
    assert movie.times_seconds is not None and movie.times_seconds[1] == 0.25
    first, last = movie.frames([0, 3])
    assert (first != last).any()


@pytest.mark.parametrize(
    ("sites", "drawn"),
    [
        (None, ("layer1.0.conv1", "layer3.0.conv1", "layer4.1.conv1")),
        ("first", ("layer1.0.conv1",)),
        (["last"], ("layer4.1.conv1",)),
        (["layer2.0.conv1", "layer1.1.conv1"], ("layer1.1.conv1", "layer2.0.conv1")),
        ("layer2.0.conv1", ("layer2.0.conv1",)),
    ],
)
def test_sites_are_given_by_name_or_as_first_or_last(sites, drawn, video: Path, tmp_path: Path):
    found = visualize(model_with(), video, tmp_path / "sheet.png", sites=sites)
    assert found.sites == drawn


def test_the_parts_of_a_video_are_those_of_predict(video: Path, tmp_path: Path):
    second = visualize(model_with("none"), video, tmp_path / "sheet.png", clip=2)
    assert second.start_seconds == 8.0
    assert second.end_seconds == 16.5
    assert all(16 <= frame < 33 for frame in second.frames)
    with pytest.raises(ValueError, match=r"clip is 4, but .*noise.mp4 has parts 1 to 3; choose"):
        visualize(model_with("none"), video, tmp_path / "sheet.png", clip=4)


def test_grad_cam_explains_the_most_probable_class_or_the_given_one(video: Path, tmp_path: Path):
    model = model_with("none")
    by_default = visualize(model, video, tmp_path / "sheet.png")
    assert by_default.shown_class == by_default.classes[0][0]
    chosen = visualize(model, video, tmp_path / "sheet.png", shown_class="right")
    assert chosen.shown_class == "right"
    assert "Grad-CAM of right at layer3" in chosen.table()


def test_a_class_is_found_by_name_before_number():
    names = ("left", "right", "7", *"abcdefg")
    assert class_number("right", names) == 1
    assert class_number("7", names) == 2
    assert class_number("1", names) == 1
    assert class_number(9, names) == 9
    with pytest.raises(ValueError, match="class 'lift' is unknown; did you mean 'left'"):
        class_number("lift", names)
    with pytest.raises(ValueError, match="class 10 does not exist; the 10 classes are 0 to 9"):
        class_number("10", names)


def test_a_checkpoint_path_and_a_folder_of_frames_are_accepted(tmp_path: Path):
    save(model_with(), tmp_path / "model.safetensors")
    (tmp_path / "frames").mkdir()
    for number in range(5):
        Image.new("RGB", (40, 40), (50 * number, 0, 0)).save(tmp_path / f"frames/{number}.png")
    drawn = visualize(tmp_path / "model.safetensors", tmp_path / "frames", tmp_path / "sheet.png")
    assert drawn.start_seconds is None
    assert drawn.table().splitlines()[0] == str(tmp_path / "frames")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "sheet.jpg"}, r"sheet.jpg ends with '.jpg'; choose .png, .gif, .mp4"),
        ({"sites": ["layer1"]}, "site 'layer1' is unknown; did you mean 'layer1.0.conv1'?"),
        ({"layer": "layer9"}, r"layer 'layer9' is unknown; did you mean 'layer"),
        ({"sites": ["nonsense"]}, "site 'nonsense' is unknown; known: layer1.0.conv1, "),
        ({"top_k": 0}, "top_k = 0, fps = 2.0; top_k is at least 1"),
        ({"fps": 0.0}, "fps is above 0"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    options, message: str, video: Path, tmp_path: Path
):
    options = {"out": tmp_path / "sheet.png", **options}
    with pytest.raises(ValueError, match=message):
        visualize(model_with(), video, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_class_name_without_a_font_is_reported_and_causes_no_warning(
    ending: str, video: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
):
    model = model_with()
    model.class_names = ("\u8d70\u308b", *model.class_names[1:])
    drawn = visualize(model, video, tmp_path / f"sheet.{ending}", shown_class=0)
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
    assert "\u8d70\u308b" in drawn.table()


def test_without_matplotlib_the_error_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, video: Path, tmp_path: Path
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"run: pip install 'motionaware\[plots\]'"):
        visualize(model_with(), video, tmp_path / "sheet.png")


def test_long_class_names_do_not_overlap_and_take_less_than_a_fifth_of_the_width():
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    name = "Pretending to put something on a surface behind something else"
    model = create_model("resnet18_quarter", temporal="m2a", num_frames=8, num_classes=5)
    clip = torch.zeros(8, 3, 64, 64, dtype=torch.uint8)
    scene = Scene(
        frames=clip,
        captions=["0.0 s"] * 8,
        activations=record_activations(model, clip),
        class_names=[f"{name} {place}" for place in range(5)],
        title="",
        top_k=5,
    )
    figure = draw_sheet(scene)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    above, below = figure.subfigs
    extents = [
        axes.yaxis.label.get_window_extent(canvas.get_renderer())
        for axes in above.axes
        if axes.get_ylabel()
    ]
    assert "Grad-CAM" in above.axes[9 * (len(extents))].get_ylabel()
    for upper, lower in pairwise(extents):
        assert upper.y0 > lower.y1
    assert min(extent.x0 for extent in extents) >= 0
    bars = below.axes[0]
    shown = [label.get_window_extent(canvas.get_renderer()) for label in bars.get_yticklabels()]
    for upper, lower in pairwise(sorted(shown, key=lambda extent: -extent.y0)):
        assert upper.y0 >= lower.y1
    assert max(extent.width for extent in shown) < 0.2 * figure.bbox.width
