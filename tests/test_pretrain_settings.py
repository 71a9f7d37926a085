"""The settings of `kbert pretrain` by themselves, and what fits together."""

import tomllib

import pytest

from kbert.config import config_to_toml, load_config
from kbert.errors import ConfigError
from kbert.pretrain_settings import PretrainConfig, VocabConfig
from kbert.settings import describe_settings
from kbert.workflows.pretraining.idle import idle_settings, idle_when_preparing
from kbert.workflows.pretraining.resolving import (
    check_same_vocabulary,
    check_settings,
    choose_pretraining_rate,
    short_steps,
    without_settings_of_run,
)
from kbert.workflows.pretraining.sizes import SIZES, new_architecture


def load(*assignments: str) -> PretrainConfig:
    return load_config(PretrainConfig, assignments=assignments)


def test_defaults_are_bert_s():
    config = load()
    data, train = config.data, config.train
    assert (data.mask_selection_rate, data.mask_token_rate) == (0.15, 0.8)
    assert (data.random_token_rate, data.short_sequence_rate) == (0.1, 0.1)
    assert (data.max_length, data.whole_word) == (128, False)
    assert (train.next_sentence_weight, train.optimizer) == (1.0, "adamw")
    assert data.sources == ["sample"]
    assert refusal_of(config) is None


@pytest.mark.parametrize(
    ("assignment", "rule"),
    [
        ("data.mask_selection_rate=0", "must be a number, above 0, below 1"),
        ("data.mask_selection_rate=1", "must be a number, above 0, below 1"),
        ("data.mask_token_rate=1.1", "must be a number, at least 0, at most 1"),
        ("data.validation_share=0", "must be a number, above 0, below 1"),
        ("data.max_length=7", "must be a whole number, at least 8"),
        ("data.sources=[]", "must be a list, each a text"),
        ("data.document=page", 'must be one of "blank_line", "line", "file"'),
        ("model.vocabulary_size=5", "at least 6, at most 1000000"),
        ("model.size=medum", "did you mean medium?"),
        ("model.position_embedding=sinusoid", "did you mean sinusoidal?"),
        ("train.optimizer=adam", "did you mean adamw?"),
        ("train.next_sentence_weight=-1", "must be a number, at least 0"),
        ("train.short_share=1", "must be a number, above 0, below 1"),
        ("train.max_steps=0", "must be a whole number, at least 1"),
        ("train.epochs=3", "unknown setting train.epochs"),
        ("data.mask_rate=0.2", "did you mean data.mask_"),
    ],
)
def test_a_wrong_value_is_named_with_the_rule(assignment, rule):
    with pytest.raises(ConfigError) as caught:
        load(assignment)
    assert assignment in str(caught.value)
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("assignments", "rule"),
    [
        (
            ["data.mask_token_rate=0.8", "data.random_token_rate=0.3"],
            "together at most 1. Received: 0.8 and 0.3",
        ),
        (
            ["data.short_length=128"],
            "must be below data.max_length. Received: 128 and 128",
        ),
        (["train.short_share=0.5"], "the phase of data.short_length, which is not set"),
        (
            ["data.short_length=64", "train.max_steps=3"],
            "Each phase needs a step.*Received: 3 and 0.9. Raise --max-steps",
        ),
        (
            ["model.vocabulary=v.txt", "model.vocabulary_size=99"],
            "model.vocabulary = v.txt gives one. Leave one of them out",
        ),
        (["model.preset=p", "model.size=tiny"], "model.size is for a new model; the"),
        (
            ["model.preset=p", "model.num_layers=2", "model.hidden_dim=64"],
            "Leave --preset out, or model.num_layers and model.hidden_dim",
        ),
        (
            ["model.preset=p", "model.vocabulary_size=99"],
            "model.vocabulary_size is for",
        ),
        (
            ["model.preset=p", "model.position_embedding=sinusoidal"],
            "model.position_embedding is for a new model",
        ),
    ],
)
def test_settings_that_contradict_each_other(assignments, rule):
    with pytest.raises(ConfigError, match=rule):
        check_settings(load(*assignments))


