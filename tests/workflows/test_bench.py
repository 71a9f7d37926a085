"""What `kbert bench` measures: the count of operations, figures, random input."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kbert.config import load_config
from kbert.errors import ConfigError, DataError
from kbert.layers import MaskedLMMask
from kbert.models import BertForPretraining, BertForTextClassification
from kbert.pretrain_settings import PretrainConfig
from kbert.settings import FinetuneConfig
from kbert.tokenization import WordPieceTokenizer
from kbert.training.precision import Choice
from kbert.workflows.benching import peak, speed, tokenizing
from kbert.workflows.benching.models import finetuning, predicting
from kbert.workflows.benching.operations import (
    forward_operations,
    masked_lm_operations,
    training_operations,
)
from kbert.workflows.benching.peak import Peak, large_size
from kbert.workflows.benching.pretraining import pretraining
from kbert.workflows.benching.rows import RandomPairs, random_dataset
from kbert.workflows.benching.serving import random_texts
from kbert.workflows.benching.speed import WARM_UP_STEPS, Workload, measure
from kbert.workflows.benching.timing import Timing, format_seconds
from kbert.workflows.benching.tokenizing import check_effect, measure_tokenizer
from tests.tiny import VOCABULARY, architecture

BATCH_SIZE, LENGTH, NUM_SLOTS, NUM_CLASSES = 3, 12, 2, 2
SIZES = architecture(num_layers=2, dropout=0.1)
HIDDEN = SIZES.hidden_dim


def operations_in(graph: tf.Graph) -> int:
    """Those of the matrix products in a graph, by the shapes of their inputs.

    But for biases' gradients: products with one row, of ones.
    """
    total = 0
    for operation in graph.get_operations():
        if operation.type not in ("MatMul", "BatchMatMulV2"):
            continue
        is_matrix = operation.type == "MatMul"
        name = "transpose_a" if is_matrix else "adj_x"
        left = operation.inputs[0].shape.as_list()
        rows, summed = left[-2:]
        if operation.get_attr(name):
            rows, summed = summed, rows
        if is_matrix and rows == 1:
            continue
        outputs = int(np.prod(operation.outputs[0].shape.as_list()))
        total += 2 * outputs * summed
    return total


def features(**others: int) -> dict[str, tf.TensorSpec]:
    """The specifications of a batch: name -> columns, `LENGTH` for the usual ones."""
    columns = dict.fromkeys(["token_ids", "segment_ids", "padding_mask"], LENGTH)
    return {
        name: tf.TensorSpec([BATCH_SIZE, count], tf.int32)
        for name, count in (columns | others).items()
    }


def graph_of(model: Any, *, training: bool, **others: int) -> tf.Graph:
    """The model's forward pass; in training its gradients, too."""

    @tf.function(autograph=False)
    def run(batch: dict[str, tf.Tensor]) -> Any:
        if not training:
            return model(batch, training=False)
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(batch, training=True))
            loss = tf.add_n([tf.reduce_sum(tf.sin(output)) for output in outputs])
        return tape.gradient(loss, model.trainable_variables)

    return run.get_concrete_function(features(**others)).graph


# The products with one vector a row, which the formulas leave out.
POOLER = 2 * BATCH_SIZE * HIDDEN * HIDDEN
LOGITS = 2 * BATCH_SIZE * HIDDEN * NUM_CLASSES


@pytest.mark.parametrize("training", [False, True])
def test_operations_are_those_of_the_classifiers_graph(training: bool) -> None:
    model = BertForTextClassification(
        **asdict(SIZES), num_classes=NUM_CLASSES, head_dropout=0.1
    )
    forward = forward_operations(SIZES, BATCH_SIZE, LENGTH, 1) + POOLER + LOGITS
    expected = training_operations(forward) if training else forward
    assert operations_in(graph_of(model, training=training)) == expected


@pytest.mark.parametrize("training", [False, True])
def test_operations_are_those_of_the_pretraining_graph(training: bool) -> None:
    model = BertForPretraining(**asdict(SIZES))
    num_wanted = 1 + NUM_SLOTS
    forward = forward_operations(SIZES, BATCH_SIZE, LENGTH, num_wanted)
    forward += POOLER + LOGITS
    forward += masked_lm_operations(SIZES, BATCH_SIZE, NUM_SLOTS)
    expected = training_operations(forward) if training else forward
    graph = graph_of(model, training=training, mask_positions=NUM_SLOTS)
    assert operations_in(graph) == expected


def workload(**fields: Any) -> Workload:
    values: dict[str, Any] = {
        "kind": "finetune",
        "model": "tiny",
        "architecture": SIZES,
        "batch_size": 4,
        "length": 10,
        "choice": Choice("mixed_bfloat16", False, "as set"),
        "operations": 6_000,
        "build_seconds": 1.5,
        "step": lambda: None,
    }
    return Workload(**(values | fields))


