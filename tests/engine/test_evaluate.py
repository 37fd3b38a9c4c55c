import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motionaware.clip import ClipSpec
from motionaware.data.motionpairs import CLASS_NAMES
from motionaware.engine.config import DataConfig, EvalConfig, Recipe
from motionaware.engine.dataset_factory import open_dataset
from motionaware.engine.evaluate import (
    check_classes,
    evaluate,
    evaluation_mode,
    pick_device,
    view_probabilities,
)
from motionaware.errors import NonFiniteScores, VideoError
from motionaware.models.recognizer import VideoRecognizer, create_model


@pytest.fixture(scope="module")
def model() -> VideoRecognizer:
    torch.manual_seed(0)
    clip = ClipSpec(num_frames=4, image_size=32)
    model = create_model(
        "resnet18_quarter", temporal="m2a", num_frames=4, class_names=CLASS_NAMES, clip=clip
    )
    torch.nn.init.normal_(model.head.weight)
    return model


def test_views_are_averaged_after_the_softmax(model: VideoRecognizer):
    views = torch.randint(0, 256, (2, 3, 4, 3, 32, 32), dtype=torch.uint8)
    with evaluation_mode(model):
        found = view_probabilities(model, views)
        each = [model(views[:, view]).softmax(dim=-1) for view in range(3)]
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0).detach())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))


def test_a_report_covers_all_videos_of_the_split(
    model: VideoRecognizer, tiny_recipe: Recipe, video_folder: Path
):
    report = evaluate(model, tiny_recipe.data, config=EvalConfig(batch_size=5))
    assert report.num_videos == 12
    data = DataConfig(kind="folder", root=str(video_folder), num_workers=0)
    listed_model = create_model(
        "resnet18_quarter",
        temporal="none",
        num_frames=4,
        class_names=CLASS_NAMES,
        clip=model.clip,
    )
    report = evaluate(listed_model, data, split="val", config=EvalConfig(batch_size=5, num_views=2))
    assert report.num_videos == 12
    assert sum(map(sum, report.confusion)) == 12


def test_nan_scores_of_a_view_are_an_error_with_the_name_of_the_video(
    model: VideoRecognizer, tiny_recipe: Recipe
):
    broken = copy.deepcopy(model)
    forward = broken.forward
    broken.forward = lambda clips: forward(clips).index_fill(0, torch.tensor([1]), math.nan)
    message = r"of motionpairs/test/000001 are infinite or not a number .*the weights are finite"
    with pytest.raises(NonFiniteScores, match=message):
        evaluate(broken, tiny_recipe.data, config=EvalConfig(batch_size=5))


def test_the_batch_size_does_not_change_the_results(model: VideoRecognizer, tiny_recipe: Recipe):
    first, second = (
        evaluate(model, tiny_recipe.data, config=EvalConfig(batch_size=size)) for size in (1, 12)
    )
    assert first.confusion == second.confusion
    assert first.loss == pytest.approx(second.loss, rel=1e-4)


def test_evaluation_restores_the_mode_of_each_submodule(
    model: VideoRecognizer, tiny_recipe: Recipe
):
    model.train()
    model.backbone.get_submodule("bn1").eval()
    before = [module.training for module in model.modules()]
    evaluate(model, tiny_recipe.data)
    assert [module.training for module in model.modules()] == before


def test_classes_in_another_order_are_an_error_with_the_first_difference():
    with pytest.raises(ValueError, match=r"class 1 is 'b' in the model, 'c' in the data"):
        check_classes(["a", "b", "c"], ["a", "c", "b"])


def test_another_number_of_classes_is_an_error_with_both_numbers():
    with pytest.raises(
        ValueError, match=r"has 2 classes, the data have 3; 'c' is a class of the data only"
    ):
        check_classes(["a", "b"], ["a", "b", "c"])


def test_data_with_other_classes_are_an_error(model: VideoRecognizer, tmp_path: Path):
    for name in ("cats", "dogs"):
        frames = tmp_path / "test" / name / "one"
        frames.mkdir(parents=True)
        (frames / "1.png").touch()
    data = DataConfig(kind="folder", root=str(tmp_path))
    with pytest.raises(ValueError, match="the model has 12 classes, the data have 2"):
        evaluate(model, data)


