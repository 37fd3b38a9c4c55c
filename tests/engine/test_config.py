import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from motionaware.clip import ClipSpec
from motionaware.engine.config import (
    AugmentConfig,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
    TrainConfig,
)
from motionaware.engine.config_io import (
    describe_keys,
    read_recipe,
    recipe_from_dict,
    recipe_to_dict,
    recipe_to_yaml,
)
from motionaware.engine.config_validation import field_descriptions, known_keys
from motionaware.engine.model import make_model
from motionaware.engine.run_folder import RunFolder
from motionaware.errors import RecipeError
from motionaware.models.site_hooks import sites

UNUSUAL = Recipe(
    model=ModelConfig(
        backbone="mobilenet_v2",
        temporal="m2a(reduction=4),tsm",
        where=("layer2.*",),
        stages=(2,),
        every=2,
        causal=True,
        pretrained="a.pth",
        dropout=0.25,
    ),
    clip=ClipSpec(
        num_frames=5,
        image_size=96,
        sampling="dense",
        frame_stride=3,
        crop_fraction=0.75,
        square_pixels=False,
    ),
    data=DataConfig(
        kind="csv",
        root="some where/é",
        crop="center",
        flip="swap",
        on_error="skip",
        max_skipped_share=0.25,
        balanced_sampling=True,
        num_workers=3,
        decoder="torchcodec",
        size_change="refuse",
        cache_dir="cache",
        cache_gib=0.5,
        num_train_clips=24,
        num_val_clips=36,
        num_test_clips=48,
        seed=7,
    ),
    augment=AugmentConfig(
        color_jitter=0.4,
        rand_augment=2,
        rand_magnitude=7,
        erase=0.25,
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
    ),
    optim=OptimConfig(
        optimizer="adamw",
        learning_rate=1e-5,
        momentum=0.5,
        weight_decay=1e-10,
        new_rate_factor=5.0,
        schedule="cosine",
        milestones_epochs=(3, 9),
        warmup_epochs=0.5,
        max_gradient_norm=None,
    ),
    train=TrainConfig(
        epochs=3,
        early_stopping_epochs=2,
        early_stopping_min_delta=0.005,
        batch_size=5,
        accumulate=4,
        precision="bf16",
        channels_last=True,
        partial_batch_norm=True,
        class_weights={"moving left": 2.0, "yes": 0.5},
        label_smoothing=0.1,
        ema_decay=0.999,
        seed=11,
        device="cpu",
        num_threads=2,
        keep_freed_memory=True,
    ),
    eval=EvalConfig(num_views=3, num_crops=3, batch_size=9),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_unusual_recipe_differs_from_the_defaults_in_each_field():
    for group in fields(Recipe):
        unusual, usual = getattr(UNUSUAL, group.name), getattr(Recipe(), group.name)
        for field in fields(unusual):
            assert getattr(unusual, field.name) != getattr(usual, field.name), field.name


@pytest.mark.parametrize("recipe", [Recipe(), UNUSUAL], ids=["defaults", "unusual"])
def test_each_field_is_kept_by_yaml_and_plain_values(recipe: Recipe, tmp_path: Path):
    assert read_recipe(write(tmp_path, recipe_to_yaml(recipe))) == recipe
    assert recipe_from_dict(recipe_to_dict(recipe), source="here") == recipe


def test_keys_that_are_absent_have_their_defaults(tmp_path: Path):
    assert read_recipe(write(tmp_path, "{}")) == Recipe()
    recipe = read_recipe(write(tmp_path, "train: {epochs: 3}"))
    assert recipe == replace(Recipe(), train=TrainConfig(epochs=3))


def test_overrides_replace_values_of_the_file_in_both_notations(tmp_path: Path):
    path = write(tmp_path, "train: {epochs: 3, batch_size: 4}\noptim: {milestones_epochs: [1]}")
    overrides = ["--train.epochs", "5", "--model.temporal=m2a,tsm", "--train.ema_decay=null"]
    overrides += ["--optim.milestones_epochs", "[2,4]", "--optim.learning_rate=1e-3"]
    recipe = read_recipe(path, [*overrides, "--model.pretrained=true"])
    assert (recipe.train.epochs, recipe.train.batch_size) == (5, 4)
    assert recipe.model.temporal == "m2a,tsm"
    assert recipe.optim.milestones_epochs == (2, 4)
    assert recipe.train.ema_decay is None
    assert recipe.model.pretrained is True
    assert recipe.optim.learning_rate == 0.001


def test_numbers_with_an_exponent_that_yaml_reads_as_text_are_numbers(tmp_path: Path):
    assert read_recipe(write(tmp_path, "optim: {learning_rate: 5e-4}")).optim.learning_rate == 5e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {epoch: 3}",
            r"recipe.yaml: key train.epoch is unknown; did you mean 'train.epochs'\?",
        ),
        ("trian: {epochs: 3}", r"key trian is unknown; did you mean 'train'\?"),
        ("learning_rate: 1", r"key learning_rate is unknown; did you mean 'optim.learning_rate'\?"),
        (
            "1: 2",
            "1 is unknown; the groups are model, clip, data, augment, optim, train, eval; ",
        ),
        ("train: 3", "key train holds 3, wanted keys below it"),
        ("train:", "key train holds None, wanted keys below it"),
        ("", "recipe.yaml is empty; wanted keys such as model:, as in recipes/folder.yaml"),
        ("# nothing", "recipe.yaml is empty"),
        ("- train", "recipe.yaml holds list, wanted keys such as model:"),
        ("train: [", "recipe.yaml is not YAML: while parsing a flow node .* line 1"),
        ("train: {epochs: many}", "recipe.yaml: train.epochs is many, wanted int"),
        ("train: {epochs: 1.5}", "train.epochs is 1.5, wanted int"),
        ("train: {class_weights: {cat: 0}}", "class_weights gives 'cat' the weight 0.0, wanted a"),
        ("train: {class_weights: {cat: .nan}}", "class_weights gives 'cat' the weight nan, wanted"),
        ("train: {class_weights: {yes: 2}}", "names the class True: YAML reads yes, no, on and"),
        (
            "train: {class_weights: balancd}",
            r"is balancd, wanted none or balanced or \{name: f",
        ),
        ("train: {early_stopping_epochs: 0}", "train.early_stopping_epochs is 0, wanted a number"),
        ("train: {epochs: true}", "train.epochs is True, wanted int"),
        ("train: {epochs: null}", "train.epochs is null, wanted int"),
        ("clip: {num_frames: null}", "recipe.yaml: clip.num_frames is null, wanted int"),
        ("model: {every: ''}", "recipe.yaml: model.every is '', wanted int or null"),
        ("data: {root: 12}", "data.root is 12, wanted str or null"),
        ("optim: {milestones_epochs: 3}", r"optim.milestones_epochs is 3, wanted \[int, ...\]"),
        ("optim: {schedule: cosin}", "optim.schedule is cosin, wanted step or cosine or one-cycle"),
        ("clip: {sampling: some}", "clip.sampling is some, wanted segments or dense"),
        ("clip: {num_frames: 0}", "num_frames is 0; wanted 1 or more"),
    ],
)
def test_an_error_in_a_recipe_names_file_key_and_value(text: str, message: str, tmp_path: Path):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--train.epoch=3"], r"the command line: key train.epoch is unknown; did you mean"),
        (["--epochs", "3"], r"key epochs is unknown; did you mean 'train.epochs'\?"),
        (["--train", "3"], r"the command line: train is a group; give a key below it, --train.KEY"),
        (["--train.epochs", "many"], "the command line: train.epochs is many, wanted int"),
        (["--train.epochs="], "the command line: train.epochs is '', wanted int"),
        (["--train.epochs"], "the command line: argument --train.epochs: expected one argument"),
        (["--train.epochs", "--train.seed=1"], "argument --train.epochs: expected one argument"),
        (["train.epochs=3"], "the command line: unrecognized arguments: train.epochs=3"),
        (["--optim.learning_rate", "-1"], r"the command line: optim.learning_rate is -1.0, wanted"),
        (["--clip.num_frames=0"], "the command line: num_frames is 0; wanted 1 or more"),
    ],
)
def test_an_error_on_the_command_line_names_key_and_value(
    overrides: list[str], message: str, tmp_path: Path
):
    with pytest.raises(RecipeError, match=message):
        read_recipe(write(tmp_path, "{}"), overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epochs: many}", "train.epochs is many, wanted int"),
        ("train: {epochs: 0}", "train.epochs is 0, wanted a number in"),
        ("clip: {num_frames: 0}", "num_frames is 0; wanted 1 or more"),
    ],
)
def test_an_error_in_the_file_names_the_file_although_there_are_overrides(
    text: str, message: str, tmp_path: Path
):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError, match=f"recipe.yaml: {message}"):
        read_recipe(path, ["--train.batch_size=4", "--clip.image_size=96"])