def test_figures_are_of_the_median_step_and_the_larger_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    rates = iter([3_000.0, 4_000.0])

    def product_rate(dtype: str, size: int) -> float:
        done.append(f"{dtype} {size}")
        return next(rates)

    monkeypatch.setattr(speed, "large_size", lambda dtype: 64)
    monkeypatch.setattr(speed, "product_rate", product_rate)
    # Seconds of three steps that warm up, then of three that count.
    seconds = [50.0, 9.0, 9.0, 1.0, 8.0, 2.0]
    clock = iter(np.repeat(np.cumsum([0.0, *seconds]), 2)[1:-1])
    work = workload(step=lambda: done.append("step"))
    found = measure(work, 3, clock=lambda: next(clock))
    assert done == [*["step"] * 3, "bfloat16 64", *["step"] * 3, "bfloat16 64"]
    assert found.timing == Timing(50.0, (1.0, 8.0, 2.0))
    figures = found.to_dict()
    assert figures["first_step_seconds"] == 50
    assert figures["step_seconds"] == {"median": 2, "min": 1, "max": 8}
    assert (figures["warm_up_steps"], figures["steps"]) == (WARM_UP_STEPS, 3)
    assert figures["examples_per_second"] == 2
    assert figures["tokens_per_second"] == 20
    assert figures["operations_per_second"] == 3_000
    assert (figures["peak_before"], figures["peak_after"]) == (3_000, 4_000)
    assert figures["peak_operations_per_second"] == 4_000
    assert figures["share_of_peak"] == 0.75
    table = dict(found.rows())
    assert table["share of peak"] == "75.0%"
    assert table["tokens/s"] == "20"
    assert table["step"] == "2.00 s, the median of 3 (1.00 s to 8.00 s)"


def test_the_peak_is_the_larger_of_before_and_after() -> None:
    assert Peak("float32", 8, before=3.0, after=2.0).rate == 3
    assert Peak("float32", 8, before=2.0, after=3.0).rate == 3


