"""Numbers with units: read from text at the door, written as text at the edge, plain SI numbers in between.

Inside the package durations are seconds, sizes are bytes and rates are per second, and the unit is in the name.
This is the only module that knows a millisecond or a gibibyte.
"""

from __future__ import annotations

import math
import re

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
COUNTS = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}

_QUANTITY = re.compile(r"^([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s]*)$")


def _quantity(value: object, units: dict[str, float] | dict[str, int], kind: str, example: str) -> float:
    """`value` as a number in the base unit of `units`; text may carry one of the units."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be {kind}, a number or text such as {example}")
    if isinstance(value, str):
        match = _QUANTITY.match(value.strip())
        if match is None or (match[2] and match[2] not in units):
            raise ValueError(f"must be {kind}, a number or text such as {example} (units: {', '.join(units)})")
        value = float(match[1]) * (units[match[2]] if match[2] else 1)
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"must be {kind} and finite")
    return value


def parse_seconds(value: object) -> float:
    """Seconds from a number (already seconds) or text with a unit.

    >>> parse_seconds("50ms"), parse_seconds(2), parse_seconds("1.5 h")
    (0.05, 2, 5400.0)
    """
    return _quantity(value, SECONDS, "a duration", '"50ms"')


def parse_bytes(value: object) -> float:
    """Bytes from a number or text with a unit; decimal and binary units are different things.

    >>> parse_bytes("16GiB"), parse_bytes("16GB")
    (17179869184.0, 16000000000.0)
    """
    return _quantity(value, BYTES, "a size in bytes", '"16GiB"')


def parse_bytes_per_s(value: object) -> float:
    """Bytes per second from a number or text.

    >>> parse_bytes_per_s("25GB/s")
    25000000000.0
    """
    return parse_bytes(value.strip().removesuffix("/s") if isinstance(value, str) else value)


def parse_per_s(value: object) -> float:
    """Events per second from a number or text such as "90/min".

    >>> parse_per_s("90/min"), parse_per_s(2.5)
    (1.5, 2.5)
    """
    if isinstance(value, str) and "/" in value:
        amount, _, unit = value.partition("/")
        if unit.strip() not in SECONDS:
            raise ValueError(
                f'must be a rate, a number per second or text such as "90/min" (units: {", ".join(SECONDS)})'
            )
        return _quantity(amount, COUNTS, "a rate", '"90/min"') / SECONDS[unit.strip()]
    return _quantity(value, COUNTS, "a rate", '"90/min"')


def parse_count(value: object) -> int:
    """A whole number from a number or text such as "100k" or "1e6".

    >>> parse_count("1e6"), parse_count("100k")
    (1000000, 100000)
    """
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    number = _quantity(value, COUNTS, "a whole number", '"100k"')
    if number != int(number):
        raise ValueError("must be a whole number")
    return int(number)


def parse_number(value: object) -> float:
    """A plain number; text is accepted where YAML readers leave one behind, as with 1e3.

    >>> parse_number("1e3")
    1000.0
    """
    return _quantity(value, {}, "a number", '"0.5"')


def format_seconds(seconds: float | None, digits: int = 3) -> str:
    """A duration as people read it, to `digits` significant digits.

    >>> format_seconds(0.0123), format_seconds(75), format_seconds(None)
    ('12.3 ms', '75.0 s', '-')
    """
    if seconds is None or math.isnan(seconds):
        return "-"
    rounded = abs(_rounded(seconds, digits))
    unit = "s" if rounded >= 1 or rounded == 0 else "ms" if rounded >= SECONDS["ms"] else "µs"
    return f"{_written(seconds / SECONDS[unit], digits)} {unit}"


def format_number(value: float | None, digits: int = 3) -> str:
    """A number as people read it, to `digits` significant digits, whole numbers kept whole.

    >>> format_number(0.12345), format_number(12345.6), format_number(None)
    ('0.123', '12,346', '-')
    """
    return "-" if value is None or math.isnan(value) else _written(value, digits)


def milliseconds(seconds: float) -> float:
    """Seconds as the milliseconds some published file formats want."""
    return seconds * 1e3


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _written(value: float, digits: int) -> str:
    rounded = _rounded(value, digits)
    if rounded == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{value:,.{max(decimals, 0)}f}"
