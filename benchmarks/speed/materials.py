"""The texts and models that the parts of the suite share, made once and kept.

`Materials` is for the parts; as a command this makes Hugging Face's form of a preset,
in a process of its own, so that the process that measures holds no TensorFlow:

    python -m benchmarks.speed.materials $PRESET runs/speed/hf_preset
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Self

from benchmarks.speed.report import kbert_command, run_process
from benchmarks.speed.reviews import LABELS

# A fine-tuned model need not be good to be asked how fast it is.
_RUN_REVIEWS, _RUN_STEPS, _RUN_TOKENS = 2_000, 60, 256


class Materials:
    """What is in a folder, made when it is asked for first.

    Args:
        folder: where all is kept.
        data_dir: in which tensorflow-datasets has prepared imdb_reviews.
        preset: a folder of keras-hub's.
        run_steps: updates of the model that is fine-tuned.
    """

    def __init__(
        self, folder: Path, *, data_dir: str, preset: str, run_steps: int
    ) -> None:
        self.folder = folder
        self._data_dir = data_dir
        self._preset = preset
        self._run_steps = run_steps

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """Those of a part that was called with these options."""
        return cls(
            arguments.folder,
            data_dir=arguments.data_dir,
            preset=arguments.preset,
            run_steps=2 if arguments.quick else _RUN_STEPS,
        )

    def reviews(self, split: str, count: int) -> Path:
        """The first reviews of a split: JSON lines of `text` and `label`."""
        path = self.folder / f"{split}{count}.jsonl"
        if not path.exists():
            command = ["-m", "benchmarks.serving.texts", f"{path}.new", "--labelled"]
            command += ["--data-dir", self._data_dir, "--split", split]
            self._make(sys.executable, *command, "--count", str(count))
            os.replace(f"{path}.new", path)
        return path

    def hugging_face_preset(self) -> Path:
        """The preset as a Hugging Face classifier with a new head."""
        path = self.folder / "hf_preset"
        if not path.exists():
            new = path.with_name("hf_preset.new")
            command = ["-m", "benchmarks.speed.materials", self._preset, str(new)]
            self._make(sys.executable, *command)
            new.rename(path)
        return path

    def run(self) -> Path:
        """A run of `kbert finetune` that keeps the head of a text, 256 tokens."""
        path = self.folder / "run"
        if not path.exists():
            reviews = self.reviews("train", _RUN_REVIEWS)
            new = path.with_name("run.new")
            shutil.rmtree(new, ignore_errors=True)
            command = ["finetune", "--preset", self._preset, "--data", str(reviews)]
            command += ["--max-length", str(_RUN_TOKENS), "--output", str(new)]
            for setting in (
                "data.truncation=head",
                f"train.max_steps={self._run_steps}",
            ):
                command += ["--set", setting]
            self._make(*kbert_command(*command))
            new.rename(path)
        return path

    def hugging_face_run(self) -> Path:
        """The same model for Hugging Face's packages."""
        path = self.folder / "hf_run"
        if not path.exists():
            new = path.with_name("hf_run.new")
            module = "benchmarks.serving.convert_to_hugging_face"
            self._make(sys.executable, "-m", module, str(self.run()), str(new))
            new.rename(path)
        return path

    def export(self) -> Path:
        """The same model as `kbert export` writes it: the folder of its version."""
        path = self.folder / "export"
        if not path.exists():
            new = path.with_name("export.new")
            shutil.rmtree(new, ignore_errors=True)
            self._make(*kbert_command("export", str(self.run()), str(new)))
            new.rename(path)
        return path / "1"

    def _make(self, *command: str) -> None:
        print(f"making: {' '.join(command)}", flush=True)
        run_process(command, self.folder / "making.log")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("preset")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    import keras_hub

    from benchmarks.serving.convert_to_hugging_face import write_model
    from kbert.presets import load_backbone, resolve_preset

    preset = resolve_preset(arguments.preset)
    classifier = keras_hub.models.BertTextClassifier(
        load_backbone(preset), num_classes=len(LABELS)
    )
    write_model(
        arguments.folder,
        classifier,
        preset,
        labels=LABELS,
        max_length=preset.max_sequence_length,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
