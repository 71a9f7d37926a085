"""kbert's side of prepare.py: TEXT VOCABULARY OUTPUT MAX_LENGTH."""

import sys
from pathlib import Path

from benchmarks.pretraining.prepared_by import measure
from kbert.data.corpus import open_corpus
from kbert.data.prepared import PreparedExamples, open_prepared
from kbert.data.preparing import Plan, prepare
from kbert.data.pretraining_examples import ExampleRecipe, Examples
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import read_vocabulary


def main() -> int:
    text, vocabulary, output = map(Path, sys.argv[1:4])
    max_length = int(sys.argv[4])

    def run() -> None:
        tokenizer = WordPieceTokenizer(
            read_vocabulary(vocabulary), lowercase=True, strip_accents=True
        )
        recipe = ExampleRecipe(
            max_length=max_length,
            next_sentence=True,
            short_rate=0.1,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
        )
        plan = Plan(
            recipes=[recipe],
            seed=0,
            keep=lambda *document: True,
            validation=lambda recipe: Examples.concatenate([]),
            choices={},
        )
        prepare(open_corpus([str(text)]), tokenizer, output, plan)

    def count() -> tuple[int, int, int]:
        source = PreparedExamples(open_prepared(output), max_length, seed=0)
        blocks = list(source.blocks(0))
        return (
            sum(map(len, blocks)),
            sum(int(block.lengths.sum()) for block in blocks),
            sum(int(block.next_sentence_labels.sum()) for block in blocks),
        )

    measure(run, count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