def test_an_override_replaces_a_value_that_is_out_of_range_in_the_file(tmp_path: Path):
    path = write(tmp_path, "optim: {learning_rate: -1}")
    assert read_recipe(path, ["--optim.learning_rate=1"]).optim.learning_rate == 1.0
    with pytest.raises(RecipeError, match=r"the command line: optim.learning_rate is -2.0"):
        read_recipe(path, ["--optim.learning_rate=-2"])


def test_lists_and_mappings_can_be_given_on_the_command_line(tmp_path: Path):
    overrides = ["--train.class_weights", "{cat: 2, 1: 0.5}", "--model.where=[layer2.*]"]
    recipe = read_recipe(write(tmp_path, "{}"), overrides)
    assert recipe.train.class_weights == {"cat": 2.0, "1": 0.5}
    assert recipe.model.where == ("layer2.*",)


def test_a_missing_recipe_is_an_error_with_its_path(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"recipe .*none.yaml does not exist; .*recipes/"):
        read_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ModelConfig, "dropout", 1.0),
        (ModelConfig, "dropout", -0.1),
        (DataConfig, "num_workers", -1),
        (DataConfig, "num_train_clips", 0),
        (DataConfig, "seed", -1),
        (DataConfig, "max_skipped_share", 1.0),
        (AugmentConfig, "color_jitter", 1.5),
        (AugmentConfig, "rand_augment", -1),
        (AugmentConfig, "rand_magnitude", 31),
        (AugmentConfig, "erase", 2.0),
        (AugmentConfig, "mixup_alpha", -1.0),
        (AugmentConfig, "cutmix_alpha", -1.0),
        (OptimConfig, "learning_rate", 0.0),
        (OptimConfig, "learning_rate", float("nan")),
        (OptimConfig, "learning_rate", float("inf")),
        (OptimConfig, "momentum", 1.0),
        (OptimConfig, "weight_decay", -1e-4),
        (OptimConfig, "new_rate_factor", 0.0),
        (OptimConfig, "warmup_epochs", -1.0),
        (OptimConfig, "max_gradient_norm", 0.0),
        (OptimConfig, "milestones_epochs", (3, 2)),
        (OptimConfig, "milestones_epochs", (0,)),
        (TrainConfig, "epochs", 0),
        (TrainConfig, "batch_size", 0),
        (TrainConfig, "accumulate", 0),
        (TrainConfig, "num_threads", 0),
        (TrainConfig, "label_smoothing", 1.0),
        (TrainConfig, "ema_decay", 0.0),
        (TrainConfig, "ema_decay", 1.0),
        (TrainConfig, "seed", -1),
        (EvalConfig, "num_views", 0),
        (EvalConfig, "batch_size", 0),
    ],
)
def test_a_number_out_of_range_is_an_error(kind: type, name: str, value: object):
    with pytest.raises(
        RecipeError, match=rf"\.{name} is .*, wanted (a number in|epochs that rise)"
    ):
        kind(**{name: value})


