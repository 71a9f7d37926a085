"""A preset adapted to the reviews before it is fine-tuned on 2,000 of them, or not.

Purpose: what it brings to pretrain a preset further, for some thousand steps on the
50,000 unsupervised IMDB reviews, before it is fine-tuned on 2,000 labelled ones: test
accuracy with and without, over 3 seeds. Nothing is promised but the figures.

    python -m benchmarks.pretraining.adapt runs/adapt --preset $PRESET --data-dir $DATA

The adapting predicts masked tokens alone, in full sequences. One adapted preset serves
all seeds, which are those of the fine-tuning: of its new head, the order and the
held-out share. Runs that the folder has already are taken. For the 6 layers x 384 of
all_minilm_l6_v2_en 3,000 steps take about 40 minutes on two cores, and each fine-tuning
with its evaluation 15. Prints all accuracies and a JSON line.
"""

import argparse
import json
import sys

from benchmarks.pretraining.commands import (
    REVIEWS,
    FineTuning,
    add_arguments,
    data_dir_options,
    make_run,
    print_table,
    read_metrics,
)


def main() -> int:
    arguments = parse_arguments()
    adapted = make_run(
        arguments.folder.absolute() / "adapted",
        *("pretrain", REVIEWS, "--preset", arguments.preset),
        *("--set", "data.train_split=unsupervised", *data_dir_options(arguments)),
        *("--set", "train.next_sentence_weight=0"),
        *("--max-steps", str(arguments.max_steps)),
        *("--max-length", str(arguments.max_length)),
        *("--batch-size", str(arguments.adapting_batch_size)),
        *("--learning-rate", f"{arguments.adapting_learning_rate:g}"),
    )
    tuning = FineTuning.of(arguments)
    accuracies = {
        "as it is": tuning.accuracies("finetuned", arguments.preset),
        "adapted": tuning.accuracies("finetuned-adapted", adapted),
    }
    means = print_table(accuracies)
    gain = means["adapted"] - means["as it is"]
    print(f"{100 * gain:+.2f} points by adapting, {arguments.max_steps:,} steps")
    report = {
        "gain": gain,
        "test_accuracy": accuracies,
        "adapting": read_metrics(adapted)["validation"],
    }
    print(json.dumps(report))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser, max_length=128, learning_rate=1e-4)
    parser.add_argument("--preset", required=True, help="what is adapted")
    parser.add_argument("--max-steps", type=int, default=3000, help="of the adapting")
    parser.add_argument("--adapting-batch-size", type=int, default=32)
    parser.add_argument("--adapting-learning-rate", type=float, default=1e-4)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
