"""The units that users write, as integers: US dollars to nano-USD, Go durations to seconds, quantities to milli-units.

Pure parsing and printing; each raises ``ValueError`` with a message that says what a right value looks like.
"""

import re
from functools import lru_cache

NANO_PER_USD = 1_000_000_000

#: Nine decimals at most, without sign or exponent, and below nine million dollars: nano-USD then stay below 2^53, up to
#: which JSON and Redis count without losing any.
USD_PATTERN = r"(0|[1-9][0-9]{0,5}|[1-8][0-9]{6})(\.[0-9]{1,9})?"
USD_REMEDY = 'must be US dollars below 9000000, as a plain decimal string without a sign, for example "25" or "12.50"'

#: The subset of Go's duration syntax (https://pkg.go.dev/time#ParseDuration) in whole units, largest first.
DURATION_PATTERN = r"([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?"
DURATION_REMEDY = 'must be a duration in hours, minutes and seconds, for example "24h", "90m" or "1h30m"'

#: What Kubernetes accepts as a quantity, without sign and exponent:
#: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
QUANTITY_PATTERN = r"[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?"
QUANTITY_REMEDY = 'must be a Kubernetes quantity, for example "250m" for CPU or "128Mi" for memory'

#: What one pod may ask for, both ends included. A process with our dependencies does not start in less memory; the most
#: is beyond any node, and a quota of 2,501 such pods still fits the 64-bit integers of the chart's arithmetic.
CPU_RANGE = ("1m", "1000")
MEMORY_RANGE = ("16Mi", "1Ti")

#: What a tenant may set as the greatest body, both ends included: one that is read whole into memory first (a pod holds
#: 200 MiB of them at once), and one that passes through.
BODY_RANGE = ("1Ki", "128Mi")
UPLOAD_RANGE = ("1Ki", "1Ti")
#: What each process of a tenant may keep of answers: more is beyond its memory, and less holds none.
KEPT_RANGE = ("64Ki", "1Gi")

RATE_REMEDY = 'must be US dollars per million tokens, below 9000000, as a plain decimal string, for example "2.50"'

_SUFFIX_MILLI = {
    "": 1_000,
    "m": 1,
    "k": 10**6,
    "M": 10**9,
    "G": 10**12,
    "T": 10**15,
    "Ki": 1_000 * 2**10,
    "Mi": 1_000 * 2**20,
    "Gi": 1_000 * 2**30,
    "Ti": 1_000 * 2**40,
}

_DECIMAL = ("T", "G", "M", "k", "", "m")
_BINARY = ("Ti", "Gi", "Mi", "Ki", "")


def parse_usd(amount: str) -> int:
    """US dollars as a decimal string to integer nano-USD, exactly: ``"12.50"`` is 12_500_000_000."""
    if re.fullmatch(USD_PATTERN, amount) is None:
        raise ValueError(f"{amount!r} {USD_REMEDY}")
    whole, _, fraction = amount.partition(".")
    return int(whole) * NANO_PER_USD + int(fraction.ljust(9, "0") or "0")


def format_usd(nano_usd: int) -> str:
    """Integer nano-USD to the shortest decimal string with at least cents: 12_500_000_000 is ``"12.50"``."""
    whole, fraction = divmod(abs(nano_usd), NANO_PER_USD)
    decimals = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano_usd < 0 else ''}{whole}.{decimals}"


def parse_duration(duration: str) -> int:
    """A duration such as ``1h30m`` to seconds."""
    match = re.fullmatch(DURATION_PATTERN, duration)
    if match is None or not duration:
        raise ValueError(f"{duration!r} {DURATION_REMEDY}")
    hours, minutes, seconds = (int(group[:-1]) if group else 0 for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds


@lru_cache(maxsize=1024)  # the same few for every tenant
def parse_quantity(quantity: str | int) -> int:
    """A Kubernetes quantity to thousandths of its base unit, rounded up: ``"250m"`` is 250, ``1`` is 1_000."""
    if isinstance(quantity, int) and quantity >= 0:
        return quantity * 1_000
    match = re.fullmatch(QUANTITY_PATTERN, str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} {QUANTITY_REMEDY}")
    suffix = match.group(2) or ""
    whole, _, fraction = str(quantity).removesuffix(suffix).partition(".")
    thousandths = int(whole) * 1_000 + int(fraction.ljust(3, "0") or "0")
    return -(-thousandths * _SUFFIX_MILLI[suffix] // 1_000)


@lru_cache(maxsize=1024)
def canonical_quantity(quantity: str | int) -> str:
    """The same quantity as the API server spells it, so that what is stored equals what was applied: 1000m is 1.

    The largest unit without a fraction, in the base (1000 or 1024) that the quantity is given in.
    """
    milli = parse_quantity(quantity)
    binary = str(quantity).endswith("i") and milli >= _SUFFIX_MILLI["Ki"]
    if milli == 0:
        return "0"
    for suffix in _BINARY if binary else _DECIMAL:
        if milli % _SUFFIX_MILLI[suffix] == 0:
            return f"{milli // _SUFFIX_MILLI[suffix]}{suffix}"
    return f"{milli}m"