def test_two_crops_are_an_error():
    with pytest.raises(RecipeError, match="eval.num_crops is 2, wanted 1 or 3"):
        EvalConfig(num_crops=2)


@pytest.mark.parametrize(
    ("written", "read"),
    [("off", False), ("on", True), ("true", True), ("swap", "swap"), ("skip", "skip")],
)
def test_flip_is_a_boolean_or_a_name(written: str, read: object, tmp_path: Path):
    assert read_recipe(write(tmp_path, f"data: {{flip: {written}}}")).data.flip == read
    assert read_recipe(write(tmp_path, "{}"), [f"--data.flip={written}"]).data.flip == read


def test_an_unknown_flip_is_an_error_that_lists_the_choices(tmp_path: Path):
    with pytest.raises(RecipeError, match="data.flip is swop, wanted bool or swap or skip"):
        read_recipe(write(tmp_path, "data: {flip: swop}"))


def test_closed_ends_of_an_interval_and_null_are_allowed():
    ModelConfig(dropout=0.0)
    OptimConfig(momentum=0.0, weight_decay=0.0, warmup_epochs=0.0, max_gradient_norm=None)
    DataConfig(num_workers=0)
    TrainConfig(label_smoothing=0.0, ema_decay=None, num_threads=None)


def test_each_key_is_listed_with_type_and_default():
    lines = describe_keys().splitlines()
    keys = [line.split()[0] for line in lines if re.match(r"  \w", line)]
    assert keys == [key for key in known_keys(Recipe) if "." in key]
    assert "  optim.schedule   step or cosine or one-cycle; default step" in lines
    assert "  train.ema_decay   float or null; default null" in lines
    assert "  model.causal   true or false; default false" in lines
    assert "optim: The optimizer and the learning rate" in lines


