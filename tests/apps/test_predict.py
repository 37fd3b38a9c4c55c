import copy
import inspect
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from motionaware.apps.predict import predict, seconds_at
from motionaware.apps.visualize import visualize
from motionaware.clip import ClipSpec
from motionaware.data.dataset import choose_frames
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video
from motionaware.errors import NonFiniteScores, VideoError
from motionaware.models.checkpoint import save
from motionaware.models.recognizer import VideoRecognizer, create_model


@pytest.fixture(scope="module")
def model() -> VideoRecognizer:
    torch.manual_seed(0)
    model = create_model(
        "resnet18_quarter",
        temporal="m2a",
        num_frames=4,
        class_names=["cat", "dog", "bird"],
        clip=ClipSpec(num_frames=4, image_size=32),
    )
    torch.nn.init.normal_(model.head.weight)
    return model


def random_frames(num_frames: int) -> torch.Tensor:
    return torch.randint(
        0,
        256,
        (num_frames, 3, 32, 40),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_video(path, random_frames(50), fps=2)  # 25 seconds
    return path


def test_a_prediction_is_the_softmax_of_the_scores_of_the_test_clip(
    model: VideoRecognizer, long_video: Path
):
    video = open_video(long_video)
    clip = crop_for_testing(
        video.frames(choose_frames(video.num_frames, model.clip)), spec=model.clip
    )
    model.eval()
    wanted = model(clip[None])[0].softmax(dim=-1)
    found = dict(predict(model, long_video, num_clips=1).classes)
    assert found == pytest.approx(dict(zip(model.class_names, wanted.tolist(), strict=True)))


def test_a_long_video_has_one_part_per_ten_seconds_rounded_up(
    model: VideoRecognizer, long_video: Path
):
    parts = predict(model, long_video).parts
    bounds = [(part.start_seconds, part.end_seconds) for part in parts]
    assert bounds == [(0.0, 8.0), (8.0, 16.5), (16.5, 25.0)]


def test_seconds_are_rounded_to_the_millisecond(model: VideoRecognizer, long_video: Path):
    # Timestamps are fractions; their floats have rounding errors.
    video = replace(open_video(long_video), times_seconds=np.arange(50) / 3 - 1e-8)
    assert [seconds_at(video, frame) for frame in (1, 2, 3, 50)] == [0.333, 0.667, 1.0, 16.667]


def test_the_prediction_is_the_mean_over_the_parts(model: VideoRecognizer, long_video: Path):
    prediction = predict(model, long_video, num_clips=9)  # more than one batch
    assert len(prediction.parts) == 9
    for name, probability in prediction.classes:
        mean = sum(dict(part.classes)[name] for part in prediction.parts) / 9
        assert probability == pytest.approx(mean)
    probabilities = [probability for _, probability in prediction.classes]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0)


def test_a_checkpoint_predicts_the_same_as_its_model(
    model: VideoRecognizer, long_video: Path, tmp_path: Path
):
    save(model, tmp_path / "model.safetensors")
    found = predict(tmp_path / "model.safetensors", long_video)
    assert found == predict(model, long_video)


def test_a_folder_of_frames_has_no_timestamps(model: VideoRecognizer, tmp_path: Path):
    for number, frame in enumerate(random_frames(6)):
        picture = Image.fromarray(frame.permute(1, 2, 0).numpy())
        picture.save(tmp_path / f"frame_{number}.png")
    (part,) = predict(model, tmp_path).parts
    assert (part.start_seconds, part.end_seconds) == (None, None)


@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_video_shorter_than_the_clip_repeats_frames(
    num_frames: int, model: VideoRecognizer, tmp_path: Path
):
    write_video(tmp_path / "short.mp4", random_frames(num_frames), fps=10)
    prediction = predict(model, tmp_path / "short.mp4", num_clips=5)
    assert len(prediction.parts) == min(num_frames, 5)
    assert len(prediction.classes) == 3


