"""How long answers are where the request does not say: learned from those that came before. Pure.

Only the token estimate may be lowered by it, never the money: what is used beyond it becomes debt.
"""

#: Answers that have to be seen before anything is concluded, and after which the older half counts half.
_FEWEST = 64
_REMEMBERED = 1024
#: How often the figure is reckoned anew.
_EVERY = 32


class Learned:
    """Output tokens of one model's answers for one tenant. ``most`` is a length that 95 of 100 do not exceed, rounded
    up by half at most; 0 as long as it is not known."""

    __slots__ = ("_counts", "_seen", "most")

    def __init__(self) -> None:
        # Two buckets for each power of two.
        self._counts = [0] * 130
        self._seen = 0
        self.most = 0

    def observe(self, tokens: int) -> None:
        """An answer had that many."""
        self._counts[min(_bucket(tokens), 129)] += 1
        self._seen += 1
        if self._seen % _EVERY == 0 and self._seen >= _FEWEST:
            self._reckon()

    def _reckon(self) -> None:
        if self._seen >= _REMEMBERED:
            self._counts = [count // 2 for count in self._counts]
        total, below = sum(self._counts), 0
        if self._seen >= _REMEMBERED:
            self._seen = total - total % _EVERY
        for bucket, count in enumerate(self._counts):
            below += count
            if below * 100 >= total * 95:
                self.most = _largest(bucket)
                return


def _bucket(tokens: int) -> int:
    bits = tokens.bit_length()
    return 2 * bits + (tokens >> (bits - 2) & 1) if bits > 1 else bits


def _largest(bucket: int) -> int:
    """The largest number of a bucket."""
    if bucket < 4:
        return 1
    bits, upper = divmod(bucket, 2)
    return (1 << bits) - 1 if upper else (3 << (bits - 2)) - 1