def test_a_missing_video_is_an_error_when_the_data_set_is_opened(tmp_path: Path):
    (tmp_path / "train.csv").write_text("a.mp4,cat\nb.mp4,cat\n")
    (tmp_path / "b.mp4").touch()
    with pytest.raises(
        ValueError, match=r"1 of the 2 videos of train do not exist, first .*a\.mp4"
    ):
        open_dataset(DataConfig(kind="csv", root=str(tmp_path)), "train", spec=ClipSpec())


def test_an_unknown_kind_of_data_is_an_error_that_offers_the_nearest():
    message = r"'motionpair' is unknown; did you mean 'motionpairs'\? Choose folder"
    with pytest.raises(ValueError, match=message):
        open_dataset(DataConfig(kind="motionpair", root="."), "train", spec=ClipSpec())


def test_motionpairs_has_the_number_of_clips_in_the_recipe(tiny_recipe: Recipe):
    data = replace(tiny_recipe.data, num_train_clips=13, root=None)
    dataset = open_dataset(data, "train", spec=tiny_recipe.clip)
    assert (len(dataset), dataset.class_names) == (13, CLASS_NAMES)


def test_auto_gives_a_usable_device_and_an_unknown_device_is_an_error():
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device 'abacus' cannot be used here; choose auto"):
        pick_device("abacus")


def test_another_class_order_of_something_something_is_an_error(trees, plant, tmp_path: Path):
    names = ("Closing something", "Holding something")
    tree = replace(
        trees["something-v2"],
        lists={
            "labels.json": '{"Closing something": "0", "Holding something": "1"}',
            "validation.json": '[{"id": "74225", "template": "Holding [something]"}]',
        },
    )
    root = plant(tree, tmp_path)
    other = create_model("resnet18_quarter", temporal="none", num_frames=4, class_names=names[::-1])
    message = r"class 0 is 'Holding something' in the model, 'Closing something' in the data"
    with pytest.raises(ValueError, match=message):
        evaluate(other, DataConfig(kind="something-v2", root=str(root)), split="val")


def test_a_report_counts_skipped_videos(model: VideoRecognizer, tmp_path: Path):
    from motionaware.apps.prepare_motionpairs import prepare_motionpairs

    prepare_motionpairs(tmp_path, num_clips={"val": 24}, num_frames=4, image_size=32)
    broken, missing = sorted((tmp_path / "val").glob("*/*.mp4"))[:2]
    broken.write_text("no video")
    missing.unlink()
    missing.symlink_to(tmp_path / "nowhere.mp4")
    data = DataConfig(
        kind="folder",
        root=str(tmp_path),
        on_error="skip",
        max_skipped_share=0.1,
        num_workers=0,
    )
    report = evaluate(model, data, split="val", config=EvalConfig(batch_size=1))
    assert (report.num_videos, report.num_skipped) == (22, 2)
    assert report.summary().startswith("22 of 24 videos (2 skipped)  top-1")
    with pytest.raises(ValueError, match=r"2 of the 24 videos of val are absent or cannot be read"):
        evaluate(model, replace(data, max_skipped_share=0.05), split="val")


def test_a_report_holds_the_notes_about_videos(
    model: VideoRecognizer, changing_video: Path, tmp_path: Path
):
    (tmp_path / "test.csv").write_text(f"{changing_video},a\n")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    names = ["a", "b", "c"]
    listed = create_model(
        "resnet18_quarter", temporal="none", num_frames=4, class_names=names, clip=model.clip
    )
    data = DataConfig(kind="csv", root=str(tmp_path), num_workers=0)
    report = evaluate(listed, data)
    (note,) = report.notes
    assert note.startswith(f"{changing_video}: the size of its frames changes; all are scaled")
    with pytest.raises(VideoError, match="data.size_change: scale"):
        evaluate(listed, replace(data, size_change="refuse"))
