import errno
import math
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from motionaware.apps.prepare_index import prepare_index
from motionaware.data.loader import Batch
from motionaware.engine import progress as progress_module
from motionaware.engine import run_folder as run_folder_module
from motionaware.engine import signals as signals_module
from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.optim import freeze_batch_norms
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import Trainer, train
from motionaware.errors import DataError, TrainingDiverged, TrainingInterrupted, VideoError
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import create_model
from motionaware.models.site_hooks import sites
from motionaware.models.weights import file_checksum


def modify(recipe: Recipe, **groups: dict) -> Recipe:
    return replace(
        recipe, **{name: replace(getattr(recipe, name), **facts) for name, facts in groups.items()}
    )


def on_videos(recipe: Recipe, video_folder: Path, **data: object) -> Recipe:
    config = DataConfig(kind="folder", root=str(video_folder), crop="random", num_workers=0)
    return modify(replace(recipe, data=replace(config, **data)), train={"batch_size": 3})


def make_trainer(recipe: Recipe, folder: Path, *, resume: bool = False) -> Trainer:
    return Trainer(recipe, RunFolder(folder), resume=resume, progress=False, log=lambda line: None)


def log_of(folder: Path) -> list[dict[str, str]]:
    rows = RunFolder(folder).read_log()
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def assert_same_run(first: Path, second: Path) -> None:
    assert log_of(first) == log_of(second)
    for name in ("last.safetensors", "best.safetensors"):
        a, b = load(first / name).state_dict(), load(second / name).state_dict()
        assert a.keys() == b.keys()
        different = [key for key in a if not torch.equal(a[key], b[key])]
        assert different == []


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the given step, counted from now on, send a signal."""

    def send_signal_in(step: int) -> None:
        steps = iter(range(1, 1000))
        train_step = Trainer._train_step

        def interrupted(run: Trainer, group: list[Batch]) -> None:
            if next(steps) == step:
                signal.raise_signal(signal.SIGINT if step == 1 else signal.SIGTERM)
            train_step(run, group)

        monkeypatch.setattr(Trainer, "_train_step", interrupted)

    return send_signal_in


def test_the_training_loss_falls_on_a_few_clips(tiny_recipe: Recipe, tmp_path: Path):
    recipe = modify(
        tiny_recipe,
        data={"num_train_clips": 12},
        model={"dropout": 0.0},
        train={"epochs": 20, "batch_size": 12, "accumulate": 1},
        optim={"optimizer": "adamw", "learning_rate": 3e-3},
    )
    train(recipe, tmp_path / "run")
    losses = [float(row["train_loss"]) for row in log_of(tmp_path / "run")]
    assert losses[0] == pytest.approx(math.log(12), rel=0.1)  # chance level
    assert losses[-1] < 0.6 * losses[0]


def test_a_run_writes_recipe_log_curves_and_checkpoints(tiny_recipe: Recipe, tmp_path: Path):
    lines: list[str] = []
    report = train(tiny_recipe, tmp_path / "run", log=lines.append)
    folder = RunFolder(tmp_path / "run")
    assert folder.recipe() == tiny_recipe
    assert [row["epoch"] for row in log_of(folder.path)] == ["1", "2"]
    assert list((folder.path / "tensorboard").glob("events.*"))
    assert not list(folder.path.glob(".*"))  # no temporary file
    last = load(folder.last)
    assert last.recipe["trained"]["epoch"] == 2
    assert last.recipe["trained"]["val_loss"] == report.loss
    assert last.clip == tiny_recipe.clip
    assert lines[0].startswith("resnet18_quarter, temporal m2a at 8 sites, 0.71 M parameters; ")
    assert "12 classes, 30 training and 12 validation videos; on cpu with 1 thread; " in lines[0]
    assert [line.split()[:2] for line in lines[1:]] == [["epoch", "1/2"], ["epoch", "2/2"]]


def test_best_is_the_first_epoch_of_the_highest_validation_accuracy(
    tiny_recipe: Recipe, tmp_path: Path
):
    train(modify(tiny_recipe, train={"epochs": 4}), tmp_path / "run")
    top1 = [float(row["val_top1"]) for row in log_of(tmp_path / "run")]
    best = load(tmp_path / "run" / "best.safetensors").recipe["trained"]
    assert best["epoch"] == 1 + top1.index(max(top1))


@pytest.mark.parametrize("step", [1, 2, 3], ids=["mid-epoch", "epoch-end", "second-epoch"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_resumed_run_gives_the_same_numbers_as_an_uninterrupted_run(
    step: int,
    num_workers: int,
    tiny_recipe: Recipe,
    video_folder: Path,
    tmp_path: Path,
    interrupt: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
):
    recipe = on_videos(tiny_recipe, video_folder, num_workers=num_workers)
    recipe = modify(recipe, train={"ema_decay": 0.9, "partial_batch_norm": True})
    assert recipe.model.dropout > 0
    train(recipe, tmp_path / "uninterrupted")
    with monkeypatch.context(), pytest.raises(TrainingInterrupted, match="all of it is saved"):
        interrupt(step)
        train(recipe, tmp_path / "resumed")
    monkeypatch.undo()
    torch.rand(17)  # the caller's random state must not matter
    train(recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_ctrl_c_during_validation_saves_the_finished_steps(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(tiny_recipe, tmp_path / "uninterrupted")
    validate = Trainer._validate

    def interrupted(run: Trainer):
        signal.raise_signal(signal.SIGINT)
        return validate(run)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", interrupted)
        with pytest.raises(TrainingInterrupted, match="epoch 1 after step 2 of 2"):
            train(tiny_recipe, tmp_path / "resumed")
    assert not (tmp_path / "resumed" / "log.csv").exists()
    train(tiny_recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
def test_a_closed_terminal_saves_the_run_and_nohup_ignores_it(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train_step = Trainer._train_step

    def hang_up(run: Trainer, group: list[Batch]) -> None:
        train_step(run, group)
        signal.raise_signal(signal.SIGHUP)

    train(tiny_recipe, tmp_path / "uninterrupted")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the test process may ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_train_step", hang_up)
            with pytest.raises(TrainingInterrupted):
                train(tiny_recipe, tmp_path / "run")
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
            train(tiny_recipe, tmp_path / "nohup")
    finally:
        signal.signal(signal.SIGHUP, before)
    train(tiny_recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "run")
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "nohup")


def test_a_second_process_cannot_train_the_same_run(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train_step, refused = Trainer._train_step, []

    def resume_meanwhile(run: Trainer, group: list[Batch]) -> None:
        if not refused:
            refused.append(True)
            message = "run is being trained by another process; wait until it has ended"
            with pytest.raises(BlockingIOError, match=message):
                train(tiny_recipe, tmp_path / "run", resume=True)
        train_step(run, group)

    monkeypatch.setattr(Trainer, "_train_step", resume_meanwhile)
    train(tiny_recipe, tmp_path / "run")
    assert refused


def test_a_second_ctrl_c_raises_keyboard_interrupt(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seconds = iter((0.0, 1.5))
    monkeypatch.setattr(signals_module.time, "monotonic", lambda: next(seconds, 9.0))

    def interrupt_twice(run: Trainer, group: list[Batch]) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", interrupt_twice)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler


def test_resuming_a_finished_run_changes_nothing(tiny_recipe: Recipe, tmp_path: Path):
    recipe = modify(tiny_recipe, train={"epochs": 1})
    report = train(recipe, tmp_path / "run")
    before = {
        path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()
    }
    assert train(recipe, tmp_path / "run", resume=True) == report
    after = {
        path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()
    }
    assert before == after


def test_resuming_reads_the_saved_state_once(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = modify(tiny_recipe, train={"epochs": 1})
    train(recipe, tmp_path / "run")
    read_torch, reads = run_folder_module.read_torch, []
    monkeypatch.setattr(
        run_folder_module, "read_torch", lambda file: reads.append(file) or read_torch(file)
    )
    folder = RunFolder(tmp_path / "run")
    assert len(folder.history()) == 1
    train(recipe, folder, resume=True)
    assert len(reads) == 1


def test_a_run_killed_before_the_first_save_restarts_from_the_pretrained_weights(
    tiny_recipe: Recipe, tmp_path: Path
):
    plain = make_trainer(tiny_recipe, tmp_path / "plain").state.model.backbone.state_dict()
    weights = {key: value + 1 for key, value in plain.items()}
    torch.save(weights, tmp_path / "weights.pth")
    recipe = modify(tiny_recipe, model={"pretrained": str(tmp_path / "weights.pth")})
    RunFolder(tmp_path / "run").begin(recipe)
    resumed = make_trainer(recipe, tmp_path / "run", resume=True).state.model.backbone.state_dict()
    assert torch.equal(resumed["conv1.weight"], weights["conv1.weight"])


def test_resuming_without_a_run_is_an_error(tiny_recipe: Recipe, tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"none holds no run to resume: there is no recipe\.yaml"
    ):
        train(tiny_recipe, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_resuming_with_another_recipe_is_an_error(tiny_recipe: Recipe, tmp_path: Path):
    RunFolder(tmp_path / "run").begin(tiny_recipe)
    other = modify(tiny_recipe, optim={"learning_rate": 0.3})
    message = r"was begun with another recipe: optim.learning_rate was 0.02, is 0.3 now; restore it"
    with pytest.raises(ValueError, match=message):
        train(other, tmp_path / "run", resume=True)


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_an_extended_run_gives_the_same_numbers_as_one_planned_with_more_epochs(
    epochs_before: int, tiny_recipe: Recipe, tmp_path: Path
):
    longer = modify(tiny_recipe, train={"epochs": 3, "ema_decay": 0.9})
    train(longer, tmp_path / "uninterrupted")
    train(modify(longer, train={"epochs": epochs_before}), tmp_path / "run")
    lines = []
    train(longer, tmp_path / "run", resume=True, log=lines.append)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "run")
    assert f"resumed with train.epochs 3 (was {epochs_before})" in lines
    assert RunFolder(tmp_path / "run").recipe() == longer


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_a_run_whose_schedule_depends_on_its_length_cannot_be_extended(
    schedule: str, tiny_recipe: Recipe, tmp_path: Path
):
    recipe = modify(tiny_recipe, optim={"schedule": schedule}, train={"epochs": 1})
    train(recipe, tmp_path / "run")
    message = r"train.epochs 3 in place of 1: its learning rate .* --model.pretrained .*last\.safet"
    with pytest.raises(ValueError, match=message) as error:
        train(modify(recipe, train={"epochs": 3}), tmp_path / "run", resume=True)
    assert f"optim.schedule: {schedule}" in str(error.value)
    assert str(error.value).count("--train.epochs 2")
    assert RunFolder(tmp_path / "run").recipe() == recipe


def test_a_run_cannot_be_shortened_below_its_completed_epochs(tiny_recipe: Recipe, tmp_path: Path):
    train(tiny_recipe, tmp_path / "run")
    with pytest.raises(ValueError, match="has completed 2 epochs; wanted train.epochs above"):
        train(modify(tiny_recipe, train={"epochs": 1}), tmp_path / "run", resume=True)


def test_a_changed_recipe_file_is_an_error(tiny_recipe: Recipe, tmp_path: Path):
    train(modify(tiny_recipe, train={"epochs": 1}), tmp_path / "run")
    file = tmp_path / "run" / "recipe.yaml"
    file.write_text(file.read_text().replace("learning_rate: 0.02", "learning_rate: 0.12"))
    message = (
        r"optim.learning_rate was 0.02, is 0.12 now; restore it on the command line or in .*yaml"
    )
    with pytest.raises(ValueError, match=message):
        train(RunFolder(tmp_path / "run").recipe(), tmp_path / "run", resume=True)


def test_a_run_fine_tunes_another_run_and_resumes_without_its_files(
    tiny_recipe: Recipe,
    video_folder: Path,
    tmp_path: Path,
    interrupt: Callable[[int], None],
):
    first = modify(on_videos(tiny_recipe, video_folder), train={"epochs": 1})
    train(first, tmp_path / "first")
    shutil.copytree(video_folder, tmp_path / "two", ignore=shutil.ignore_patterns("*.txt"))
    for split in ("train", "val"):  # other classes: two of the twelve
        for folder in sorted((tmp_path / "two" / split).iterdir())[2:]:
            shutil.rmtree(folder)
    second = modify(
        first,
        data={"root": str(tmp_path / "two")},
        model={"pretrained": str(tmp_path / "first")},
        optim={"learning_rate": 1e-12},
        train={"epochs": 2},
    )
    lines = []
    train(second, tmp_path / "uninterrupted", log=lines.append)
    best = tmp_path / "first" / "best.safetensors"
    assert f"weights from {best}: 154 of 156 tensors" in lines
    assert "  new: head.weight, head.bias (12 classes in the file, 2 here)" in lines
    old, new = (load(tmp_path / run / "last.safetensors") for run in ("first", "uninterrupted"))
    weights = dict(new.named_parameters())
    for name, before in load(best).named_parameters():
        assert name.startswith("head.") or torch.allclose(weights[name], before, atol=1e-6), name
    assert old.origin is None
    assert new.origin is not None
    assert new.origin.checksum == file_checksum(best)

    interrupt(2)
    with pytest.raises(TrainingInterrupted):
        train(second, tmp_path / "resumed")
    shutil.rmtree(tmp_path / "first")
    train(second, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")
    assert load(tmp_path / "resumed" / "last.safetensors").origin == new.origin


def test_resuming_on_other_data_is_an_error(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    for split in ("train", "val"):
        for video in sorted((video_folder / split).glob("*/*.mp4"))[:2]:
            place = root / video.relative_to(video_folder)
            place.parent.mkdir(parents=True)
            place.write_bytes(video.read_bytes())
    recipe = modify(on_videos(tiny_recipe, root), train={"epochs": 1})
    train(recipe, tmp_path / "run")
    train_video = next((root / "train").glob("*/*"))
    train_video.with_name("one more.mp4").write_bytes(train_video.read_bytes())
    with pytest.raises(ValueError, match="have changed since .* 2 videos then, 3 now"):
        train(recipe, tmp_path / "run", resume=True)


def test_a_damaged_state_is_an_error(tiny_recipe: Recipe, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.begin(tiny_recipe)
    for content in (b"", b"no state", b"PK\x03\x04 truncated"):
        (folder.path / "resume.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"resume\.pt is damaged .*, the run cannot be"):
            train(tiny_recipe, folder.path, resume=True)


def test_an_error_in_the_data_leaves_no_run_folder(tiny_recipe: Recipe, tmp_path: Path):
    recipe = replace(tiny_recipe, data=DataConfig(kind="folder", root=str(tmp_path)))
    with pytest.raises(ValueError, match="train does not exist"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("num_clips", [12, 10], ids=["complete", "last-group-incomplete"])
def test_accumulated_batches_have_the_gradient_of_one_large_batch(
    num_clips: int, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []
    for name, batch_size, accumulate in (("one", 12, 1), ("many", 4, 3)):
        recipe = modify(
            tiny_recipe,
            model={"dropout": 0.0},
            data={"num_train_clips": num_clips},
            train={"batch_size": batch_size, "accumulate": accumulate},
        )
        run = make_trainer(recipe, tmp_path / name)
        run.state.model.double().eval()  # so that batch norms do not depend on the batch
        with torch.no_grad():  # the initial classifier is almost zero, and so are all gradients
            run.state.model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        monkeypatch.setattr(run.state.optimizer, "zero_grad", lambda: None)
        monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *args: torch.zeros(()))
        groups = list(run.data.groups(0, 0, size=accumulate))
        assert len(groups) == 1
        monkeypatch.setattr(Tensor, "float", Tensor.double)
        run._train_step(groups[0])
        monkeypatch.undo()
        found.append(gradients(run.state.model))
        assert run.state.sums[2] == num_clips
    assert found[0].keys() == found[1].keys()
    for name, one in found[0].items():
        torch.testing.assert_close(one, found[1][name], rtol=1e-7, atol=1e-9, msg=name)


def test_each_clip_is_used_once_an_epoch_even_if_the_last_group_is_smaller(
    tiny_recipe: Recipe, tmp_path: Path
):
    run = make_trainer(tiny_recipe, tmp_path / "run")
    assert run.steps_per_epoch == 2
    run._train_epoch()
    assert (run.state.step, run.state.sums[2]) == (2, 30)


def test_partial_batch_norm_freezes_all_norms_of_the_backbone_but_the_first():
    class WithNorm(nn.BatchNorm3d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.transpose(1, 2)).transpose(1, 2)

    model = create_model(
        "resnet18_quarter",
        temporal=lambda *, channels, num_frames: WithNorm(channels),
        num_classes=3,
        num_frames=4,
    ).train()
    freeze_batch_norms(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.rand(2, 4, 3, 32, 32)).sum().backward()
    after = dict(model.named_buffers())
    moved = {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    inserted = {f"backbone.{site}.temporal" for site in sites(model.backbone)}
    assert moved == {"backbone.bn1"} | inserted
    frozen = {
        name.rpartition(".")[0] for name, p in model.named_parameters() if not p.requires_grad
    }
    assert frozen == {
        f"backbone.{name}"
        for name, module in model.backbone.named_modules()
        if isinstance(module, nn.BatchNorm2d) and name != "bn1"
    }


def test_frozen_norms_stay_frozen_after_validation(tiny_recipe: Recipe, tmp_path: Path):
    recipe = modify(tiny_recipe, train={"partial_batch_norm": True})
    run = make_trainer(recipe, tmp_path / "run")
    before = run.state.model.backbone.get_buffer("layer1.0.bn1.running_mean").clone()
    first = run.state.model.backbone.get_buffer("bn1.running_mean").clone()
    run.fit()
    assert torch.equal(before, run.state.model.backbone.get_buffer("layer1.0.bn1.running_mean"))
    assert not torch.equal(first, run.state.model.backbone.get_buffer("bn1.running_mean"))


def test_bf16_trains_and_keeps_float32_weights(tiny_recipe: Recipe, tmp_path: Path):
    recipe = modify(tiny_recipe, train={"precision": "bf16", "epochs": 1, "channels_last": True})
    report = train(recipe, tmp_path / "run")
    assert math.isfinite(report.loss)
    weights = load(tmp_path / "run" / "last.safetensors").parameters()
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_a_3_d_network_trains_with_channels_last(tiny_recipe: Recipe, tmp_path: Path):
    recipe = modify(
        tiny_recipe,
        model={"backbone": "i3d_resnet18_quarter"},
        train={"epochs": 1, "channels_last": True},
    )
    run = make_trainer(recipe, tmp_path / "run")
    kernel = run.state.model.backbone.get_parameter("conv1.weight")
    assert kernel.is_contiguous(memory_format=torch.channels_last_3d)
    assert math.isfinite(run.fit().loss)


def test_the_saved_weights_are_the_moving_average_if_a_decay_is_given(
    tiny_recipe: Recipe, tmp_path: Path
):
    assert make_trainer(tiny_recipe, tmp_path / "off").state.average is None
    recipe = modify(tiny_recipe, train={"ema_decay": 0.5})
    run = make_trainer(recipe, tmp_path / "on")
    weights = []
    run.state.optimizer.register_step_post_hook(
        lambda *_: weights.append(run.state.model.head.weight.detach().clone())
    )
    run.fit()
    average = weights[0]
    for weight in weights[1:]:
        average = 0.5 * average + 0.5 * weight
    saved = load(tmp_path / "on" / "last.safetensors").head.weight
    torch.testing.assert_close(saved, average)


def test_a_loss_of_nan_ends_the_run_with_a_remedy(tiny_recipe: Recipe, tmp_path: Path):
    recipe = modify(tiny_recipe, optim={"learning_rate": 1e30, "max_gradient_norm": None})
    with pytest.raises(
        TrainingDiverged, match=r"start a new run with a lower optim\.learning_rate"
    ):
        train(recipe, tmp_path / "run")


def nan_in(what: str, monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    """Make the scores (`loss`) or the gradient NaN in one step of the run."""
    train_step, steps = Trainer._train_step, iter(range(1, 1000))

    def with_nan(run: Trainer, group: list[Batch]) -> None:
        if next(steps) == step and what == "loss":
            hook = run.state.model.head.register_forward_hook(lambda *args: args[-1] * math.nan)
            try:
                train_step(run, group)
            finally:
                hook.remove()
        if (
            what == "gradient"
            and run.state.epoch * run.steps_per_epoch + run.state.step + 1 == step
        ):
            run.state.model.head.weight.register_hook(lambda gradient: gradient * math.nan)
        train_step(run, group)

    monkeypatch.setattr(Trainer, "_train_step", with_nan)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_non_finite_step_names_its_videos_and_saves_nothing(
    what: str, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    nan_in(what, monkeypatch, step=4)
    with pytest.raises(TrainingDiverged) as caught:
        train(modify(tiny_recipe, train={"epochs": 3}), tmp_path / "run")
    assert f"the {what}" in str(caught.value)
    assert "is nan in step 2 of epoch 2, on motionpairs/train/0000" in str(caught.value)
    assert "run holds 1 complete epoch" in str(caught.value)
    folder = RunFolder(tmp_path / "run")
    for path in (folder.best, folder.last):
        assert all(torch.isfinite(one).all() for one in load(path).state_dict().values())
    state = folder.load_state()
    assert state is not None
    assert (state["epoch"], state["step"]) == (1, 0)


def test_nan_scores_in_validation_end_the_run_before_the_epoch_is_saved(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    validate = Trainer._validate

    def with_nan(run: Trainer):
        if run.state.epoch == 1:
            nn.init.constant_(run.state.model.head.bias, math.nan)
        return validate(run)

    monkeypatch.setattr(Trainer, "_validate", with_nan)
    message = (
        r"validation after epoch 2: the model's scores of motionpairs/val/000000, .*head\.bias"
    )
    with pytest.raises(TrainingDiverged, match=message):
        train(tiny_recipe, tmp_path / "run")
    for name in ("best", "last"):
        assert load(tmp_path / "run" / f"{name}.safetensors").recipe["trained"]["epoch"] == 1


# ------------------------------------------------------------- class imbalance and early stopping


def test_a_run_with_balanced_classes_resumes_to_the_same_numbers(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    recipe = modify(
        on_videos(tiny_recipe, video_folder, balanced_sampling=True),
        train={"class_weights": "balanced", "label_smoothing": 0.1},
    )
    train(recipe, tmp_path / "uninterrupted")
    interrupt(1)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "resumed")
    train(recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_class_weights_change_the_training_loss_unless_they_are_equal(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = modify(tiny_recipe, train={"epochs": 1})
    names = make_trainer(recipe, tmp_path / "names").data.class_names
    for name, weights in (
        ("plain", "none"),
        ("equal", dict.fromkeys(names, 2.0)),
        ("one", {names[0]: 9.0}),
    ):
        train(modify(recipe, train={"class_weights": weights}), tmp_path / name)
    plain, equal, one = (
        float(log_of(tmp_path / name)[0]["train_loss"]) for name in ("plain", "equal", "one")
    )
    assert equal == pytest.approx(plain, rel=1e-4)
    assert one != pytest.approx(plain, rel=1e-4)


def test_resuming_with_other_labels_is_an_error_if_class_weights_depend_on_them(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    recipe = modify(on_videos(tiny_recipe, root), train={"epochs": 1, "class_weights": "balanced"})
    train(recipe, tmp_path / "run")
    first, second, *_ = sorted((root / "train").iterdir())
    next(first.iterdir()).rename(second / "moved.mp4")
    with pytest.raises(ValueError, match="labels of the training videos have changed since"):
        train(recipe, tmp_path / "run", resume=True)


def test_an_unknown_class_weight_leaves_no_run_folder(tiny_recipe: Recipe, tmp_path: Path):
    recipe = modify(tiny_recipe, train={"class_weights": {"moving lft": 2.0}})
    with pytest.raises(ValueError, match="did you mean 'moving left'?"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_improvement_stops_early_with_a_reason_and_is_finished(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = modify(tiny_recipe, train={"epochs": 9, "early_stopping_epochs": 1, "batch_size": 30})
    recipe = modify(recipe, optim={"learning_rate": 1e-9})
    lines: list[str] = []
    report = train(recipe, tmp_path / "run", log=lines.append)
    rows = log_of(tmp_path / "run")
    assert len(rows) < 9
    assert lines[-1].startswith(f"stopped early after {len(rows)} of 9 epochs: validation top-1")
    assert train(recipe, tmp_path / "run", resume=True) == report
    assert log_of(tmp_path / "run") == rows


def test_a_resumed_run_stops_early_after_the_same_epoch(
    tiny_recipe: Recipe, tmp_path: Path, interrupt: Callable[[int], None]
):
    recipe = modify(tiny_recipe, train={"epochs": 6, "early_stopping_epochs": 2})
    train(recipe, tmp_path / "uninterrupted")
    interrupt(3)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "resumed")
    train(recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_a_state_of_an_older_version_can_be_resumed(
    tiny_recipe: Recipe, tmp_path: Path, interrupt: Callable[[int], None]
):
    train(tiny_recipe, tmp_path / "uninterrupted")
    interrupt(1)
    with pytest.raises(TrainingInterrupted):
        train(tiny_recipe, tmp_path / "resumed")
    folder = RunFolder(tmp_path / "resumed")
    state = folder.load_state()
    assert state is not None
    folder.save_state({**state, "sums": state["sums"][:3]})  # without the divisor of the loss
    train(tiny_recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


# ----------------------------------------------------------- batches of one clip, and short videos

ONE_PIXEL = {"backbone": "i3d_resnet18_quarter", "temporal": "none", "dropout": 0.0}


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.8])
def test_a_last_batch_of_one_clip_is_merged_if_a_norm_needs_two(
    mixup_alpha: float, tiny_recipe: Recipe, tmp_path: Path
):
    recipe = modify(
        tiny_recipe,
        model=ONE_PIXEL,
        augment={"mixup_alpha": mixup_alpha},
        data={"num_train_clips": 13},
        train={"epochs": 1, "batch_size": 4, "accumulate": 1},
    )
    run = make_trainer(recipe, tmp_path / "run")
    assert [len(batch) for batch in run.data.order] == [4, 4, 5]
    assert run.steps_per_epoch == 3
    run.fit()


def test_a_last_batch_of_one_clip_stays_if_the_norms_can_take_it(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = modify(
        tiny_recipe, data={"num_train_clips": 13}, train={"batch_size": 4, "accumulate": 1}
    )
    assert [len(batch) for batch in make_trainer(recipe, tmp_path / "run").data.order] == [
        4,
        4,
        4,
        1,
    ]


@pytest.mark.parametrize(
    ("num_clips", "batch_size", "message"),
    [
        (6, 1, r"train.batch_size is 1, but a norm of .* set train.batch_size to 2 or more, or"),
        (1, 8, r"training split has 1 video, so each batch has 1 clip, but a norm of .* add train"),
    ],
)
def test_if_all_batches_have_one_clip_the_error_comes_before_a_run_folder(
    num_clips: int, batch_size: int, message: str, tiny_recipe: Recipe, tmp_path: Path
):
    recipe = modify(
        tiny_recipe,
        model=ONE_PIXEL,
        data={"num_train_clips": num_clips},
        train={"batch_size": batch_size},
    )
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_with_one_clip_left_after_skipping_is_left_out_with_a_note(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    for path in sorted((root / "train").glob("*/*.mp4"))[:6]:
        path.write_text("no video")
    recipe = on_videos(tiny_recipe, root, on_error="skip", max_skipped_share=0.5)
    train_group = {"batch_size": 2, "accumulate": 1, "epochs": 1}
    recipe = modify(recipe, model=ONE_PIXEL, train=train_group)
    batches = list(make_trainer(recipe, tmp_path / "order").data.order)
    singles = sum(sum(request.index >= 6 for request in batch) == 1 for batch in batches)
    assert singles > 0
    lines: list[str] = []
    train(recipe, tmp_path / "run", log=lines.append)
    (note,) = [line for line in lines if "were left out" in line]
    assert note.startswith(f"note: {singles} batches were left out: skipped videos left one clip")


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_videos_shorter_than_a_clip_give_one_note(
    indexed: bool, num_workers: int, tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    if indexed:
        prepare_index("folder", root)
    recipe = on_videos(tiny_recipe, root, num_workers=num_workers)
    lines: list[str] = []
    train(modify(recipe, clip={"num_frames": 7}), tmp_path / "short", log=lines.append)
    (place,) = [place for place, line in enumerate(lines) if line.startswith("note: ")]
    assert place == (1 if indexed else 2)  # at the start, or after the first epoch
    assert lines[place] == (
        "note: 12 of 12 training videos have fewer frames than clip.num_frames 7, the shortest has "
        "6; their clips show some frames more than once. A lower clip.num_frames avoids that"
    )
    lines.clear()
    train(modify(recipe, clip={"num_frames": 6}), tmp_path / "long", log=lines.append)
    assert not [line for line in lines if line.startswith("note: ")]


def test_without_bars_long_epochs_and_validations_log_their_progress(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    lines: list[str] = []
    train(modify(tiny_recipe, train={"epochs": 1}), tmp_path / "run", log=lines.append)
    step, batch = lines[1:3]
    assert re.fullmatch(
        r"epoch 1/1  step 1/2  loss \d\.\d{3}  [\d.]+ videos/s  about \d+ s left", step
    )
    assert re.fullmatch(r"validation  batch 1/2  [\d.]+ videos/s  about \d+ s left", batch)


def test_a_full_disk_keeps_checkpoint_and_state_of_the_previous_epoch(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = modify(tiny_recipe, train={"epochs": 3})
    train(recipe, tmp_path / "uninterrupted")
    plain_write = Path.write_bytes
    num_checkpoints = iter(range(100))

    def disk_full(path: Path, content: bytes) -> int:
        if "last" in path.name and next(num_checkpoints) >= 1:
            plain_write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return plain_write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", disk_full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            train(recipe, tmp_path / "resumed")
    assert "last.safetensors" in str(caught.value)
    assert load(tmp_path / "resumed" / "last.safetensors").recipe["trained"]["epoch"] == 1
    assert not list((tmp_path / "resumed").glob(".*"))
    train(recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_an_unreadable_video_ends_the_run_by_name_and_the_run_resumes_once_it_is_repaired(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    recipe = on_videos(tiny_recipe, tmp_path / "videos", num_workers=1)
    recipe = modify(recipe, train={"epochs": 1})
    for video in sorted(video_folder.glob("*/*/*.mp4")):
        place = tmp_path / "videos" / video.relative_to(video_folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(video.read_bytes())
    train(recipe, tmp_path / "uninterrupted")
    order = make_trainer(recipe, tmp_path / "order").data.order
    last = list(order)[-1][-1].index
    victim = sorted((tmp_path / "videos" / "train").glob("*/*.mp4"))[last]
    content = victim.read_bytes()
    victim.write_bytes(b"no video at all")
    with pytest.raises(VideoError, match=victim.name):
        train(recipe, tmp_path / "resumed")
    victim.write_bytes(content)
    assert make_trainer(recipe, tmp_path / "resumed", resume=True).state.step == 1
    train(recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_train_restores_the_callers_random_state_and_threads(tiny_recipe: Recipe, tmp_path: Path):
    threads, chance = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        train(modify(tiny_recipe, train={"epochs": 1}), tmp_path / "run")
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), chance)
    finally:
        torch.set_num_threads(threads)


def test_runs_of_one_recipe_are_identical_and_another_seed_differs(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = modify(tiny_recipe, train={"epochs": 1})
    for name in ("one", "two"):
        train(recipe, tmp_path / name)
        torch.rand(3)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    train(modify(recipe, train={"seed": 1}), tmp_path / "three")
    assert log_of(tmp_path / "one") != log_of(tmp_path / "three")


# --------------------------------------------------------- augmentation, caches, skipped videos


def test_a_run_with_all_augmentations_resumes_to_the_same_numbers(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    recipe = modify(
        on_videos(tiny_recipe, video_folder, flip="swap"),
        augment={
            "color_jitter": 0.4,
            "rand_augment": 1,
            "erase": 0.5,
            "mixup_alpha": 0.8,
            "cutmix_alpha": 1.0,
        },
    )
    train(recipe, tmp_path / "uninterrupted")
    interrupt(2)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "resumed")
    train(recipe, tmp_path / "resumed", resume=True)
    assert_same_run(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_skipped_videos_are_listed_in_the_run_folder(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    broken = sorted((root / "train").glob("*/*.mp4"))[:3]
    for path in broken:
        path.write_text("no video")
    recipe = on_videos(tiny_recipe, root, on_error="skip", max_skipped_share=0.25)
    train(recipe, tmp_path / "run")
    rows = (tmp_path / "run" / "skipped.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["train", str(path)] for path in broken]
    narrow = on_videos(tiny_recipe, root, on_error="skip", max_skipped_share=0.1)
    with pytest.raises(ValueError, match=r"2 of the 12 videos of train are absent or cannot be"):
        train(narrow, tmp_path / "narrow")


def test_a_frame_cache_changes_no_number_and_warns_once_when_it_is_full(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    train(on_videos(tiny_recipe, video_folder), tmp_path / "plain")
    cached = on_videos(
        tiny_recipe, video_folder, cache_dir=str(tmp_path / "cache"), cache_gib=1e-4, num_workers=1
    )
    lines: list[str] = []
    train(cached, tmp_path / "cached", log=lines.append)
    assert_same_run(tmp_path / "plain", tmp_path / "cached")
    assert f"decoded frames kept in {tmp_path / 'cache'}" in lines[0]
    (full,) = [line for line in lines if "is full at 0.00 GiB" in line]
    assert "are decoded each time: free disk space, raise data.cache_gib, or ignore this" in full


def test_a_frame_cache_for_shards_is_an_error_and_creates_no_folder(
    tiny_recipe: Recipe, tmp_path: Path
):
    cache = tmp_path / "cache"
    recipe = on_videos(tiny_recipe, tmp_path, kind="shards", cache_dir=str(cache))
    with pytest.raises(DataError, match=r"cache_dir is .*, but shards are streamed and not kept; "):
        train(recipe, tmp_path / "run")
    assert not cache.exists()


def test_steps_whose_videos_were_all_skipped_are_left_out(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    for path in sorted((root / "train").glob("*/*.mp4"))[:6]:
        path.write_text("no video")
    recipe = on_videos(tiny_recipe, root, on_error="skip", max_skipped_share=0.5)
    recipe = modify(recipe, train={"batch_size": 1, "accumulate": 1, "epochs": 1})
    train(recipe, tmp_path / "run")
    assert len(log_of(tmp_path / "run")) == 1
