"""The rate of large matrix products: the most that a model can make of a machine.

It is measured in the process that runs the model, in the type that it computes in.
"""

from dataclasses import dataclass

from kbert.training.matmul_rate import matmul_rates

# A product that is over sooner measures how it is started, above all on a GPU.
_LEAST_SECONDS = 0.01
_SMALLEST, _LARGEST = 1024, 16384


@dataclass(frozen=True)
class Peak:
    """The rate of a large square product.

    Attributes:
        dtype: as Keras names it.
        size: rows and columns of both factors.
        before: operations a second, just before the steps that count.
        after: the same, just after them.
    """

    dtype: str
    size: int
    before: float
    after: float

    @property
    def rate(self) -> float:
        """The larger of the two: what the machine does where nothing disturbs it."""
        return max(self.before, self.after)


def large_size(dtype: str) -> int:
    """The size of a square product that takes this machine long enough to be timed."""
    size = _SMALLEST
    while size < _LARGEST:
        rate = matmul_rates([dtype], size=size, rounds=1)[dtype]
        if 2 * size**3 / rate >= _LEAST_SECONDS:
            break
        size *= 2
    return size


def product_rate(dtype: str, size: int) -> float:
    """Operations a second of a square product, the median of several."""
    return matmul_rates([dtype], size=size)[dtype]
