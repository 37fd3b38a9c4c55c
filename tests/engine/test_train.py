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
from motionaware.engine import signals as interrupt_module
from motionaware.engine.config import DataConfig, Recipe
from motionaware.engine.optim import freeze_batch_norms
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import TrainingRun, train
from motionaware.errors import DataError, TrainingDiverged, TrainingInterrupted, VideoError
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import create_model
from motionaware.models.site_hooks import sites
from motionaware.models.weights import file_checksum


def changed(recipe: Recipe, **groups: dict) -> Recipe:
    return replace(
        recipe, **{name: replace(getattr(recipe, name), **facts) for name, facts in groups.items()}
    )


def on_videos(recipe: Recipe, video_folder: Path, **data: object) -> Recipe:
    config = DataConfig(kind="folder", root=str(video_folder), crop="random", num_workers=0)
    return changed(replace(recipe, data=replace(config, **data)), train={"batch_size": 3})


def begin(recipe: Recipe, folder: Path, *, resume: bool = False) -> TrainingRun:
    return TrainingRun(recipe, RunFolder(folder), resume=resume, progress=False, log=None)


def log_of(folder: Path) -> list[dict[str, str]]:
    rows = RunFolder(folder).read_log()
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    assert log_of(one) == log_of(other)
    for name in ("last.safetensors", "best.safetensors"):
        a, b = load(one / name).state_dict(), load(other / name).state_dict()
        assert a.keys() == b.keys()
        different = [key for key in a if not torch.equal(a[key], b[key])]
        assert different == []


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Arrange that the run is asked to stop during a step, counted from now on."""

    def arrange(step: int) -> None:
        steps = iter(range(1, 1000))
        plain = TrainingRun._train_step

        def pressed(run: TrainingRun, group: list[Batch]) -> None:
            if next(steps) == step:
                signal.raise_signal(signal.SIGINT if step == 1 else signal.SIGTERM)
            plain(run, group)

        monkeypatch.setattr(TrainingRun, "_train_step", pressed)

    return arrange


def test_the_loss_goes_down_on_a_few_clips(tiny_recipe: Recipe, tmp_path: Path):
    recipe = changed(
        tiny_recipe,
        data={"num_train_clips": 12},
        model={"dropout": 0.0},
        train={"epochs": 20, "batch_size": 12, "accumulate": 1},
        optim={"optimizer": "adamw", "learning_rate": 3e-3},
    )
    train(recipe, tmp_path / "run")
    losses = [float(row["train_loss"]) for row in log_of(tmp_path / "run")]
    assert losses[0] == pytest.approx(math.log(12), rel=0.1)  # all classes start alike
    assert losses[-1] < 0.6 * losses[0]


def test_a_run_leaves_recipe_log_curves_and_checkpoints(tiny_recipe: Recipe, tmp_path: Path):
    lines: list[str] = []
    report = train(tiny_recipe, tmp_path / "run", log=lines.append)
    folder = RunFolder(tmp_path / "run")
    assert folder.recipe() == tiny_recipe
    assert [row["epoch"] for row in log_of(folder.path)] == ["1", "2"]
    assert list((folder.path / "tensorboard").glob("events.*"))
    assert not list(folder.path.glob(".*"))  # no half-written file
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
    train(changed(tiny_recipe, train={"epochs": 4}), tmp_path / "run")
    top1 = [float(row["val_top1"]) for row in log_of(tmp_path / "run")]
    best = load(tmp_path / "run" / "best.safetensors").recipe["trained"]
    assert best["epoch"] == 1 + top1.index(max(top1))


@pytest.mark.parametrize("step", [1, 2, 3], ids=["mid-epoch", "epoch-end", "second-epoch"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_resumed_run_ends_as_if_it_had_not_stopped(
    step: int,
    num_workers: int,
    tiny_recipe: Recipe,
    video_folder: Path,
    tmp_path: Path,
    interrupt: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
):
    recipe = on_videos(tiny_recipe, video_folder, num_workers=num_workers)
    recipe = changed(recipe, train={"ema_decay": 0.9, "partial_batch_norm": True})
    assert recipe.model.dropout > 0
    train(recipe, tmp_path / "whole")
    with monkeypatch.context(), pytest.raises(TrainingInterrupted, match="all of it is saved"):
        interrupt(step)
        train(recipe, tmp_path / "halves")
    monkeypatch.undo()
    torch.rand(17)  # the caller's chance must not matter
    train(recipe, tmp_path / "halves", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


def test_ctrl_c_during_validation_loses_nothing(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(tiny_recipe, tmp_path / "whole")
    plain = TrainingRun._validate

    def pressed(run: TrainingRun):
        signal.raise_signal(signal.SIGINT)
        return plain(run)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_validate", pressed)
        with pytest.raises(TrainingInterrupted, match="epoch 1 after step 2 of 2"):
            train(tiny_recipe, tmp_path / "halves")
    assert not (tmp_path / "halves" / "log.csv").exists()
    train(tiny_recipe, tmp_path / "halves", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
def test_a_closed_terminal_saves_the_run_unless_it_was_to_be_ignored(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain = TrainingRun._train_step

    def hung_up(run: TrainingRun, group: list[Batch]) -> None:
        plain(run, group)
        signal.raise_signal(signal.SIGHUP)

    train(tiny_recipe, tmp_path / "whole")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(TrainingRun, "_train_step", hung_up)
            with pytest.raises(TrainingInterrupted):
                train(tiny_recipe, tmp_path / "run")
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
            train(tiny_recipe, tmp_path / "nohup")
    finally:
        signal.signal(signal.SIGHUP, before)
    train(tiny_recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert_same_run(tmp_path / "whole", tmp_path / "nohup")


def test_a_run_is_trained_by_one_process_at_a_time(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain, refused = TrainingRun._train_step, []

    def busy(run: TrainingRun, group: list[Batch]) -> None:
        if not refused:
            refused.append(True)
            words = "run is being trained by another process; wait until it has ended"
            with pytest.raises(BlockingIOError, match=words):
                train(tiny_recipe, tmp_path / "run", resume=True)
        plain(run, group)

    monkeypatch.setattr(TrainingRun, "_train_step", busy)
    train(tiny_recipe, tmp_path / "run")
    assert refused


def test_a_second_ctrl_c_ends_the_run_at_once(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seconds = iter((0.0, 1.5))
    monkeypatch.setattr(interrupt_module.time, "monotonic", lambda: next(seconds, 9.0))

    def impatient(run: TrainingRun, group: list[Batch]) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainingRun, "_train_step", impatient)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler


def test_resuming_a_finished_run_changes_nothing(tiny_recipe: Recipe, tmp_path: Path):
    recipe = changed(tiny_recipe, train={"epochs": 1})
    report = train(recipe, tmp_path / "run")
    before = {
        path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()
    }
    assert train(recipe, tmp_path / "run", resume=True) == report
    after = {
        path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()
    }
    assert before == after


def test_a_run_killed_before_its_first_state_begins_anew_with_its_pretrained_weights(
    tiny_recipe: Recipe, tmp_path: Path
):
    plain = begin(tiny_recipe, tmp_path / "plain").model.backbone.state_dict()
    weights = {key: value + 1 for key, value in plain.items()}
    torch.save(weights, tmp_path / "weights.pth")
    recipe = changed(tiny_recipe, model={"pretrained": str(tmp_path / "weights.pth")})
    RunFolder(tmp_path / "run").begin(recipe)
    resumed = begin(recipe, tmp_path / "run", resume=True).model.backbone.state_dict()
    assert torch.equal(resumed["conv1.weight"], weights["conv1.weight"])


def test_a_run_folder_is_not_overwritten(tiny_recipe: Recipe, tmp_path: Path):
    RunFolder(tmp_path / "run").begin(tiny_recipe)
    with pytest.raises(
        FileExistsError, match=r"run holds a run already; go on with it by --resume"
    ):
        train(tiny_recipe, tmp_path / "run")


def test_there_must_be_a_run_to_resume(tiny_recipe: Recipe, tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"none holds no run to resume: recipe\.yaml is not"
    ):
        train(tiny_recipe, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_a_run_is_not_resumed_with_another_recipe(tiny_recipe: Recipe, tmp_path: Path):
    RunFolder(tmp_path / "run").begin(tiny_recipe)
    other = changed(tiny_recipe, optim={"learning_rate": 0.3})
    words = r"was begun with another recipe: optim.learning_rate was 0.02, is 0.3 now; put it back"
    with pytest.raises(ValueError, match=words):
        train(other, tmp_path / "run", resume=True)


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_an_extended_run_ends_as_if_it_had_begun_with_more_epochs(
    epochs_before: int, tiny_recipe: Recipe, tmp_path: Path
):
    whole = changed(tiny_recipe, train={"epochs": 3, "ema_decay": 0.9})
    train(whole, tmp_path / "whole")
    train(changed(whole, train={"epochs": epochs_before}), tmp_path / "run")
    lines = []
    train(whole, tmp_path / "run", resume=True, log=lines.append)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert f"resumed with train.epochs 3 (was {epochs_before})" in lines
    assert RunFolder(tmp_path / "run").recipe() == whole


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_a_run_whose_rate_falls_to_its_end_is_not_extended(
    schedule: str, tiny_recipe: Recipe, tmp_path: Path
):
    recipe = changed(tiny_recipe, optim={"schedule": schedule}, train={"epochs": 1})
    train(recipe, tmp_path / "run")
    words = r"train.epochs 3 in place of 1: its learning rate .* --model.pretrained .*last\.safet"
    with pytest.raises(ValueError, match=words) as error:
        train(changed(recipe, train={"epochs": 3}), tmp_path / "run", resume=True)
    assert f"optim.schedule: {schedule}" in str(error.value)
    assert str(error.value).count("--train.epochs 2")
    assert RunFolder(tmp_path / "run").recipe() == recipe


def test_a_run_is_not_shortened_below_what_is_trained(tiny_recipe: Recipe, tmp_path: Path):
    train(tiny_recipe, tmp_path / "run")
    with pytest.raises(ValueError, match="has 2 whole epochs behind it; wanted train.epochs above"):
        train(changed(tiny_recipe, train={"epochs": 1}), tmp_path / "run", resume=True)


def test_a_recipe_file_that_differs_from_the_trained_recipe_is_refused(
    tiny_recipe: Recipe, tmp_path: Path
):
    train(changed(tiny_recipe, train={"epochs": 1}), tmp_path / "run")
    file = tmp_path / "run" / "recipe.yaml"
    file.write_text(file.read_text().replace("learning_rate: 0.02", "learning_rate: 0.12"))
    words = (
        r"optim.learning_rate was 0.02, is 0.12 now; put it back on the command line or in .*yaml"
    )
    with pytest.raises(ValueError, match=words):
        train(RunFolder(tmp_path / "run").recipe(), tmp_path / "run", resume=True)


def test_any_flipped_bit_of_the_state_is_refused(tiny_recipe: Recipe, tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.save_state({"epoch": 1, "model": {"weight": torch.rand(20)}})
    path = tmp_path / "resume.pt"
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"resume\.pt is damaged"):
            folder.load_state()


def test_a_state_of_an_early_version_is_read_and_its_damage_is_refused(tmp_path: Path):
    torch.save({"epoch": 3, "weights": torch.rand(50)}, tmp_path / "resume.pt")
    state = RunFolder(tmp_path).load_state()
    assert state is not None and state["epoch"] == 3
    content = bytearray((tmp_path / "resume.pt").read_bytes())
    content[content.index(state["weights"].numpy().tobytes()) + 7] ^= 1
    (tmp_path / "resume.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged .* does not match its checksum"):
        RunFolder(tmp_path).load_state()


def test_a_run_begins_with_the_weights_of_another_and_needs_them_no_more(
    tiny_recipe: Recipe,
    video_folder: Path,
    tmp_path: Path,
    interrupt: Callable[[int], None],
):
    first = changed(on_videos(tiny_recipe, video_folder), train={"epochs": 1})
    train(first, tmp_path / "first")
    shutil.copytree(video_folder, tmp_path / "two", ignore=shutil.ignore_patterns("*.txt"))
    for split in ("train", "val"):  # other classes: two of the twelve
        for folder in sorted((tmp_path / "two" / split).iterdir())[2:]:
            shutil.rmtree(folder)
    second = changed(
        first,
        data={"root": str(tmp_path / "two")},
        model={"pretrained": str(tmp_path / "first")},
        optim={"learning_rate": 1e-12},
        train={"epochs": 2},
    )
    lines = []
    train(second, tmp_path / "whole", log=lines.append)
    best = tmp_path / "first" / "best.safetensors"
    assert f"weights from {best}: 154 of 156 tensors" in lines
    assert "  new: head.weight, head.bias (12 classes in the file, 2 here)" in lines
    old, new = (load(tmp_path / run / "last.safetensors") for run in ("first", "whole"))
    weights = dict(new.named_parameters())
    for name, before in load(best).named_parameters():
        assert name.startswith("head.") or torch.allclose(weights[name], before, atol=1e-6), name
    assert old.origin is None
    assert new.origin is not None
    assert new.origin.checksum == file_checksum(best)

    interrupt(2)
    with pytest.raises(TrainingInterrupted):
        train(second, tmp_path / "halves")
    shutil.rmtree(tmp_path / "first")
    train(second, tmp_path / "halves", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")
    assert load(tmp_path / "halves" / "last.safetensors").origin == new.origin


def test_a_run_is_not_resumed_on_other_data(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    for split in ("train", "val"):
        for video in sorted((video_folder / split).glob("*/*.mp4"))[:2]:
            place = root / video.relative_to(video_folder)
            place.parent.mkdir(parents=True)
            place.write_bytes(video.read_bytes())
    recipe = changed(on_videos(tiny_recipe, root), train={"epochs": 1})
    train(recipe, tmp_path / "run")
    train_video = next((root / "train").glob("*/*"))
    train_video.with_name("one more.mp4").write_bytes(train_video.read_bytes())
    with pytest.raises(ValueError, match="have changed since .* 2 videos then, 3 now"):
        train(recipe, tmp_path / "run", resume=True)


def test_a_damaged_state_is_refused(tiny_recipe: Recipe, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.begin(tiny_recipe)
    for content in (b"", b"no state", b"PK\x03\x04 truncated"):
        (folder.path / "resume.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"resume\.pt is damaged .*, the run cannot go on"):
            train(tiny_recipe, folder.path, resume=True)


def test_bad_data_leave_no_run_folder(tiny_recipe: Recipe, tmp_path: Path):
    recipe = replace(tiny_recipe, data=DataConfig(kind="folder", root=str(tmp_path)))
    with pytest.raises(ValueError, match="train does not exist"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("num_clips", [12, 10], ids=["whole", "last-group-incomplete"])
def test_a_group_of_batches_has_the_gradient_of_one_batch_of_all_its_clips(
    num_clips: int, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []
    for name, batch_size, accumulate in (("one", 12, 1), ("many", 4, 3)):
        recipe = changed(
            tiny_recipe,
            model={"dropout": 0.0},
            data={"num_train_clips": num_clips},
            train={"batch_size": batch_size, "accumulate": accumulate},
        )
        run = begin(recipe, tmp_path / name)
        run.model.double().eval()  # batch norms would tell the batches apart
        with torch.no_grad():  # the classifier starts near zero, and with it all gradients
            run.model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        monkeypatch.setattr(run.optimizer, "zero_grad", lambda: None)
        monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *args: torch.zeros(()))
        groups = list(run.data.groups(0, 0, size=accumulate))
        assert len(groups) == 1
        monkeypatch.setattr(Tensor, "float", Tensor.double)
        run._train_step(groups[0])
        monkeypatch.undo()
        found.append(gradients(run.model))
        assert run.sums[2] == num_clips
    assert found[0].keys() == found[1].keys()
    for name, one in found[0].items():
        torch.testing.assert_close(one, found[1][name], rtol=1e-7, atol=1e-9, msg=name)


def test_every_clip_is_seen_once_an_epoch_though_the_last_group_is_smaller(
    tiny_recipe: Recipe, tmp_path: Path
):
    run = begin(tiny_recipe, tmp_path / "run")
    assert run.steps_per_epoch == 2
    run._train_epoch()
    assert (run.step, run.sums[2]) == (2, 30)


def test_partial_batch_norm_freezes_the_backbones_norms_but_the_first():
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
    recipe = changed(tiny_recipe, train={"partial_batch_norm": True})
    run = begin(recipe, tmp_path / "run")
    before = run.model.backbone.get_buffer("layer1.0.bn1.running_mean").clone()
    first = run.model.backbone.get_buffer("bn1.running_mean").clone()
    run.finish()
    assert torch.equal(before, run.model.backbone.get_buffer("layer1.0.bn1.running_mean"))
    assert not torch.equal(first, run.model.backbone.get_buffer("bn1.running_mean"))


def test_bf16_trains_and_keeps_float32_weights(tiny_recipe: Recipe, tmp_path: Path):
    recipe = changed(tiny_recipe, train={"precision": "bf16", "epochs": 1, "channels_last": True})
    report = train(recipe, tmp_path / "run")
    assert math.isfinite(report.loss)
    weights = load(tmp_path / "run" / "last.safetensors").parameters()
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_a_3_d_network_trains_with_channels_last(tiny_recipe: Recipe, tmp_path: Path):
    recipe = changed(
        tiny_recipe,
        model={"backbone": "i3d_resnet18_quarter"},
        train={"epochs": 1, "channels_last": True},
    )
    run = begin(recipe, tmp_path / "run")
    kernel = run.model.backbone.get_parameter("conv1.weight")
    assert kernel.is_contiguous(memory_format=torch.channels_last_3d)
    assert math.isfinite(run.finish().loss)


def test_the_average_is_off_by_default_and_is_what_is_saved_where_it_is_on(
    tiny_recipe: Recipe, tmp_path: Path
):
    assert begin(tiny_recipe, tmp_path / "off").average is None
    recipe = changed(tiny_recipe, train={"ema_decay": 0.5})
    run = begin(recipe, tmp_path / "on")
    weights = []
    run.optimizer.register_step_post_hook(
        lambda *_: weights.append(run.model.head.weight.detach().clone())
    )
    run.finish()
    average = weights[0]
    for weight in weights[1:]:
        average = 0.5 * average + 0.5 * weight
    saved = load(tmp_path / "on" / "last.safetensors").head.weight
    torch.testing.assert_close(saved, average)


def test_a_loss_that_is_no_number_ends_the_run_with_the_remedy(tiny_recipe: Recipe, tmp_path: Path):
    recipe = changed(tiny_recipe, optim={"learning_rate": 1e30, "max_gradient_norm": None})
    with pytest.raises(
        TrainingDiverged, match=r"begin a new run with a lower optim\.learning_rate"
    ):
        train(recipe, tmp_path / "run")


def nan_in(what: str, monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    """Let a clip's scores (`loss`) or the gradient be NaN in one step of the run."""
    plain, steps = TrainingRun._train_step, iter(range(1, 1000))

    def spoiled(run: TrainingRun, group: list[Batch]) -> None:
        if next(steps) == step and what == "loss":
            hook = run.model.head.register_forward_hook(lambda *args: args[-1] * math.nan)
            try:
                plain(run, group)
            finally:
                hook.remove()
        if what == "gradient" and run.epoch * run.steps_per_epoch + run.step + 1 == step:
            run.model.head.weight.register_hook(lambda gradient: gradient * math.nan)
        plain(run, group)

    monkeypatch.setattr(TrainingRun, "_train_step", spoiled)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_names_its_videos_and_saves_nothing(
    what: str, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    nan_in(what, monkeypatch, step=4)
    with pytest.raises(TrainingDiverged) as caught:
        train(changed(tiny_recipe, train={"epochs": 3}), tmp_path / "run")
    assert f"the {what}" in str(caught.value)
    assert "is nan in step 2 of epoch 2, on motionpairs/train/0000" in str(caught.value)
    assert "1 whole epochs are saved" in str(caught.value)
    folder = RunFolder(tmp_path / "run")
    for path in (folder.best, folder.last):
        assert all(torch.isfinite(one).all() for one in load(path).state_dict().values())
    state = folder.load_state()
    assert state is not None
    assert (state["epoch"], state["step"]) == (1, 0)


def test_nan_scores_in_validation_end_the_run_before_anything_is_saved(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain = TrainingRun._validate

    def spoiled(run: TrainingRun):
        if run.epoch == 1:
            nn.init.constant_(run.model.head.bias, math.nan)
        return plain(run)

    monkeypatch.setattr(TrainingRun, "_validate", spoiled)
    words = r"validation after epoch 2: the model's scores of motionpairs/val/000000, .*head\.bias"
    with pytest.raises(TrainingDiverged, match=words):
        train(tiny_recipe, tmp_path / "run")
    for name in ("best", "last"):
        assert load(tmp_path / "run" / f"{name}.safetensors").recipe["trained"]["epoch"] == 1


# ------------------------------------------------------------- class imbalance and early stopping


def test_a_run_with_balanced_classes_goes_on_to_the_same_numbers(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    recipe = changed(
        on_videos(tiny_recipe, video_folder, balanced_sampling=True),
        train={"class_weights": "balanced", "label_smoothing": 0.1},
    )
    train(recipe, tmp_path / "whole")
    interrupt(1)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "parted")
    train(recipe, tmp_path / "parted", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parted")


def test_weights_change_the_training_loss_and_equal_ones_do_not(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = changed(tiny_recipe, train={"epochs": 1})
    names = begin(recipe, tmp_path / "names").data.class_names
    for name, weights in (
        ("plain", "none"),
        ("equal", dict.fromkeys(names, 2.0)),
        ("one", {names[0]: 9.0}),
    ):
        train(changed(recipe, train={"class_weights": weights}), tmp_path / name)
    plain, equal, one = (
        float(log_of(tmp_path / name)[0]["train_loss"]) for name in ("plain", "equal", "one")
    )
    assert equal == pytest.approx(plain, rel=1e-4)
    assert one != pytest.approx(plain, rel=1e-4)


def test_a_run_is_not_resumed_with_other_labels_where_its_weights_depend_on_them(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    recipe = changed(on_videos(tiny_recipe, root), train={"epochs": 1, "class_weights": "balanced"})
    train(recipe, tmp_path / "run")
    first, second, *_ = sorted((root / "train").iterdir())
    next(first.iterdir()).rename(second / "moved.mp4")
    with pytest.raises(ValueError, match="labels of the training videos have changed since"):
        train(recipe, tmp_path / "run", resume=True)


def test_an_unknown_class_weight_leaves_no_run_folder(tiny_recipe: Recipe, tmp_path: Path):
    recipe = changed(tiny_recipe, train={"class_weights": {"moving lft": 2.0}})
    with pytest.raises(ValueError, match="did you mean 'moving left'?"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_improvement_stops_early_says_why_and_counts_as_finished(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = changed(tiny_recipe, train={"epochs": 9, "early_stopping_epochs": 1, "batch_size": 30})
    recipe = changed(recipe, optim={"learning_rate": 1e-9})
    lines: list[str] = []
    report = train(recipe, tmp_path / "run", log=lines.append)
    rows = log_of(tmp_path / "run")
    assert len(rows) < 9
    assert lines[-1].startswith(f"stopped early after {len(rows)} of 9 epochs: validation top-1")
    assert train(recipe, tmp_path / "run", resume=True) == report
    assert log_of(tmp_path / "run") == rows


def test_a_resumed_run_stops_early_where_it_would_have_stopped(
    tiny_recipe: Recipe, tmp_path: Path, interrupt: Callable[[int], None]
):
    recipe = changed(tiny_recipe, train={"epochs": 6, "early_stopping_epochs": 2})
    train(recipe, tmp_path / "whole")
    interrupt(3)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "halves")
    train(recipe, tmp_path / "halves", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


def test_a_state_of_an_older_version_goes_on(
    tiny_recipe: Recipe, tmp_path: Path, interrupt: Callable[[int], None]
):
    train(tiny_recipe, tmp_path / "whole")
    interrupt(1)
    with pytest.raises(TrainingInterrupted):
        train(tiny_recipe, tmp_path / "halves")
    folder = RunFolder(tmp_path / "halves")
    state = folder.load_state()
    assert state is not None
    folder.save_state({**state, "sums": state["sums"][:3]})  # without what the loss is divided by
    train(tiny_recipe, tmp_path / "halves", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


# ----------------------------------------------------------- batches of one clip, and short videos

ONE_PIXEL = {"backbone": "i3d_resnet18_quarter", "temporal": "none", "dropout": 0.0}


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.8])
def test_a_last_batch_of_one_clip_joins_the_batch_before_where_a_norm_needs_two(
    mixup_alpha: float, tiny_recipe: Recipe, tmp_path: Path
):
    recipe = changed(
        tiny_recipe,
        model=ONE_PIXEL,
        augment={"mixup_alpha": mixup_alpha},
        data={"num_train_clips": 13},
        train={"epochs": 1, "batch_size": 4, "accumulate": 1},
    )
    run = begin(recipe, tmp_path / "run")
    assert [len(batch) for batch in run.data.order] == [4, 4, 5]
    assert run.steps_per_epoch == 3
    run.finish()


def test_a_last_batch_of_one_clip_stays_where_the_norms_can_take_it(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = changed(
        tiny_recipe, data={"num_train_clips": 13}, train={"batch_size": 4, "accumulate": 1}
    )
    assert [len(batch) for batch in begin(recipe, tmp_path / "run").data.order] == [4, 4, 4, 1]


@pytest.mark.parametrize(
    ("num_clips", "batch_size", "words"),
    [
        (6, 1, r"train.batch_size is 1, but a norm of .* set train.batch_size to 2 or more, or"),
        (1, 8, r"training split has 1 video, so each batch has 1 clip, but a norm of .* add train"),
    ],
)
def test_batches_that_all_have_one_clip_are_refused_before_anything_is_written(
    num_clips: int, batch_size: int, words: str, tiny_recipe: Recipe, tmp_path: Path
):
    recipe = changed(
        tiny_recipe,
        model=ONE_PIXEL,
        data={"num_train_clips": num_clips},
        train={"batch_size": batch_size},
    )
    with pytest.raises(ValueError, match=words):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_of_which_skipped_videos_leave_one_clip_is_left_out_with_a_note(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    for path in sorted((root / "train").glob("*/*.mp4"))[:6]:
        path.write_text("no video")
    recipe = on_videos(tiny_recipe, root, on_error="skip", max_skipped_share=0.5)
    train_group = {"batch_size": 2, "accumulate": 1, "epochs": 1}
    recipe = changed(recipe, model=ONE_PIXEL, train=train_group)
    batches = list(begin(recipe, tmp_path / "order").data.order)
    singles = sum(sum(request.index >= 6 for request in batch) == 1 for batch in batches)
    assert singles > 0
    lines: list[str] = []
    train(recipe, tmp_path / "run", log=lines.append)
    (note,) = [line for line in lines if "were left out" in line]
    assert note.startswith(f"note: {singles} batches were left out: skipped videos left one clip")


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_videos_shorter_than_a_clip_are_noted_once(
    indexed: bool, num_workers: int, tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    if indexed:
        prepare_index("folder", root)
    recipe = on_videos(tiny_recipe, root, num_workers=num_workers)
    lines: list[str] = []
    train(changed(recipe, clip={"num_frames": 7}), tmp_path / "short", log=lines.append)
    (place,) = [place for place, line in enumerate(lines) if line.startswith("note: ")]
    assert place == (1 if indexed else 2)  # at the start, or after the first epoch
    assert lines[place] == (
        "note: 12 of 12 training videos have fewer frames than clip.num_frames 7, the shortest has "
        "6; their clips show some frames more than once. A lower clip.num_frames avoids that"
    )
    lines.clear()
    train(changed(recipe, clip={"num_frames": 6}), tmp_path / "long", log=lines.append)
    assert not [line for line in lines if line.startswith("note: ")]


def test_without_bars_a_long_epoch_and_a_long_validation_tell_how_far_they_are(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    lines: list[str] = []
    train(changed(tiny_recipe, train={"epochs": 1}), tmp_path / "run", log=lines.append)
    step, batch = lines[1:3]
    assert re.fullmatch(
        r"epoch 1/1  step 1/2  loss \d\.\d{3}  [\d.]+ videos/s  about \d+ s left", step
    )
    assert re.fullmatch(r"validation  batch 1/2  [\d.]+ videos/s  about \d+ s left", batch)


def test_a_full_disk_leaves_the_last_epochs_checkpoint_and_state(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = changed(tiny_recipe, train={"epochs": 3})
    train(recipe, tmp_path / "whole")
    plain_write = Path.write_bytes
    num_checkpoints = iter(range(100))

    def full(path: Path, content: bytes) -> int:
        if "last" in path.name and next(num_checkpoints) >= 1:
            plain_write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return plain_write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            train(recipe, tmp_path / "halves")
    assert "last.safetensors" in str(caught.value)
    assert load(tmp_path / "halves" / "last.safetensors").recipe["trained"]["epoch"] == 1
    assert not list((tmp_path / "halves").glob(".*"))
    train(recipe, tmp_path / "halves", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


def test_curves_that_cannot_be_closed_do_not_hide_why_the_run_ended(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def close(writer: object) -> None:
        raise OSError(errno.ENOSPC, "curves")

    monkeypatch.setattr(run_folder_module.SummaryWriter, "close", close)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="the true reason"), folder.curves(first_epoch=0):
        raise ValueError("the true reason")


def test_a_broken_video_ends_the_run_by_its_name_and_the_run_can_go_on_once_it_is_mended(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    recipe = on_videos(tiny_recipe, tmp_path / "videos", num_workers=1)
    recipe = changed(recipe, train={"epochs": 1})
    for video in sorted(video_folder.glob("*/*/*.mp4")):
        place = tmp_path / "videos" / video.relative_to(video_folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(video.read_bytes())
    train(recipe, tmp_path / "whole")
    order = begin(recipe, tmp_path / "order").data.order
    last = list(order)[-1][-1].index
    victim = sorted((tmp_path / "videos" / "train").glob("*/*.mp4"))[last]
    content = victim.read_bytes()
    victim.write_bytes(b"no video at all")
    with pytest.raises(VideoError, match=victim.name):
        train(recipe, tmp_path / "halves")
    victim.write_bytes(content)
    assert begin(recipe, tmp_path / "halves", resume=True).step == 1
    train(recipe, tmp_path / "halves", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


def test_train_leaves_the_callers_chance_and_threads_alone(tiny_recipe: Recipe, tmp_path: Path):
    threads, chance = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        train(changed(tiny_recipe, train={"epochs": 1}), tmp_path / "run")
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), chance)
    finally:
        torch.set_num_threads(threads)


def test_two_runs_of_one_recipe_are_the_same_and_another_seed_is_not(
    tiny_recipe: Recipe, tmp_path: Path
):
    recipe = changed(tiny_recipe, train={"epochs": 1})
    for name in ("one", "two"):
        train(recipe, tmp_path / name)
        torch.rand(3)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    train(changed(recipe, train={"seed": 1}), tmp_path / "three")
    assert log_of(tmp_path / "one") != log_of(tmp_path / "three")


# ------------------------------------------------------------------------- changed, mixed, skipped


def test_a_run_with_every_augmentation_goes_on_to_the_same_numbers(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    recipe = changed(
        on_videos(tiny_recipe, video_folder, flip="swap"),
        augment={
            "color_jitter": 0.4,
            "rand_augment": 1,
            "erase": 0.5,
            "mixup_alpha": 0.8,
            "cutmix_alpha": 1.0,
        },
    )
    train(recipe, tmp_path / "whole")
    interrupt(2)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "parted")
    train(recipe, tmp_path / "parted", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parted")


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


def test_a_cache_of_decoded_frames_changes_no_number_and_says_once_when_it_is_full(
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
    assert "are decoded as usual: make room, raise data.cache_gib, or leave it so" in full


def test_shards_are_not_kept_and_no_folder_is_made_for_them(tiny_recipe: Recipe, tmp_path: Path):
    cache = tmp_path / "cache"
    recipe = on_videos(tiny_recipe, tmp_path, kind="shards", cache_dir=str(cache))
    with pytest.raises(DataError, match=r"cache_dir is .*, but shards are streamed and not kept; "):
        train(recipe, tmp_path / "run")
    assert not cache.exists()


def test_steps_of_which_nothing_is_left_are_passed_over(
    tiny_recipe: Recipe, video_folder: Path, tmp_path: Path
):
    root = tmp_path / "videos"
    shutil.copytree(video_folder, root)
    for path in sorted((root / "train").glob("*/*.mp4"))[:6]:
        path.write_text("no video")
    recipe = on_videos(tiny_recipe, root, on_error="skip", max_skipped_share=0.5)
    recipe = changed(recipe, train={"batch_size": 1, "accumulate": 1, "epochs": 1})
    train(recipe, tmp_path / "run")
    assert len(log_of(tmp_path / "run")) == 1
