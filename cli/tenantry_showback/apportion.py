"""Dividing an amount without losing or inventing any of it."""

from collections.abc import Sequence


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` divided in proportion to ``weights``: whole units that add up to ``total`` exactly.

    The largest-remainder method (Hamilton's): everybody gets the whole part of their share, and what is left goes one
    unit each to those who lost most by the rounding, the earlier first. No share is a unit or more off.

    Raises:
        ValueError: a negative amount or weight, or something to divide among nobody.
    """
    if total < 0 or any(weight < 0 for weight in weights):
        raise ValueError("amounts and weights are never negative")
    whole = sum(weights)
    if not whole:
        if total:
            raise ValueError(f"{total} to divide, and nobody to give it to")
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    lost = [total * weight % whole for weight in weights]
    by_loss = sorted(range(len(weights)), key=lambda at: (-lost[at], at))
    for at in by_loss[: total - sum(shares)]:
        shares[at] += 1
    return shares