@pytest.mark.parametrize(
    ("rate", "size"), [(1e9, 1024), (3e11, 2048), (6e14, 16384), (1e18, 16384)]
)
def test_a_peak_is_measured_long_enough(
    monkeypatch: pytest.MonkeyPatch, rate: float, size: int
) -> None:
    def rates(dtypes: list[str], **options: int) -> dict[str, float]:
        return dict.fromkeys(dtypes, rate)

    monkeypatch.setattr(peak, "matmul_rates", rates)
    assert large_size("bfloat16") == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00123, "1.23 ms"), (0.0412, "41.2 ms"), (0.412, "412 ms"), (204.0, "204 s")],
)
def test_times_have_three_figures(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


class TestRandomInput:
    def test_rows_are_full_of_ordinary_tokens(self) -> None:
        dataset = random_dataset(VOCABULARY, 5, LENGTH)
        rows = dataset.token_ids.reshape(5, LENGTH)
        assert set(rows[:, 0]) == {VOCABULARY.index("[CLS]")}
        assert set(rows[:, -1]) == {VOCABULARY.index("[SEP]")}
        assert rows[:, 1:-1].min() == 5  # behind the special tokens
        assert rows[:, 1:-1].max() < len(VOCABULARY)
        assert len({row.tobytes() for row in rows}) == 5
        assert list(dataset.lengths) == [LENGTH] * 5

    def test_pairs_have_two_segments_of_a_length_and_slots_to_mask(self) -> None:
        (examples,) = RandomPairs(VOCABULARY, 4, LENGTH).blocks(0)
        rows = examples.token_ids.reshape(4, LENGTH)
        separators = np.argwhere(rows == VOCABULARY.index("[SEP]"))
        expected = [[row, column] for row in range(4) for column in (5, LENGTH - 1)]
        assert separators.tolist() == expected
        assert list(examples.first_lengths) == [6] * 4
        assert set(examples.next_sentence_labels) == {0, 1}
        mask = MaskedLMMask(
            len(VOCABULARY), 4, special_token_ids=range(5), mask_selection_length=1
        )
        assert np.asarray(mask(rows)["mask_weights"]).min() == 1

    @pytest.mark.parametrize("length", [4, 5, 17, 128])
    def test_texts_are_of_a_length_to_every_tokenizer(self, length: int) -> None:
        # It knows of the letters only "a"; the others are unknown, one token each.
        tokenizer = WordPieceTokenizer(VOCABULARY, lowercase=True, strip_accents=True)

        def lengths(texts: Any) -> np.ndarray:
            return tokenizer.tokenize(tf.constant(texts)).row_lengths().numpy()

        texts = random_texts(length, is_paired=False)
        assert set(lengths(texts) + 2) == {length}
        firsts, seconds = zip(*random_texts(length, is_paired=True), strict=True)
        assert set(lengths(firsts) + lengths(seconds) + 3) == {length}


def config(preset: Path, **options: Any) -> FinetuneConfig:
    values = {"model.preset": str(preset), "train.precision": "float32"}
    given = {name.replace("__", "."): value for name, value in options.items()}
    return load_config(FinetuneConfig, options=values | given)


class TestModels:
    def test_a_step_of_finetuning_changes_the_weights(self, tiny_preset: Path) -> None:
        settings = config(tiny_preset, train__batch_size=2, data__max_length=8)
        work = finetuning(settings, num_steps=3)
        results: list[Any] = [work.step() for _ in range(3)]
        assert [step.number for step in results] == [1, 2, 3]
        assert {step.num_tokens for step in results} == {2 * 8}
        assert len({step.loss for step in results}) == 3
        expected = forward_operations(work.architecture, 2, 8, 1)
        assert work.operations == 3 * expected
        assert work.architecture.dropout == 0.1

    def test_a_step_of_pretraining_is_masked(self, tiny_preset: Path) -> None:
        options = {
            "model.preset": str(tiny_preset),
            "train.batch_size": 2,
            "data.max_length": 22,
            "train.precision": "float32",
        }
        settings = load_config(PretrainConfig, options=options)
        work = pretraining(settings, num_steps=2)
        results: list[Any] = [work.step() for _ in range(2)]
        assert {step.num_tokens for step in results} == {2 * 22}
        num_slots = 3  # 15 % of all tokens but [CLS] and [SEP]
        forward = forward_operations(work.architecture, 2, 22, 1 + num_slots)
        forward += masked_lm_operations(work.architecture, 2, num_slots)
        assert work.operations == 3 * forward

    def test_a_pass_of_prediction_gives_the_logits_of_all_rows(
        self, tiny_preset: Path
    ) -> None:
        work = predicting(config(tiny_preset, train__batch_size=3))
        outputs: Any = work.step()
        assert outputs.shape == (3, 2)
        assert work.length == 32  # the preset's positions, below the default
        assert work.operations == forward_operations(work.architecture, 3, 32, 1)

    def test_more_tokens_than_positions(self, tiny_preset: Path) -> None:
        for build in (lambda c: finetuning(c, num_steps=1), predicting):
            with pytest.raises(ConfigError, match=r"at most 32.*Received: 33"):
                build(config(tiny_preset, data__max_length=33))


class TestTokenizer:
    @pytest.fixture
    def texts(self, tmp_path: Path) -> Path:
        """Two texts, of 14 and of 5 bytes."""
        file = tmp_path / "texts.txt"
        file.write_text("the good film!\na bad\n", "utf-8")
        return file

    def test_figures(
        self, texts: Path, tiny_preset: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tokenizing, "PASS_BYTES", 1)
        # The start, then the end of each pass.
        clock: Iterator[float] = iter([0.0, 100.0, 102.0, 103.0, 111.0])
        found = measure_tokenizer(
            config(tiny_preset, data__source=str(texts), data__max_length=4),
            num_passes=3,
            clock=lambda: next(clock),
        )
        figures = found.to_dict()
        # A pass is a whole chunk of 512 texts, here 256 times both.
        assert figures["examples_per_pass"] == 512
        assert figures["bytes_per_pass"] == 256 * (14 + 5)
        # "the good film !" and "a bad", each with [CLS] and [SEP], before cutting.
        assert figures["tokens_per_pass"] == 256 * (6 + 4)
        assert figures["first_pass_seconds"] == 100
        assert figures["pass_seconds"] == {"median": 2, "min": 1, "max": 8}
        assert figures["passes"] == 3
        assert figures["megabytes_per_second"] == 256 * (14 + 5) / 1e6 / 2
        assert figures["tokens_per_second"] == 256 * (6 + 4) / 2
        assert figures["examples_per_second"] == 256

    def test_of_a_large_file_the_beginning(
        self, texts: Path, tiny_preset: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts.write_text("good\n" * 5_000)
        monkeypatch.setattr(tokenizing, "PASS_BYTES", 4 * 600)
        settings = config(tiny_preset, data__source=str(texts))
        assert measure_tokenizer(settings, num_passes=1).num_examples == 1024

    def test_a_file_without_text(self, texts: Path, tiny_preset: Path) -> None:
        texts.write_text("\n\n")
        with pytest.raises(DataError, match=r"texts\.txt has no text"):
            measure_tokenizer(
                config(tiny_preset, data__source=str(texts)), num_passes=1
            )

    def test_settings_without_effect(self) -> None:
        check_effect(["data.text=review", "data.limit = 3"])
        with pytest.raises(ConfigError, match=r"train\.epochs has no effect"):
            check_effect(["data.text=review", "train.epochs=3"])