@pytest.mark.parametrize("key", [key for key in known_keys(Recipe) if "." in key])
def test_each_key_has_a_description(key: str):
    group, _, name = key.partition(".")
    description = field_descriptions(known_keys(Recipe)[group])[name]
    assert len(description.split()) >= 4
    assert description.endswith(".")


def test_only_existing_keys_have_descriptions():
    for group, kind in known_keys(Recipe).items():
        if "." not in group:
            assert field_descriptions(kind).keys() == {one.name for one in fields(kind)}, group


def test_docs_training_md_lists_the_keys_that_the_command_prints():
    page = Path(__file__).parents[2] / "docs" / "training.md"
    _, _, rest = page.read_text(encoding="utf-8").partition("<!-- motionaware train --keys -->")
    block = rest.partition("```text\n")[2].partition("\n```")[0]
    assert block == describe_keys(), "run: python scripts/keys-page"


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("balanced", "balanced"),
        ("null", "none"),
        ("{cat: 2, dog: 0.5}", {"cat": 2.0, "dog": 0.5}),
        ("{1: 2}", {"1": 2.0}),
    ],
)
def test_class_weights_are_a_name_or_a_number_for_each_class(text, weights, tmp_path: Path):
    recipe = read_recipe(write(tmp_path, f"train: {{class_weights: {text}}}"))
    assert recipe.train.class_weights == weights
    assert read_recipe(write(tmp_path, recipe_to_yaml(recipe))) == recipe


def test_a_recipe_determines_the_sites_of_modules(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model:\n  backbone: resnet18_quarter\n  stages: [2, 3]\n  every: 2\n")
    recipe = read_recipe(path)
    assert recipe_from_dict(recipe_to_dict(recipe), source="its copy") == recipe
    found = sites(make_model(recipe, ["a", "b"], fresh=True).backbone)
    assert found == ["layer2.0.conv1", "layer3.0.conv1"]
    named = read_recipe(path, ["--model.stages=null", "--model.every=null", "--model.where=['fc']"])
    assert named.model.where == ("fc",)


def test_a_folder_instead_of_a_recipe_is_an_error_that_lists_its_content(tmp_path):
    (tmp_path / "folder.yaml").touch()
    with pytest.raises(RecipeError, match="is a folder, wanted a YAML file; it holds folder.yaml$"):
        read_recipe(tmp_path)


def test_a_stored_recipe_of_an_earlier_version_has_square_pixels_off(tmp_path):
    stored = recipe_to_dict(Recipe())
    del stored["clip"]["square_pixels"]
    assert not recipe_from_dict(stored, source="a checkpoint").clip.square_pixels
    folder = RunFolder(tmp_path)
    folder.begin(Recipe())
    assert folder.recipe().clip.square_pixels
    path = tmp_path / "recipe.yaml"
    path.write_text(path.read_text().replace("  square_pixels: true\n", ""))
    assert not folder.recipe().clip.square_pixels
    assert read_recipe(path).clip.square_pixels  # a recipe outside a run folder has the default


def test_a_module_file_is_searched_next_to_the_recipe_then_in_the_working_folder(
    tmp_path, monkeypatch
):
    (tmp_path / "exp").mkdir()
    (tmp_path / "work").mkdir()
    recipe = tmp_path / "exp" / "recipe.yaml"
    recipe.write_text('model: {temporal: "mix.py:Mix(kernel=5)"}')
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ValueError, match=r"exp/mix.py and .*work/mix.py"):
        read_recipe(recipe)
    (tmp_path / "work" / "mix.py").touch()
    assert read_recipe(recipe).model.temporal == f"{tmp_path}/work/mix.py:Mix(kernel=5)"
    (tmp_path / "exp" / "mix.py").touch()
    assert read_recipe(recipe).model.temporal == f"{tmp_path}/exp/mix.py:Mix(kernel=5)"
    typed = read_recipe(recipe, ["--model.temporal=mix.py:Mix"])
    assert typed.model.temporal == f"{tmp_path}/work/mix.py:Mix"


def test_a_written_recipe_has_module_paths_relative_to_its_folder(tmp_path):
    (tmp_path / "mix.py").touch()
    (tmp_path / "a.yaml").write_text("model: {temporal: 'tsm,mix.py:Mix'}")
    recipe = read_recipe(tmp_path / "a.yaml")
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    text = recipe_to_yaml(recipe, folder=folder)
    assert "tsm,../../mix.py:Mix" in text
    assert str(tmp_path) not in text
    (folder / "recipe.yaml").write_text(text)
    assert read_recipe(folder / "recipe.yaml") == recipe
