import socket
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kbert.data import tfds_builder
from kbert.data.sources import Columns, open_source, source_splits
from kbert.data.tfds import num_shared, tfds_splits
from kbert.data.tfds_builder import TfdsName, parse_spec, prepared_folder, quiet
from kbert.errors import DataError
from tests.data.source_checks import rows_of, texts_and_labels


class KbertPairs(tfds.core.GeneratorBasedBuilder):
    """Ten pairs for training, three without label for testing; each in three shards."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 - as TFDS has it
        tfds.core.BuilderConfig(name="small"),
        tfds.core.BuilderConfig(name="other"),
    ]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "idx": tfds.features.Scalar(np.int32),
                    "premise": tfds.features.Text(),
                    "hypothesis": tfds.features.Text(),
                    "judgement": tfds.features.ClassLabel(names=["no", "yes"]),
                    "is_long": tfds.features.Scalar(np.bool_),
                    "words": tfds.features.Sequence(tfds.features.Text()),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples(10, None), "test": self._examples(3, -1)}

    def _generate_examples(self):
        return iter(())  # the splits above bring their own

    def _examples(self, count, label):
        for i in range(count):
            yield (
                i,
                {
                    "idx": i,
                    "premise": f"premise {i} ü",
                    "hypothesis": f"hypothesis {i}",
                    "judgement": i % 2 if label is None else label,
                    "is_long": i % 2 == 1,
                    "words": ["a"],
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tfds")
    for config in ("small", "other"):
        builder = KbertPairs(config=config, data_dir=folder)
        with quiet():
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(num_shards=3)
            )
    return str(folder)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("the network is blocked in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_reads_pairs_in_stored_order(data_dir):
    source = open_source("tfds:kbert_pairs/small", split="train", data_dir=data_dir)
    expected = [
        (f"premise {i} ü", f"hypothesis {i}", ["no", "yes"][i % 2]) for i in range(10)
    ]
    assert rows_of(source, size=4) == expected
    assert rows_of(source) == expected
    assert source.columns == Columns("premise", "hypothesis", "judgement")
    assert source.label_names == ("no", "yes")
    assert source.num_examples == 10
    assert source.name == "tfds:kbert_pairs/small train"


@pytest.mark.usefixtures("no_network")
def test_slices_splits_and_limits(data_dir):
    spec = "tfds:kbert_pairs/small:1.0.0"
    assert tfds_splits(spec, data_dir) == {"train": 10, "test": 3}
    assert source_splits(spec, data_dir) == ("train", "test")
    part = open_source(spec, split="train[2:9]", data_dir=data_dir, limit=6)
    assert part.num_examples == 6
    assert [text for text, *_ in rows_of(part)] == [
        f"premise {i} ü" for i in range(2, 8)
    ]
    with pytest.raises(DataError, match=r'no split "trian". Splits: train, test'):
        open_source(spec, split="trian", data_dir=data_dir)
    with pytest.raises(DataError, match=r"name a split\. Splits: train, test"):
        open_source(spec, data_dir=data_dir)
    with pytest.raises(DataError, match=r"train\[:0\] has no examples"):
        open_source(spec, split="train[:0]", data_dir=data_dir)


def test_other_file_formats_are_refused(tmp_path):
    builder = KbertPairs(config="small", data_dir=tmp_path, file_format="array_record")
    with quiet():
        builder.download_and_prepare()
    with pytest.raises(DataError, match="is prepared as array_record in"):
        open_source("tfds:kbert_pairs", split="train", data_dir=str(tmp_path))


def test_other_labels(data_dir):
    for column, expected in [("idx", ["0", "1"]), ("is_long", ["false", "true"])]:
        source = open_source(
            "tfds:kbert_pairs/small",
            split="train[:2]",
            columns=Columns(text="premise", label=column),
            data_dir=data_dir,
        )
        assert rows_of(source) == [
            (f"premise {i} ü", None, label) for i, label in enumerate(expected)
        ]
        assert source.label_names is None


def test_a_missing_label_is_an_error_where_labels_are_read(data_dir):
    options = {"split": "test", "data_dir": data_dir}
    source = open_source("tfds:kbert_pairs/small", **options)
    with pytest.raises(DataError, match=r'example 1: .*column "judgement" is -1'):
        rows_of(source)
    source = open_source("tfds:kbert_pairs/small", labelled=False, **options)
    assert rows_of(source)[0] == ("premise 0 ü", "hypothesis 0", None)


def test_a_missing_feature_is_named(data_dir):
    with pytest.raises(DataError, match=r'no column "premis" .*Nearest: .*=premise'):
        open_source(
            "tfds:kbert_pairs/small",
            split="train",
            columns=Columns(text="premis"),
            data_dir=data_dir,
        )


def test_a_text_must_be_a_text_feature(data_dir):
    with pytest.raises(DataError, match=r'the feature "idx" is no text: .* int32'):
        open_source(
            "tfds:kbert_pairs/small",
            split="train",
            columns=Columns(text="idx"),
            data_dir=data_dir,
        )


def test_a_damaged_file(data_dir, tmp_path):
    folder = Path(data_dir) / "kbert_pairs" / "small" / "1.0.0"
    copy = tmp_path / "kbert_pairs" / "small" / "1.0.0"
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    shard = next(copy.glob("*train.tfrecord-00001*"))
    shard.write_bytes(shard.read_bytes()[:-20])
    source = open_source("tfds:kbert_pairs", split="train", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="tfds:kbert_pairs train cannot be read"):
        rows_of(source)


def prepare(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").touch()
    return folder


def test_finds_the_newest_version_and_the_default_config(tmp_path):
    assert prepared_folder(tmp_path, TfdsName("x", None, None)) is None
    old = prepare(tmp_path / "x" / "a" / "2.0.0")
    new = prepare(tmp_path / "x" / "a" / "10.0.0")
    (tmp_path / "x" / "a" / "incomplete.A1_11.0.0").mkdir()
    assert prepared_folder(tmp_path, TfdsName("x", None, None)) == new
    assert prepared_folder(tmp_path, TfdsName("x", "a", None)) == new
    assert prepared_folder(tmp_path, TfdsName("x", "a", "2.0.0")) == old
    assert prepared_folder(tmp_path, TfdsName("x", "a", "3.0.0")) is None
    assert prepared_folder(tmp_path, TfdsName("x", "b", None)) is None
    other = prepare(tmp_path / "x" / "b" / "1.0.0")
    with pytest.raises(
        DataError, match=r"several configs prepared in .*: a, b. Choose"
    ):
        prepared_folder(tmp_path, TfdsName("x", None, None))
    metadata = tmp_path / "x" / ".config" / "metadata.json"
    metadata.parent.mkdir()
    metadata.write_text('{"default_config_name": "b"}')
    assert prepared_folder(tmp_path, TfdsName("x", None, None)) == other
    plain = prepare(tmp_path / "y" / "1.0.0")
    assert prepared_folder(tmp_path, TfdsName("y", None, None)) == plain


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("split", "other", "expected"),
    [
        ("train", "train", 10),
        ("train", "train[:10%]", 1),
        ("train[:7]", "train[5:]", 2),
        ("train[:50%]", "train[50%:]", 0),
        ("train+test", "test", 3),
        ("train", "test", 0),
    ],
)
def test_what_two_splits_share(data_dir, split, other, expected):
    small = "tfds:kbert_pairs/small"
    for spec in (small, f"{small}:1.0.0"):
        assert num_shared(small, split, spec, other, data_dir) == expected
    assert num_shared(small, split, "tfds:kbert_pairs/other", other, data_dir) == 0


def test_parse_spec():
    assert parse_spec("tfds:a_1") == ("a_1", None, None)
    assert parse_spec("tfds:a/b-c.1:1.2.3") == ("a", "b-c.1", "1.2.3")
    for spec in ("tfds:", "tfds:a b", "tfds:a/b/c", "tfds:../x", "tfds:a:latest"):
        with pytest.raises(DataError, match=r"tfds:NAME\[/CONFIG\]"):
            parse_spec(spec)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:imdb_revews", 'no data set "imdb_revews".*Nearest: imdb_reviews'),
        ("tfds:glue/mrcp", 'glue has no config "mrcp". Configs: mrpc'),
        (
            "tfds:ag_news_subset",
            "no answer from .*not prepared in .*data.data_dir.* such as reviews.csv",
        ),
        ("tfds:imdb_reviews:9.9.9", "cannot be loaded at version 9.9.9, only: 1.0.0"),
    ],
)
def test_what_cannot_be_had_is_an_error_soon(tmp_path, capfd, spec, message):
    with pytest.raises(DataError, match=message):
        open_source(spec, split="train", data_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""


def test_a_failing_download_is_an_error_of_the_data(tmp_path, monkeypatch, capfd):
    def fail(builder):
        print("Downloading and preparing ...")
        raise tfds.download.DownloadError("code 404\nmore")

    monkeypatch.setattr(tfds_builder, "_answers", lambda url: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(
        DataError, match=r"could not be downloaded .*: code 404\. It is"
    ):
        open_source("tfds:imdb_reviews", split="train", data_dir=str(tmp_path))
    assert capfd.readouterr().out == ""


def test_data_dir_may_come_from_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert source_splits("tfds:kbert_pairs/small") == ("train", "test")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("split", ["train", "test"])
def test_real_imdb(shared_dir, split):
    data_dir = str(shared_dir / "data" / "tfds")
    source = open_source("tfds:imdb_reviews", split=split, data_dir=data_dir)
    counts = Counter(label for _, label in texts_and_labels(source))
    assert counts == {"neg": 12500, "pos": 12500}
    assert source.label_names == ("neg", "pos")
    assert source.num_examples == 25000
    assert source_splits("tfds:imdb_reviews", data_dir) == (
        "train",
        "test",
        "unsupervised",
    )
