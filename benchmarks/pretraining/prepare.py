"""From text to examples: kbert beside google-research/bert's own script.

Purpose: on the same text, with the same vocabulary and settings (pairs for
next-sentence prediction, at most 128 tokens, short pairs with probability 0.1, each
text once), kbert prepares at least 5 times the MB/s of create_pretraining_data.py.

    python -m benchmarks.pretraining.prepare reviews.txt --vocabulary vocab.txt \\
        --peer google-research-bert

TEXT has a blank line between two documents; its first megabytes are written with one
sentence a line, as the peer needs it, and both sides read that file. Both write
TFRecords, in turn and each in a fresh process on the same two cores; reading the text,
tokenizing, building and writing are measured, importing TensorFlow is not. kbert is one
process with a thread a core. The peer is what it is, one thread of Python; run twice on
halves of the text it could be twice as fast. It masks its examples at once and pads
them, where kbert masks while training, each time anew.

`--peer` is a checkout of github.com/google-research/bert, code for TensorFlow 1, which
peer_prepare.py runs with `tensorflow.compat.v1`. Takes about 4 minutes with 20 MB and 3
rounds. Prints each round, the medians and a JSON line; exits with 1 where the ratio is
below 5, or where the sides' examples differ in their number, their mean length or the
share of random next sentences by more than chance allows.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.pretraining.prepared_by import Outcome
from benchmarks.serving.servers import only_cores
from kbert.data.sentences import split_sentences

PROMISED_RATIO = 5
TOLERANCE = 0.03  # of counts and means, both sides' draws being their own
SIDES = ("kbert", "peer")


def main() -> int:
    arguments = parse_arguments()
    outcomes: dict[str, list[Outcome]] = {side: [] for side in SIDES}
    with only_cores(2), tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        write_sentences(arguments.text, text, round(arguments.megabytes * 1e6))
        megabytes = text.stat().st_size / 1e6
        print(f"{megabytes:.1f} MB, {arguments.max_length} tokens", flush=True)
        for number in range(1, arguments.rounds + 1):
            for side in SIDES:
                outcome = run(side, text, Path(folder) / f"{side}-{number}", arguments)
                outcomes[side].append(outcome)
                print(
                    f"round {number}: {side} {outcome.describe(megabytes)}", flush=True
                )
    rates = {
        side: statistics.median(megabytes / outcome.seconds for outcome in runs)
        for side, runs in outcomes.items()
    }
    per_processor = {
        side: statistics.median(
            megabytes / outcome.processor_seconds for outcome in runs
        )
        for side, runs in outcomes.items()
    }
    ratio = rates["kbert"] / rates["peer"]
    for side in SIDES:
        print(
            f"median: {side} {rates[side]:.3f} MB/s, "
            f"{per_processor[side]:.3f} MB a processor second"
        )
    print(f"ratio {ratio:.1f}, promised {PROMISED_RATIO}")
    alike = are_alike(outcomes["kbert"][0], outcomes["peer"][0])
    report = {"megabytes": megabytes, "ratio": ratio, "alike": alike}
    print(json.dumps(report | {"rates": rates, "per_processor_second": per_processor}))
    return 0 if alike and ratio >= PROMISED_RATIO else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", type=Path, help="documents, blank lines between them")
    parser.add_argument("--vocabulary", type=Path, required=True, help="uncased")
    parser.add_argument("--peer", type=Path, required=True, help="its checkout")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def write_sentences(source: Path, target: Path, num_bytes: int) -> None:
    """The first documents of `source`, a sentence a line."""
    document: list[str] = []
    with (
        source.open(encoding="utf-8") as lines,
        target.open("w", encoding="utf-8") as out,
    ):
        for line in lines:
            if line.isspace() and document:
                out.write("\n".join(document) + "\n\n")
                document = []
                if out.tell() >= num_bytes:
                    return
            document += split_sentences(line)
        out.write("\n".join(document) + "\n")


def run(side: str, text: Path, output: Path, arguments: argparse.Namespace) -> Outcome:
    """One side's preparation in a process of its own.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    command = [sys.executable, "-m", f"benchmarks.pretraining.{side}_prepare"]
    command += [str(text), str(arguments.vocabulary), str(output)]
    command += [str(arguments.max_length)]
    if side == "peer":
        command.append(str(arguments.peer))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} failed: {done.stderr[-2000:]}")
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def are_alike(one: Outcome, other: Outcome) -> bool:
    """Whether both sides' examples are of the same kind."""
    alike = True
    for name in ("num_examples", "mean_length", "random_next_share"):
        a, b = getattr(one, name), getattr(other, name)
        if abs(a - b) > TOLERANCE * max(a, b):
            print(f"{name}: kbert {a:.4g}, peer {b:.4g}: not alike")
            alike = False
    return alike


if __name__ == "__main__":
    sys.exit(main())