@pytest.mark.parametrize(
    ("assignments", "sentence"),
    [
        (
            ["train.next_sentence_weight=0", "data.short_sequence_rate=0.2"],
            "data.short_sequence_rate = 0.2 has no effect: it is for pairs",
        ),
        (
            ["data.validation=v.txt", "data.validation_share=0.2"],
            "data.validation_share = 0.2 has no effect: data.validation is held-out",
        ),
        (
            ["train.tokens_per_batch=512", "train.batch_size=8"],
            "train.batch_size = 8 has no effect: train.tokens_per_batch takes its",
        ),
        (
            ["train.max_steps=10", "train.eval_steps=10"],
            "train.eval_steps = 10 has no effect: the training has 10 steps",
        ),
        (
            ["train.max_steps=10", "train.warmup_steps=10"],
            "train.warmup_steps = 10: the training has 10 steps, so that the learning",
        ),
    ],
)
def test_what_has_no_effect_is_said(assignments, sentence):
    config = load(*assignments)
    (found,) = idle_settings(config, {})
    assert found.startswith(sentence)
    # The config of a run names every setting, given or not.
    assert not [*idle_settings(whole(load()), {})]
    assert [*idle_settings(whole(config), {})] == [found]


def test_what_has_no_effect_on_the_text_is_said_once():
    reasons = {"data.document": "a row is one", "data.text": "there are no columns"}
    found = [*idle_settings(load("data.document=line"), reasons)]
    assert found == ["data.document = line has no effect: a row is one."]


def whole(config: PretrainConfig) -> PretrainConfig:
    """The same settings, with all of them given, as in the config of a run."""
    sections = {name: dict(section) for name, section in config}
    for settings in sections.values():
        if settings.get("warmup_steps") is not None:
            del settings["warmup_ratio"]
    return PretrainConfig.model_validate(sections)


def test_the_config_of_an_adapted_run_trains_it_again():
    own = whole(load("model.preset=p"))
    assert {"size", "num_layers", "position_embedding"} <= own.model.model_fields_set
    assert refusal_of(own) is None
    # It is not that settings of a run are not looked at.
    other = own.model.model_copy(update={"size": "large"})
    assert "model.size" in refusal_of(own.model_copy(update={"model": other}))


def refusal_of(config: PretrainConfig) -> str | None:
    """The message of `check_settings`; None where nothing is wrong."""
    try:
        check_settings(config)
    except ConfigError as error:
        return str(error)
    return None


def test_the_config_of_a_run_goes_on_from_this_run(tmp_path):
    own = whole(load("model.size=tiny", "model.num_layers=3", "data.max_length=64"))
    (tmp_path / "config.toml").write_text(config_to_toml(own))
    preset = f"model.preset={tmp_path}"
    going_on = load_config(
        PretrainConfig, file=tmp_path / "config.toml", assignments=[preset]
    )
    with pytest.raises(ConfigError, match=r"model.size is for a new model"):
        check_settings(going_on)
    found = without_settings_of_run(going_on)
    check_settings(found)
    assert found == load(preset, "data.max_length=64")
    # Another number than the run's is still refused, and so is any beside a preset.
    other = load(preset, "model.size=tiny", "model.num_layers=4")
    with pytest.raises(ConfigError, match=r"Leave --preset out, or model.num_layers"):
        check_settings(without_settings_of_run(other))
    elsewhere = load("model.preset=sample", "model.size=tiny")
    assert without_settings_of_run(elsewhere) == elsewhere


def test_text_is_read_alike_for_a_vocabulary_and_a_training():
    of_vocab = {setting.key: setting for setting in describe_settings(VocabConfig)}
    of_pretrain = {
        setting.key: setting for setting in describe_settings(PretrainConfig)
    }
    assert of_vocab.items() <= of_pretrain.items()
    assert all(setting.description for setting in of_pretrain.values())


def test_toml_there_and_back():
    config = load(
        "data.sources=['a.txt', 'b \"c\".txt']",
        "model.size=small",
        "train.warmup_steps=7",
        "data.whole_word=true",
    )
    assert load_config(PretrainConfig, options=flat(config)) == config
    assert 'size = "small"' in config_to_toml(config)


def flat(config: PretrainConfig) -> dict:
    content = tomllib.loads(config_to_toml(config))
    return {
        f"{s}.{n}": value for s, table in content.items() for n, value in table.items()
    }


