"""A small BERT from scratch on reviews, and what it is worth on 2,000 labelled ones.

Purpose: pretrained on the 50,000 unsupervised IMDB reviews and fine-tuned on 2,000
labelled ones, a mini model reaches at least 5 points more test accuracy than the same
architecture with the same vocabulary and random weights, fine-tuned alike, in the mean
over the seeds.

    python -m benchmarks.pretraining.from_scratch runs/from_scratch --data-dir $DATA

The random weights are those of a training of ten steps with a learning rate of 1e-9. Of
several learning rates of the fine-tuning (--learning-rates 1e-4 3e-4 1e-3) each side
gets the one that is best on the reviews held out of its 2,000. Runs that the folder has
already are taken. Takes about 45 minutes for the pretraining, and 8 for each seed of
each side, on two cores. Prints all accuracies and a JSON line; exits with 1 where the
means differ by less than 5 points.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.pretraining.commands import (
    ROOT,
    FineTuning,
    add_arguments,
    data_dir_options,
    make_run,
    print_table,
    read_metrics,
)

CONFIG = ROOT / "configs" / "pretrain_imdb_mini.toml"
PROMISED = 0.05


def main() -> int:
    arguments = parse_arguments()
    folder = arguments.folder.absolute()
    options = [
        *("--config", str(arguments.config), *data_dir_options(arguments)),
        *(part for setting in arguments.settings for part in ("--set", setting)),
    ]
    steps = arguments.max_steps
    pretrained = arguments.pretrained or make_run(
        folder / "pretrained",
        *("pretrain", *options),
        *(() if steps is None else ("--max-steps", str(steps))),
    )
    random = make_run(
        folder / "random",
        # The vocabulary that both have is learned from the same text.
        # Ten steps: each of two phases needs one.
        *("pretrain", *options, "--max-steps", "10", "--learning-rate", "1e-9"),
    )
    if vocabulary_of(pretrained) != vocabulary_of(random):
        raise SystemExit("The two have different vocabularies.")
    tuning = FineTuning.of(arguments)
    accuracies = {
        "pretrained": tuning.accuracies("finetuned", pretrained),
        "random": tuning.accuracies("finetuned-random", random),
    }
    means = print_table(accuracies)
    gain = means["pretrained"] - means["random"]
    print(f"{100 * gain:+.2f} points (promised: {100 * PROMISED:g})")
    report = {
        "kept": gain >= PROMISED,
        "gain": gain,
        "test_accuracy": accuracies,
        "pretraining": read_metrics(pretrained)["validation"],
    }
    print(json.dumps(report))
    return 0 if report["kept"] else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser, max_length=512, learning_rate=3e-4)
    parser.add_argument("--config", default=CONFIG, help="of the pretraining")
    parser.add_argument("--max-steps", type=int, help="of the pretraining")
    parser.add_argument(
        "--pretrained", type=Path, metavar="RUN", help="in place of a new pretraining"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="another setting of the pretraining",
    )
    return parser.parse_args()


def vocabulary_of(run: Path) -> str:
    return (run / "vocab.txt").read_text("utf-8")


if __name__ == "__main__":
    sys.exit(main())
