"""What a config file may say, and what is said about one that is wrong."""

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damage import JSON_VALUES, answer_of, damaged
from hzlm.config import (
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    RunConfig,
    ScheduleConfig,
    TrainConfig,
    load_config,
)
from hzlm.data import views
from hzlm.data_config import VIEWS, DataConfig
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.settings import save_settings

RUN = """
model: {size: tiny}
data: {path: runs/data, views: {masked: 1, pinyin: 3.5}}
schedule: {scale: 1e-3, warmup_steps: 100}
train: {output: runs/first, steps: 200, micro_batch_rows: 8}
"""
VOCABULARY_SIZE = 8000
SIZES = {"tiny": 2e6, "small": 10e6, "base": 110e6, "large": 360e6, "xl": 3e9}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(RUN, "utf-8")
    return path


def test_values_sizes_and_defaults(file: Path) -> None:
    config = load_config(file)
    assert (config.model.hidden_size, config.model.encoder_layers, config.model.dropout) == (128, 4, 0.1)
    assert config.data.views == {"masked": 1.0, "pinyin": 3.5}
    assert config.schedule.scale == 1e-3
    assert config.train.output == Path("runs/first")
    assert config.optimizer.betas == (0.9, 0.999)


def test_fields_beside_a_size_replace_its_own(file: Path) -> None:
    file.write_text(RUN.replace("size: tiny", "size: tiny, decoder_layers: 3"), "utf-8")
    assert load_config(file).model.decoder_layers == 3


def test_overrides(file: Path) -> None:
    overrides = ("train.steps=7", "optimizer.betas=[0.8, 0.9]", "data.views.toned=2", "train.initial_weights=runs/a")
    config = load_config(file, overrides)
    assert config.train.steps == 7
    assert config.optimizer.betas == (0.8, 0.9)
    assert config.data.views == {"masked": 1.0, "pinyin": 3.5, "toned": 2.0}
    assert config.train.initial_weights == Path("runs/a")


def test_a_folder_alone_has_weight_one(file: Path) -> None:
    assert load_config(file).data.path == {Path("runs/data"): 1.0}
    blend = load_config(file, ["data.path={runs/a: 2, runs/b: 0.5}", "data.temperature=2"]).data
    assert blend.path == {Path("runs/a"): 2.0, Path("runs/b"): 0.5}
    assert blend.temperature == 2.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.path=3", "data.path = 3: must be a folder, or a mapping of folders to weights"),
        ("data.path={}", "data.path and data.pairs are both empty; name a dataset folder"),
        ("data.path={runs/a: 2, ./runs/a: 7}", "data.path: runs/a and ./runs/a are the same folder; name it once"),
        ("data.path={runs/a: 2, runs/b: 1, runs//a/: 2}", "data.path: runs/a and runs//a/ are the same folder"),
        ("data.path={runs/a: 0}", "data.path.runs/a = 0: must be greater than 0"),
        ("data.path={runs/a: much}", 'data.path.runs/a = "much": must be a valid number'),
        ("data.temperature=0.5", "data.temperature = 0.5: must be greater than or equal to 1"),
    ],
)
def test_a_wrong_blend_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(file, [override])
    assert str(caught.value).startswith(f"override {override}: {message}")


def test_a_size_given_as_override_yields_to_fields_given_beside_it(file: Path) -> None:
    model = load_config(file, ["model.heads=8", "model.size=small"]).model
    assert (model.hidden_size, model.heads) == (256, 8)


