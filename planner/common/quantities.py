"""Numbers as people write them: 100B tokens, 4k of context, 14d, 400Gb/s, 80GiB. A number whose unit is open is refused."""

from __future__ import annotations

import math
import re

from planner.common.errors import PlannerError
from planner.common.message import Message

CHINESE = {
    small + large: number * times
    for small, number in {"": 1.0, "十": 10.0, "百": 100.0, "千": 1000.0}.items()
    for large, times in {"": 1.0, "万": 1e4, "亿": 1e8, "万亿": 1e12}.items()
    if small + large
}
"""十, 百, 千, 万, 十万 ... 千万亿."""
COUNTS = {
    "": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "mn": 1e6, "bn": 1e9, "tn": 1e12,
    "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, **CHINESE,
}  # fmt: skip
LENGTHS = {"": 1.0, "k": 1024.0, "m": 1024.0**2, **{word: CHINESE[word] for word in ("百", "千", "万", "十万", "百万")}}
"""A context of 4k is 4,096 tokens, one of 4千 is 4,000."""
RUN_LENGTHS = ("num_tokens", "num_samples", "num_steps")
"""Fields of [job] of which one says how long an epoch is; num_epochs says how many there are."""
SECONDS = {
    "ms": 1e-3,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分钟"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "小时"), 3600.0),
    **dict.fromkeys(("d", "day", "days", "天", "日"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks", "周"), 7 * 86400.0),
}
PREFIXES = {
    "": 1.0,
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
RATE = re.compile(r"([kKMGT]i?)?(B|b|bit|bits)(/s|ps)")
LENGTH_FIELDS = ("seq_len", "context_length", "max_positions", "prompt", "output")
"""Fields in tokens of one sequence, where k is 1,024."""


NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+"
"""Digits; a comma parts thousands and nothing else, so that 1,99 is no number."""


def _number(digits: str) -> float:
    return float(digits.replace(",", "").replace("_", ""))


def _unread(text: str, what: str, right: Message) -> PlannerError:
    return PlannerError("{0} = {1!r}: {2}.", what, text, right, code="quantity", field=what, value=text, remedy=right)


def _split(text: str, what: str, right: Message) -> tuple[float, str]:
    match = re.fullmatch(rf"\s*({NUMBER})\s*([^\W\d_]*(?:/[A-Za-z]+)?)\s*", text)
    number = _number(match[1]) if match else math.nan
    if match is None or not math.isfinite(number):
        raise _unread(text, what, right)
    return number, match[2]


def _whole(number: float, text: str, what: str, right: Message) -> int:
    if abs(number - round(number)) > 1e-9 * max(number, 1.0):
        raise _unread(text, what, right)
    return round(number)


def count(text: str, what: str) -> int:
    """A whole number: 100B, 1.5e9, 10_000, 300k, 1 billion, 1bn, 10亿, 3百亿.

    >>> count("100B", "tokens"), count("1.5e9", "tokens"), count("10,000", "samples"), count("10亿", "tokens")
    (100000000000, 1500000000, 10000, 1000000000)
    """
    right = Message("must be a positive whole number such as 1000, 300k, 1e9 or 100B")
    number, unit = _split(text, what, right)
    if unit.lower() not in COUNTS:
        raise _unread(text, what, right)
    return _whole(number * COUNTS[unit.lower()], text, what, right)


def times(text: str, what: str) -> float:
    """How often: 3, 0.5, 3x.

    >>> times("3", "--epochs"), times("1.5", "--epochs"), times("3x", "--epochs")
    (3.0, 1.5, 3.0)
    """
    right = Message("must be a number above 0 such as 3 or 0.5")
    number, unit = _split(text, what, right)
    if unit.lower() not in ("", "x") or number <= 0:
        raise _unread(text, what, right)
    return number


def length(text: str, what: str) -> int:
    """Tokens of one sequence; k is 1,024, 千 is 1,000.

    >>> length("4k", "seq_len"), length("128K", "seq_len"), length("2000", "seq_len"), length("8千", "seq_len")
    (4096, 131072, 2000, 8000)
    """
    right = Message("must be a number of tokens such as 2048, 4k (4,096) or 128k (131,072)")
    number, unit = _split(text, what, right)
    if unit.lower() not in LENGTHS:
        raise _unread(text, what, right)
    return _whole(number * LENGTHS[unit.lower()], text, what, right)


def duration_s(text: str, what: str) -> float:
    """Seconds of a time with its unit: 14d, 36h, "2 weeks"; a bare number could be any of them and is refused.

    >>> duration_s("1.5d", "--deadline"), duration_s("2 weeks", "--deadline")
    (129600.0, 1209600.0)
    """
    right = Message("must be a number with its unit, such as 14d, 36h, 90m, 600s or '2 weeks'")
    number, unit = _split(text, what, right)
    if unit.lower() not in SECONDS or number <= 0:
        raise _unread(text, what, right)
    return number * SECONDS[unit.lower()]


def seconds(text: str, what: str) -> float:
    """Seconds of a latency: 0.1, 50ms, 2s.

    >>> seconds("0.1", "--tpot"), seconds("50ms", "--tpot")
    (0.1, 0.05)
    """
    right = Message("must be a time in seconds or with its unit, such as 0.1, 50ms or 2s")
    number, unit = _split(text, what, right)
    if unit and unit.lower() not in SECONDS:
        raise _unread(text, what, right)
    return number * SECONDS.get(unit.lower(), 1.0)


def dollars(text: str, what: str) -> float:
    """US dollars: 500, $1,200, 10k.

    >>> dollars("$1,200", "--budget-usd"), dollars("10k", "--budget-usd"), dollars("2.5", "--rent")
    (1200.0, 10000.0, 2.5)
    """
    right = Message("must be a number of US dollars such as 500, 1,200 or 10k")
    number, unit = _split(text.strip().lstrip("$"), what, right)
    if unit.lower() not in COUNTS:
        raise _unread(text, what, right)
    return number * COUNTS[unit.lower()]


def share(text: str, what: str) -> float:
    """A part of a whole: 0.7, 70%. Its range is the field's.

    >>> share("0.7", "--use"), share("70%", "--use"), share("2.5 %", "--risk")
    (0.7, 0.7, 0.025)
    """
    right = Message("must be a part of 1 such as 0.7, or 70%")
    match = re.fullmatch(rf"\s*(-?(?:{NUMBER}))\s*(%?)\s*", text)
    number = float(match[1].replace(",", "").replace("_", "")) if match else math.nan
    if match is None or not math.isfinite(number):
        raise _unread(text, what, right)
    return number / 100.0 if match[2] else number


def rate_per_s(text: str, what: str) -> float:
    """Requests per second: 5, 5/s, 300/min, 1k/h, 2M/day.

    >>> rate_per_s("5", "--rate"), rate_per_s("300/min", "--rate"), rate_per_s("86.4k/day", "--rate")
    (5.0, 5.0, 1.0)
    """
    right = Message("must be requests per second such as 5, or with their unit, such as 300/min or 1M/day")
    match = re.fullmatch(rf"\s*({NUMBER})\s*([^\W\d_]*?)\s*(?:(?:/|per )\s*([^\W\d_]+)|(rps|qps))?\s*", text, re.IGNORECASE)
    number = _number(match[1]) if match else math.nan
    if match is None or not math.isfinite(number) or match[2].lower() not in COUNTS:
        raise _unread(text, what, right)
    if match[3] and match[3].lower() not in SECONDS:
        raise _unread(text, what, right)
    return number * COUNTS[match[2].lower()] / (SECONDS[match[3].lower()] if match[3] else 1.0)


def size_bytes(text: str, what: str) -> float:
    """Bytes: 80GiB (2**30), 80GB (10**9), 512 (bytes).

    >>> size_bytes("80GiB", "memory") == 80 * 2**30, size_bytes("16 GB", "memory")
    (True, 16000000000.0)
    """
    right = Message("must be a number of bytes such as 80GiB, 80GB or 8.6e10")
    number, unit = _split(text, what, right)
    prefix = unit.removesuffix("B") if unit else ""
    if unit and (not unit.endswith("B") or prefix not in PREFIXES):
        raise _unread(text, what, right)
    return number * PREFIXES[prefix]


def rate_bytes_per_s(text: str, what: str) -> float:
    """Bytes per second: 400Gb/s (bits: 5e10), 50GB/s (bytes), 5e10.

    >>> rate_bytes_per_s("400Gb/s", "network"), rate_bytes_per_s("50GB/s", "network"), rate_bytes_per_s("400 Gbit/s", "network")
    (50000000000.0, 50000000000.0, 50000000000.0)
    """
    right = Message("must be a rate such as 400Gb/s (bits), 50GB/s (bytes) or 5e10 (bytes per second)")
    number, unit = _split(text, what, right)
    match = RATE.fullmatch(unit)
    if unit and match is None:
        raise _unread(text, what, right)
    return number * (PREFIXES[match[1] or ""] / (1.0 if match[2] == "B" else 8.0) if match else 1.0)


def gbit_per_s(text: str, what: str) -> float:
    """Gigabits per second: 400Gb/s, 50GB/s; a bare number is of gigabits."""
    right = Message("must be a rate such as 400Gb/s (bits), 50GB/s (bytes) or 400 (Gbit/s)")
    number, unit = _split(text, what, right)
    if not unit:
        return number
    if not RATE.fullmatch(unit):
        raise _unread(text, what, right)
    return rate_bytes_per_s(text, what) * 8e-9


def value_of(field: str, text: str) -> bool | int | float | str:
    """The value of a field written on the command line: by its name a length, bytes, a rate, seconds, a count; else text.

    >>> value_of("job.seq_len", "4k"), value_of("job.num_tokens", "100B"), value_of("job.precision", "fp16")
    (4096, 100000000000, 'fp16')
    >>> value_of("layout.sequence_parallel", "true"), value_of("price.usd_per_gpu_hour", "2.1")
    (True, 2.1)
    >>> value_of("cluster.network_gbit_per_s", "50GB/s"), value_of("cluster.network_gbit_per_s", "400")
    (400.0, 400)
    >>> value_of("cost.own.rent_change_per_year", "-0.2"), value_of("run.spare_nodes", "-1")
    (-0.2, -1)
    """
    text, name = text.strip(), field.rpartition(".")[2]
    if text in ("true", "false"):
        return text == "true"
    if not re.match(r"[+-]?[0-9.]", text):
        return text
    if name in LENGTH_FIELDS:
        return length(text, field)
    if name.endswith("_bytes_per_s") or name == "bytes_per_s":
        return rate_bytes_per_s(text, field)
    if name.endswith("_bytes"):
        return size_bytes(text, field)
    if name.endswith("_gbit_per_s") and not text.replace(".", "", 1).isdecimal():
        return gbit_per_s(text, field)
    if name.endswith("_s") and not name.endswith("_per_s") and re.search(r"[^\W\d_]$", text):
        return duration_s(text, field)
    match = re.fullmatch(rf"([+-]?)({NUMBER})\s*([^\W\d_]*)", text)
    if match is None or match[3].lower() not in COUNTS:
        return text
    number = float(f"{match[1]}1") * _number(match[2]) * COUNTS[match[3].lower()]
    if not math.isfinite(number):
        raise PlannerError(
            "{0} = {1!r}: is too large for a quantity; use a smaller number.",
            field,
            text,
            code="quantity",
            field=field,
            value=text,
        )
    return int(number) if number.is_integer() else number
