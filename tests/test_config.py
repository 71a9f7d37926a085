"""Settings: precedence, strict types, error texts, and TOML there and back."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert.config import (
    FinetuneConfig,
    config_to_toml,
    describe_settings,
    load_config,
)
from kbert.errors import ConfigError
from kbert.pretrain_settings import PretrainConfig
from kbert.settings import DataSettings, ModelSettings, TrainSettings

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").rglob("*.toml"))


def load(*assignments: str, **arguments: Any) -> FinetuneConfig:
    return load_config(FinetuneConfig, assignments=assignments, **arguments)


def load_file(folder: Path, text: str, **arguments: Any) -> FinetuneConfig:
    file = folder / "my.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(FinetuneConfig, file=file, **arguments)


def problems(*assignments: str, **arguments: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*assignments, **arguments)
    return str(raised.value)


def file_problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_file(folder, text)
    return str(raised.value)


def test_nothing_given_is_the_defaults() -> None:
    assert load() == FinetuneConfig()
    assert load().train.epochs == "auto"
    assert load().train.seed == 42


def test_option_beats_set_beats_file_beats_default(tmp_path: Path) -> None:
    config = load_file(
        tmp_path,
        "[train]\nepochs = 5\nbatch_size = 6\nseed = 7\n",
        assignments=["train.epochs=8", "train.batch_size=9"],
        options={"train.epochs": 10, "train.seed": None},
    )
    train = config.train
    assert (train.epochs, train.batch_size, train.seed) == (10, 9, 7)


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("data.text=review", "data", "text", "review"),
        ("data.text=123", "data", "text", "123"),
        ("data.text=true", "data", "text", "true"),
        ('data.text="two words"', "data", "text", "two words"),
        ("data.source=a=b.csv", "data", "source", "a=b.csv"),
        (" train.epochs = 2 ", "train", "epochs", 2),
        ("train.weight_decay=1", "train", "weight_decay", 1.0),
        ("train.learning_rate=1e-4", "train", "learning_rate", 1e-4),
        ("train.learning_rate=auto", "train", "learning_rate", "auto"),
        # TOML has none of these four.
        ("train.warmup_ratio=.1", "train", "warmup_ratio", 0.1),
        ("train.weight_decay=1.", "train", "weight_decay", 1.0),
        ("train.learning_rate=+.5e-3", "train", "learning_rate", 5e-4),
        ("train.seed=07", "train", "seed", 7),
        ("data.text=.1", "data", "text", ".1"),
        ("train.jit_compile=true", "train", "jit_compile", True),
        ("train.class_weights=balanced", "train", "class_weights", "balanced"),
        (
            "train.class_weights={neg=1.0,pos=2.5}",
            "train",
            "class_weights",
            {"neg": 1.0, "pos": 2.5},
        ),
    ],
)
def test_set_reads_toml_else_text(
    assignment: str, section: str, key: str, value: object
) -> None:
    read = getattr(getattr(load(assignment), section), key)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("assignment", "rule"),
    [
        ("train.batch_size=0", "a whole number, at least 1"),
        ("train.batch_size=2.0", "a whole number, at least 1"),
        ("train.batch_size=true", "a whole number, at least 1"),
        ('train.batch_size="3"', "a whole number, at least 1"),
        ("train.epochs=0", '"auto" or a whole number, at least 1'),
        ("train.weight_decay=-0.1", "a number, at least 0"),
        ("train.label_smoothing=1.0", "a number, at least 0, below 1"),
        ("train.warmup_ratio=1.0", "a number, at least 0, below 1"),
        ("train.layer_decay=0", "a number, above 0, at most 1"),
        ("train.layer_decay=1.1", "a number, above 0, at most 1"),
        ("train.learning_rate=-1e-4", '"auto" or a number, above 0, at most 1'),
        ("train.learning_rate=nan", '"auto" or a number, above 0, at most 1'),
        ("train.clip_norm=inf", "a number, at least 0"),
        ("train.patience=0", "a whole number, at least 1"),
        ("train.seed=-1", "a whole number, at least 0, below 4294967296"),
        ("train.freeze_embeddings=1", "true or false"),
        ("train.class_weights={neg=-1.0}", "each above 0"),
        ("model.dropout=1", "a number, at least 0, below 1"),
        ("model.lowercase=yes", "true or false"),
        ("data.max_length=3", "a whole number, at least 4"),
        ("data.truncation=middle", 'one of "head", "tail", "head_tail"'),
        ("data.text=", "a text, not empty"),
    ],
)
def test_a_wrong_value_names_itself_and_the_rule(assignment: str, rule: str) -> None:
    text = problems(assignment)
    assert f"--set {assignment}: must be" in text
    assert rule in text
    assert "pydantic" not in text


def test_a_whole_number_serves_as_a_number(tmp_path: Path) -> None:
    config = load_file(tmp_path, "[train]\nlayer_decay = 1\n")
    assert config.train.layer_decay == 1.0
    assert type(config.train.layer_decay) is float


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("train.epoch=3", "did you mean train.epochs?"),
        ("train.max_length=3", "did you mean data.max_length?"),
        ("epochs=3", "did you mean train.epochs?"),
        ("trian.epochs=3", "did you mean train.epochs?"),
        ("export.zzzz=3", "`kbert config show --help` lists the settings"),
    ],
)
def test_an_unknown_setting_gets_the_nearest_name(assignment: str, hint: str) -> None:
    assert f"unknown setting {assignment.partition('=')[0]}; {hint}" in problems(
        assignment
    )


def test_set_needs_an_equals_sign() -> None:
    assert "--set train.epochs: must be SECTION.KEY=VALUE" in problems("train.epochs")


def test_all_mistakes_of_all_sources_are_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(
        'seed = 1\n[trian]\nepochs = 1\n[export]\n[train]\nepochs = "3"\n'
        '[data]\ntruncation = "middle"\n',
        encoding="utf-8",
    )
    text = problems(
        "train.epoch=3",
        file=file,
        options={"train.batch_size": 0, "train.seed": -1},
        option_names={"train.batch_size": "--batch-size"},
    )
    for line in [
        f"{file}: seed = 1: stands outside of the sections; did you mean train.seed?",
        f"{file}: unknown section [trian]; did you mean train?",
        f"{file}: unknown section [export]; sections: model, data, train",
        f'{file}: train.epochs = "3": must be "auto" or a whole number, at least 1',
        f'{file}: data.truncation = "middle": must be one of "head", "tail"',
        "--set train.epoch=3: unknown setting train.epoch; did you mean train.epochs?",
        "--batch-size 0: must be a whole number, at least 1 (train.batch_size)",
        "train.seed = -1: must be a whole number, at least 0",
    ]:
        assert line in text
    assert text.count("\n") == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[train]\nepochs = \n", "line 2, column 10"),
        ("[train]\nepochs = 1\nepochs = 2\n", "Cannot overwrite a value"),
        ("train = 3\n", "train = 3: must be a section, [train]"),
        ("a = " + "[" * 100_000, "is not valid TOML"),
        ("a = " + "9" * 5_000, "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: str, message: str) -> None:
    text = file_problems(tmp_path, content)
    assert "my.toml" in text
    assert message in text


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "imdb.toml").write_text("")
    near = str(tmp_path / "imdb.toml")
    assert near in problems(file=tmp_path / "imbd.toml")
    assert "there is no folder" in problems(file=tmp_path / "none" / "a.toml")

    (tmp_path / "config.toml").write_text("")
    assert f"did you mean {tmp_path / 'config.toml'}?" in problems(file=tmp_path)

    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * 1_000_001)
    assert "larger than 1,000,000 bytes" in problems(file=big)

    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"[data]\ntext = 'caf\xe9'\n")
    assert "not UTF-8 text: line 2" in problems(file=latin)


def test_warmup_is_given_once(tmp_path: Path) -> None:
    text = problems("train.warmup_steps=10", "train.warmup_ratio=0.2")
    assert "--set train.warmup_steps=10 and --set train.warmup_ratio=0.2" in text
    # The higher precedence decides, as for any other setting.
    config = load_file(
        tmp_path, "[train]\nwarmup_ratio = 0.2\n", assignments=["train.warmup_steps=10"]
    )
    assert (config.train.warmup_steps, config.train.warmup_ratio) == (10, 0.1)
    config = load_file(
        tmp_path, "[train]\nwarmup_steps = 10\n", assignments=["train.warmup_ratio=0.2"]
    )
    assert (config.train.warmup_steps, config.train.warmup_ratio) == (None, 0.2)
    with pytest.raises(ValueError, match="exclude each other"):
        TrainSettings(warmup_steps=10, warmup_ratio=0.2)


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        FinetuneConfig().train.epochs = 5  # type: ignore[misc]


names = st.text(min_size=1, max_size=20)
rates = st.floats(0, 1, exclude_max=True)
configs = st.builds(
    FinetuneConfig,
    model=st.builds(
        ModelSettings,
        preset=names,
        lowercase=st.none() | st.booleans(),
        dropout=st.none() | rates,
    ),
    data=st.builds(
        DataSettings,
        source=names,
        text=st.none() | names,
        max_length=st.none() | st.integers(4, 10_000),
    ),
    train=st.builds(
        TrainSettings,
        epochs=st.integers(1, 10**12),
        learning_rate=st.just("auto") | st.floats(0, 1, exclude_min=True),
        warmup_steps=st.none() | st.integers(0, 100),
        class_weights=st.none()
        | st.just("balanced")
        | st.dictionaries(st.text(max_size=20), st.floats(1e-6, 1e6)),
        jit_compile=st.sampled_from(["auto", True, False]),
    ),
)


@settings(deadline=None)
@given(config=configs, comments=st.booleans())
def test_toml_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, config: FinetuneConfig, comments: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert load_file(folder, config_to_toml(config, comments=comments)) == config


def test_toml_has_every_set_value_and_no_other() -> None:
    text = config_to_toml(FinetuneConfig())
    for setting in describe_settings(FinetuneConfig):
        key = setting.key.rpartition(".")[2]
        assert (f"\n{key} = " in text) == (setting.default is not None), key
    assert [line for line in text.splitlines() if line.startswith("[")] == [
        "[model]",
        "[data]",
        "[train]",
    ]


def test_every_setting_is_described() -> None:
    settings = describe_settings(FinetuneConfig)
    assert len(settings) == 44
    assert all(setting.description and setting.type for setting in settings)
    by_key = {setting.key: setting for setting in settings}
    assert by_key["data.max_length"].type == "a whole number, at least 4"
    assert by_key["data.max_length"].default is None


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_configs_load_and_say_how_to_run_them(file: Path) -> None:
    is_pretraining = file.stem.startswith("pretrain")
    load_config(PretrainConfig if is_pretraining else FinetuneConfig, file=file)
    command = "pretrain" if is_pretraining else "finetune"
    text = file.read_text(encoding="utf-8")
    assert f"# kbert {command} --config configs/{file.name} " in text


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 3