# any name that a file may have, and such as a YAML could take for something else
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1) | st.sampled_from(
    ["1e5", "017", "1:30", "2001-01-01", "null", "~", "yes", "0x1F", "<<", "=", ".inf", "- a", "a: b", "#", "*a", "!!x"]
)
SIZES_OF = {name: st.integers(1, 1 << 16) for name in ("feed_forward_size", "encoder_layers", "max_length")}
CONFIGS = st.builds(
    RunConfig,
    model=st.builds(
        ModelConfig,
        hidden_size=st.sampled_from([64, 96]),
        heads=st.sampled_from([1, 2, 4]),
        aligned=st.booleans(),
        dropout=st.floats(0, 0.99),
        **SIZES_OF,
    ),
    data=st.builds(
        DataConfig,
        path=PATHS.map(Path) | st.dictionaries(PATHS.map(Path), st.floats(1e-9, 1e9), min_size=1, max_size=3),
        temperature=st.floats(1, 1e9),
        views=st.dictionaries(st.sampled_from(VIEWS), st.floats(1e-9, 1e9), min_size=1),
        mask_rate=st.floats(1e-12, 0.99),
    ),
    loss=st.builds(LossConfig, encoder_weight=st.floats(0, 1e300), decoder_weight=st.floats(1e-300, 10)),
    optimizer=st.builds(OptimizerConfig, name=st.sampled_from(["lamb", "adamw"]), eps=st.floats(1e-12, 1e-3)),
    schedule=st.builds(ScheduleConfig, scale=st.floats(1e-9, 1e3)),
    train=st.builds(
        TrainConfig,
        output=PATHS.map(Path),
        initial_weights=st.none() | PATHS.map(Path),
        seed=st.integers(0, 10**30),
        steps=st.integers(1, 2**31 - 1),
        precision=st.sampled_from(["fp32", "bf16", "fp16"]),
        checks=st.booleans(),
    ),
    parallel=st.builds(ParallelConfig, data=st.integers(1, 1 << 16), timeout_minutes=st.floats(1e-9, 9e3)),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS)
def test_a_saved_config_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, config: RunConfig) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.yaml"
    save_settings(config, path)
    assert load_config(path) == config
    # What other readers of YAML see is the same, but for floats without a dot, which YAML 1.1 takes for texts.
    seen = yaml.safe_load(path.read_text("utf-8"))
    folders = [str(folder) for folder in config.data.path]
    assert (list(seen["data"]["path"]), seen["train"]["output"]) == (folders, str(config.train.output))


@given(damaged(RUN.encode()))
def test_a_damaged_file_is_a_config_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    answer_of(lambda: load_config(path), path)


KEYS = st.sampled_from(["train.steps", "train.output", "model", "model.size", "model.heads", "data.views", "loss.a.b"])
VALUES = (
    JSON_VALUES.map(json.dumps) | st.text(max_size=9) | st.sampled_from(["tiny", "{size: tiny}", "{pinyin: 1}", "9"])
)