def test_steps_of_the_first_phase():
    assert short_steps(load()) == 0
    assert short_steps(load("data.short_length=64", "train.max_steps=1000")) == 900
    half = ("data.short_length=64", "train.max_steps=5", "train.short_share=0.5")
    assert short_steps(load(*half)) == 2


# google-research/bert's names; the count of base is the 110 M of the paper.
@pytest.mark.parametrize(
    ("size", "numbers", "millions"),
    [
        ("tiny", (2, 128, 2), 4.4),
        ("mini", (4, 256, 4), 11.2),
        ("small", (4, 512, 8), 28.8),
        ("medium", (8, 512, 8), 41.4),
        ("base", (12, 768, 12), 109.5),
        ("large", (24, 1024, 16), 335.1),
    ],
)
def test_sizes(size, numbers, millions):
    assert SIZES[size] == numbers
    model = load(f"model.size={size}").model
    found = new_architecture(model, vocabulary_size=30_522, max_length=512)
    assert (found.num_layers, found.hidden_dim, found.num_heads) == numbers
    assert found.intermediate_dim == 4 * found.hidden_dim
    assert found.num_parameters / 1e6 == pytest.approx(millions, abs=0.06)


def test_numbers_go_before_the_size():
    model = load(
        "model.size=tiny",
        "model.num_layers=3",
        "model.hidden_dim=96",
        "model.num_heads=4",
        "model.intermediate_dim=100",
        "model.max_sequence_length=64",
        "model.dropout=0",
    ).model
    found = new_architecture(model, vocabulary_size=50, max_length=32)
    assert (found.num_layers, found.hidden_dim, found.num_heads) == (3, 96, 4)
    assert (found.intermediate_dim, found.max_sequence_length) == (100, 64)
    assert found.dropout == 0.0
    unset = new_architecture(load().model, vocabulary_size=50, max_length=32)
    assert (unset.num_layers, unset.max_sequence_length) == (4, 32)
    assert unset.dropout == 0.1


@pytest.mark.parametrize(
    ("assignments", "rule"),
    [
        (
            ["model.hidden_dim=100", "model.num_heads=3"],
            "multiple of model.num_heads. Received: 100 and 3",
        ),
        (
            ["model.max_sequence_length=64"],
            "at least data.max_length. Received: 64 and 128",
        ),
    ],
)
def test_numbers_that_make_no_bert(assignments, rule):
    with pytest.raises(ConfigError, match=rule):
        new_architecture(load(*assignments).model, vocabulary_size=50, max_length=128)


def test_rates_by_width_and_start():
    def rate(
        width: int, *, pretrained: bool = False, optimizer: str = "adamw"
    ) -> float:
        return choose_pretraining_rate(
            width, pretrained=pretrained, optimizer=optimizer
        )

    assert rate(768) == rate(1024) == 1e-4
    assert rate(384) == rate(256) == 5e-4
    for width in (256, 384, 768):
        assert rate(width, pretrained=True) < rate(width)
        lamb = rate(width, optimizer="lamb")
        assert rate(width, pretrained=True, optimizer="lamb") < lamb == 2e-3


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (("a", "x", "c"), "Received: 'x' on line 2, not 'b'. Mend it."),
        (("a", "b"), "Received: 2 tokens, not 3. Mend it."),
        (("a", "b", "c", "d"), "Received: 4 tokens, not 3. Mend it."),
    ],
)
def test_another_vocabulary_says_where_it_differs(given, place):
    check_same_vocabulary(("a", "b", "c"), ("a", "b", "c"), "the preset p", "Mend it")
    with pytest.raises(ConfigError) as caught:
        check_same_vocabulary(("a", "b", "c"), given, "the preset p", "Mend it")
    assert "must be that of the preset p" in str(caught.value)
    assert place in str(caught.value)


def test_what_does_not_matter_to_preparing_is_named():
    given = ["model.size=base", "data.whole_word=true", "train.max_steps=5"]
    (sentence,) = idle_when_preparing(load(*given))
    named = {"model.size", "data.whole_word", "train.max_steps"}
    assert set(sentence.partition(":")[0].split(", ")) == named
    needed = ["model.vocabulary_size=50", "data.max_length=64", "train.seed=3"]
    assert list(idle_when_preparing(load(*needed))) == []
