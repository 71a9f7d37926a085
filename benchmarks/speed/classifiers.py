"""What all sides of step.py train: shapes of a text classifier, and made-up batches.

NumPy alone, so that it runs in the peer's environment too.

Axes: B batch, T tokens, L layers, D hidden, F feed-forward.
"""

from typing import NamedTuple

from benchmarks.pretraining.batches import Batch, Shape, make_batch

NUM_CLASSES, NUM_BATCHES = 2, 4
DROPOUT, WEIGHT_DECAY, CLIP_NORM, LEARNING_RATE = 0.1, 0.01, 1.0, 5e-5
SIX_LAYERS, BASE = Shape(6, 384, 12, 1536), Shape(12, 768, 12, 3072)


class Case(NamedTuple):
    """A shape of a model and of its batches, and what is promised of it.

    Attributes:
        ratio: to Hugging Face in bfloat16.
        share: of the rate of matrix products; None: as measured.
        steps: of a segment; they take some ten seconds.
    """

    shape: Shape
    batch_size: int
    length: int
    steps: int
    ratio: float
    share: float | None

    @property
    def flops(self) -> float:
        """Floating-point operations of the products of a training step.

        Those of the backward pass are twice the forward's; embeddings and the head
        are not counted.
        """
        return 3.0 * self.shape[0] * self._layer_flops(self.length, self.length)

    @property
    def kbert_flops(self) -> float:
        """Those that kbert makes: of the last layer it leaves out what nobody reads."""
        layers = self.shape[0]
        full = (layers - 1) * self._layer_flops(self.length, self.length)
        return 3.0 * (full + self._layer_flops(self.length, 1))

    def _layer_flops(self, num_tokens: int, num_wanted: int) -> float:
        """Of a layer's forward pass, which gives some of a row's tokens."""
        _, hidden, _, inner = self.shape
        key_value = 4 * num_tokens * hidden * hidden
        dense = 2 * num_wanted * (2 * hidden * hidden + 2 * hidden * inner)
        attention = 4 * num_wanted * num_tokens * hidden
        return float(self.batch_size * (key_value + dense + attention))


CASES = {
    "6x384_32x128": Case(SIX_LAYERS, 32, 128, steps=8, ratio=1.8, share=0.55),
    "6x384_16x512": Case(SIX_LAYERS, 16, 512, steps=4, ratio=1.8, share=None),
    "base_16x128": Case(BASE, 16, 128, steps=3, ratio=1.7, share=0.65),
}
# What gpu.py takes, and in place of it where there is no GPU.
GPU_CASE = Case(BASE, 32, 512, steps=20, ratio=1.0, share=None)
CPU_CASE = GPU_CASE._replace(batch_size=2, length=32, steps=1)
# What --quick takes in place of each: tiny, of the same proportions.
QUICK = {name: case._replace(batch_size=2, steps=1) for name, case in CASES.items()}


def make_batches(case: Case, *, padding: bool = False) -> list[Batch]:
    """The batches, over which all sides go in a circle.

    Args:
        padding: rows of many lengths; else all are full.

    Returns:
        See `make_batch`, whose `next_sentence_labels` are the classes here.
    """
    return [
        make_batch(
            seed,
            batch_size=case.batch_size,
            length=case.length,
            num_slots=1,
            padding=padding,
        )
        for seed in range(NUM_BATCHES)
    ]