@settings(max_examples=300)
@given(st.lists(st.builds("{}={}".format, KEYS | st.text(max_size=9), VALUES) | st.text(max_size=9), min_size=1))
def test_any_override_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, overrides: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.yaml"
    path.write_text(RUN, "utf-8")
    answer_of(lambda: load_config(path, overrides), "override", path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.stepz=1"], "override train.stepz=1: train.stepz: unknown key; did you mean steps?"),
        (["trian.steps=1"], "override trian.steps=1: trian: unknown key; did you mean train?"),
        (["model.sise=tiny"], "override model.sise=tiny: model.sise: unknown key; did you mean size?"),
        (["loss.zzz=1"], "unknown key; known: encoder_weight, decoder_weight, label_smoothing"),
        (["train.steps=many"], 'override train.steps=many: train.steps = "many": must be a valid integer'),
        (["train.steps=2.0"], "train.steps = 2.0: must be a valid integer"),
        (["train.steps=true"], "train.steps = true: must be a valid integer"),
        (["train.steps=0"], "train.steps = 0: must be greater than 0"),
        (["model.aligned=1"], "model.aligned = 1: must be a valid boolean"),
        (["schedule.scale='1'"], 'schedule.scale = "1": must be a valid number'),
        (["schedule.scale=.inf"], "schedule.scale = Infinity: must be a finite number"),
        (["train.output=3"], "train.output = 3: must be a valid string"),
        (["train.precision=fp8"], "train.precision = \"fp8\": must be 'fp32', 'bf16' or 'fp16'"),
        (["optimizer.name=sgd"], "optimizer.name = \"sgd\": must be 'lamb' or 'adamw'"),
        (["parallel.pip=2"], "parallel.pip: unknown key; did you mean pipe?"),
        (["optimizer.betas=[0.9, 1.0]"], "optimizer.betas.1 = 1.0: must be less than 1"),
        (["train=3"], "override train=3: train = 3: must be a mapping"),
        (["train={}"], "run.yaml: train.output is missing; add it"),
        (["train.steps.more=3"], "override train.steps.more=3: steps is no section"),
        (["train.steps"], "override train.steps: expected section.key=value"),
        (["data.views.pinyin.more=3"], "override data.views.pinyin.more=3: expected section.key=value"),
        (["a" + ".a" * 100_000 + "=3"], "a=3: expected section.key=value"),
        (["train.\udcff=3"], "override train.\udcff=3: no UTF-8 text; convert it to UTF-8 first"),
        (["=3"], "override =3: expected section.key=value"),
        (["train.steps=[1"], "override train.steps=[1, line 1, column 3: no valid YAML"),
        (["data.views={}"], "data.views is empty"),
        (["data.views.pinjin=1"], "data.views.pinjin=1: data.views.pinjin: unknown view; did you mean pinyin?"),
        (["data.views.pinyin=0"], "data.views.pinyin = 0: must be greater than 0"),
        (["model.size=tinny"], "override model.size=tinny: model.size = 'tinny': unknown size; did you mean tiny?"),
        (["model.size=[1]"], "model.size = [1]: unknown size; known: base, large, small, tiny, xl"),
        (["model.heads=7"], "model.heads = 7 does not divide model.hidden_size = 128; 8 would"),
        (["loss.decoder_weight=0"], "loss.encoder_weight and loss.decoder_weight are both 0"),
    ],
)
def test_a_bad_override(file: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(file, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUN.replace("tiny", "tinny"), "unknown size; did you mean tiny?"),
        (RUN.replace("schedule", "shedule"), "shedule: unknown key; did you mean schedule?"),
        (RUN.replace("train: {", "train: {stepz: 3, "), "train.stepz: unknown key; did you mean steps?"),
        (RUN.replace("steps: 200", "steps: lots"), 'train.steps = "lots": must be a valid integer'),
        (RUN.replace("steps: 200,", ""), "train.steps is missing; add it"),
        (RUN.replace("size: tiny", "hidden_size: 64"), "model.heads is missing; add it"),
        ("", "expected the sections model, data"),
        ("- model", "expected the sections model, data"),
        ("model: {size: tiny\ndata: 3", "run.yaml, line 2, column 5: no valid YAML"),
        ("model: !!python/name:os.system", "run.yaml, line 1, column 8: no valid YAML"),
        ("a: \x07", "run.yaml: no valid YAML"),
        (
            RUN.replace("train:", "data: {}\ntrain:"),
            "line 5, column 1: no valid YAML (the key data comes twice; remove one)",
        ),
        (RUN.replace("runs/data", "[" * 250 + "]" * 250), "values are nested too deeply"),
        (
            RUN.replace("size: tiny", "size: tiny, hidden_size: 1000000007, heads: 7"),
            "must be less than or equal to 65536",
        ),
        (RUN.replace("steps: 200", "steps: 017"), "train.steps = 17.0: must be a valid integer"),
    ],
)
def test_a_bad_file(file: Path, text: str, message: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"image\.yaml: cannot be read as UTF-8 text"):
        load_config(tmp_path / "image.yaml")


def test_views_are_those_of_the_data() -> None:
    assert set(VIEWS) == set(views.VIEWS)


def parameter_count(config: ModelConfig) -> int:
    """By the formulas of DESIGN 2: biases everywhere but in the tied output, two position tables, two final norms."""
    width, inner = config.hidden_size, config.feed_forward_size
    norm = 2 * width
    attention = 4 * (width * width + width)
    feed_forward = width * inner + inner + inner * width + width
    encoder = config.encoder_layers * (attention + feed_forward + 2 * norm)
    decoder = config.decoder_layers * (2 * attention + feed_forward + 3 * norm)
    return (VOCABULARY_SIZE + 2 * config.max_length) * width + encoder + decoder + 2 * norm


def test_every_size_is_known_here() -> None:
    folder = resources.files("hzlm.configs") / "models"
    assert {file.name for file in folder.iterdir()} == {f"{name}.yaml" for name in SIZES}


@pytest.mark.parametrize("name", SIZES)
def test_the_size_of_a_size(name: str) -> None:
    text = (resources.files("hzlm.configs") / "models" / f"{name}.yaml").read_text("utf-8")
    config = ModelConfig.model_validate(yaml.safe_load(text))
    count = parameter_count(config)
    assert f"{count:,} parameters with a vocabulary of 8,000 tokens" in text
    assert 0.9 < count / SIZES[name] < 1.11
    with torch.device("meta"):
        model = EncoderDecoder(config, VOCABULARY_SIZE, target_start=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