@pytest.mark.parametrize(
    ("num_frames", "num_clips", "note"),
    [
        (1, None, "the video has 1 frame, which is repeated 4 times: there is no motion"),
        (3, None, "the video has 3 frames, fewer than the 4 of a clip: some repeat"),
        (4, 2, "a part has 2 frames, fewer than the 4 of a clip: some repeat"),
        (4, None, None),
    ],
)
def test_the_note_of_a_prediction_says_if_frames_repeat(
    num_frames: int, num_clips: int | None, note: str | None, model: VideoRecognizer, tmp_path: Path
):
    write_video(tmp_path / "short.mp4", random_frames(num_frames), fps=10)
    prediction = predict(model, tmp_path / "short.mp4", num_clips=num_clips)
    assert prediction.note == note
    assert (prediction.table().splitlines()[-1] == f"  note: {note}") == (note is not None)


def test_the_error_for_a_tensor_names_the_call_for_tensors(model: VideoRecognizer):
    message = "video is a Tensor, wanted the path of a video file .*: model\\(clips\\)"
    for call in (predict, visualize):
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(call)(
                model, torch.rand(1, 4, 3, 32, 32)
            )  # without the type checks of the tests


def test_top_k_is_limited_to_the_number_of_classes(model: VideoRecognizer, long_video: Path):
    assert len(predict(model, long_video, top_k=99).classes) == 3
    assert len(predict(model, long_video, top_k=2).classes) == 2


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored_even_if_the_video_is_broken(
    training: bool, model: VideoRecognizer, long_video: Path, tmp_path: Path
):
    model.train(training)
    predict(model, long_video)
    assert {module.training for module in model.modules()} == {training}
    (tmp_path / "broken.mp4").write_bytes(long_video.read_bytes()[:-200])
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        predict(model, tmp_path / "broken.mp4")
    assert {module.training for module in model.modules()} == {training}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is an empty file, wanted a video"), (b"some text", "text.mp4")],
    ids=["empty", "text"],
)
def test_the_error_names_a_file_that_is_not_a_video(
    content: bytes, message: str, model: VideoRecognizer, tmp_path: Path
):
    (tmp_path / "text.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=message):
        predict(model, tmp_path / "text.mp4")


def test_the_error_of_nan_scores_names_the_video(model: VideoRecognizer, long_video: Path):
    broken = copy.deepcopy(model)
    torch.nn.init.constant_(broken.head.weight, math.nan)
    message = f"scores of {long_video} are infinite or not a number .*the first is head.weight"
    with pytest.raises(NonFiniteScores, match=message):
        predict(broken, long_video)


def test_numbers_below_one_are_refused(model: VideoRecognizer, long_video: Path):
    with pytest.raises(ValueError, match="top_k = 0; wanted at least 1 class"):
        predict(model, long_video, top_k=0)
    with pytest.raises(ValueError, match="num_clips = 0; wanted at least 1 clip"):
        predict(model, long_video, num_clips=0)


def test_the_note_of_a_prediction_says_if_the_frame_size_changes(
    model: VideoRecognizer, changing_video: Path
):
    prediction = predict(model, changing_video)
    assert prediction.note is not None and "the size of its frames changes" in prediction.note
    assert f"  note: {prediction.note}" in prediction.table()


def test_a_video_is_opened_with_square_pixels_only_if_the_clip_spec_says_so(
    model: VideoRecognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_video(tmp_path / "a.mp4", random_frames(6), fps=10)
    seen = []

    def opened(path, *, square_pixels):
        seen.append(square_pixels)
        return open_video(path, square_pixels=square_pixels)

    monkeypatch.setattr("motionaware.apps.predict.open_video", opened)
    predict(model, tmp_path / "a.mp4")
    clip = model.clip
    try:
        model.clip = replace(clip, square_pixels=False)
        predict(model, tmp_path / "a.mp4")
    finally:
        model.clip = clip
    assert seen == [True, False]
