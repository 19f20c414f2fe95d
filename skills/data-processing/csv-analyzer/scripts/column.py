"""One column of a table: what its values are and how they are distributed.

Values are counted in a dictionary until DISTINCT_LIMIT different ones were
seen. From there on memory stays bounded: the number of different values is
estimated from the SKETCH_SIZE smallest 64-bit hashes (k minimum values), and
only values that were already in the dictionary keep being counted. Numbers
are kept in eight bytes each, because exact quartiles need all of them.
"""

import hashlib
import heapq
import math
import re
from array import array
from datetime import date

DISTINCT_LIMIT = 65536
SKETCH_SIZE = 4096
LONGEST_KEY = 200

MISSING = frozenset(["", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "-", "--", "?"])
BOOLEANS = frozenset(["true", "false", "yes", "no", "y", "n"])

# More than 15 digits do not fit a float exactly, and a leading zero marks a
# code such as a postcode: both stay text.
INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,14})\Z")
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\Z")
GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?\Z")
LONG_INTEGER = re.compile(r"[+-]?[0-9]{16,}\Z")
YEAR_FIRST = re.compile(
    r"([0-9]{4})([-/])([0-9]{1,2})\2([0-9]{1,2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?)\s?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?\Z"
)
DAY_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})\Z")
SLASHED = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})\Z")


def is_missing(value):
    return value.strip().lower() in MISSING


def iso(year, month, day):
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None


def parse_number(value, decimal):
    """Return (kind, number), or None when the value is not a number."""
    if decimal == ",":
        if GROUPED.match(value.replace(".", "\0").replace(",", ".").replace("\0", ",")):
            value = value.replace(".", "")
        elif "." in value:
            return None
        value = value.replace(",", ".")
    elif GROUPED.match(value):
        value = value.replace(",", "")
    if INTEGER.match(value):
        return "integer", float(value)
    if NUMBER.match(value) and not LONG_INTEGER.match(value):
        number = float(value)
        if math.isfinite(number):
            return "number", number
    return None


def parse_date(value):
    """Return the (day-first, month-first) readings of a date; both are equal unless it is D/M or M/D."""
    match = YEAR_FIRST.match(value)
    if match:
        year, _, month, day, time = match.groups()
        key = iso(year, month, day)
        if key and time and not ("00:00" <= time[:5] <= "24:00" and time[3:5] < "60"):
            return None
        key = key and (key + " " + time if time else key)
        return (key, key) if key else None
    match = DAY_FIRST.match(value)
    if match:
        day, month, year = match.groups()
        key = iso(year, month, day)
        return (key, key) if key else None
    match = SLASHED.match(value)
    if match:
        one, two, year = match.groups()
        readings = iso(year, two, one), iso(year, one, two)
        return readings if any(readings) else None
    return None


def classify(value, decimal):
    """Return the kind of a stripped, present value and its parsed form."""
    lead = value[:1]
    if lead and lead in "+-.0123456789":
        number = parse_number(value, decimal)
        if number:
            return number
        readings = parse_date(value)
        if readings:
            return "date", readings
    if value.lower() in BOOLEANS:
        return "boolean", value.lower()
    return "text", value


def quantile(ordered, numerator, denominator):
    """Interpolate linearly between the closest ranks (type 7 of Hyndman and Fan)."""
    whole, part = divmod((len(ordered) - 1) * numerator, denominator)
    low = ordered[whole]
    if part == 0:
        return low
    high, weight = ordered[whole + 1], part / denominator
    if math.isinf(high - low):
        return low * (1 - weight) + high * weight
    return low + (high - low) * weight


def mean(values):
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


class Sketch:
    """Estimate a number of different values from the smallest hashes."""

    def __init__(self):
        self.heap = []
        self.members = set()

    def add(self, value):
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big")
        if number in self.members:
            return
        if len(self.heap) < SKETCH_SIZE:
            self.members.add(number)
            heapq.heappush(self.heap, -number)
        elif number < -self.heap[0]:
            self.members.add(number)
            self.members.discard(-heapq.heapreplace(self.heap, -number))

    def estimate(self):
        if len(self.heap) < SKETCH_SIZE:
            return len(self.heap)
        return int((SKETCH_SIZE - 1) * 2**64 // -self.heap[0])


class Column:
    def __init__(self, name, decimal):
        self.name = name
        self.decimal = decimal
        self.counts = {}
        self.sketch = None
        self.missing = 0
        self.kinds = {}
        self.numbers = array("d")
        self.dates = [[None, None], [None, None]]
        self.unreadable = [0, 0]

    def add(self, value):
        counts = self.counts
        if value in counts:
            counts[value] += 1
            if self.sketch is not None:
                self.measure(value, 1)
        elif self.sketch is not None:
            self.overflow(value)
        elif len(counts) < DISTINCT_LIMIT and len(value) <= LONGEST_KEY:
            counts[value] = 1
        else:
            self.insert_slowly(value)

    def insert_slowly(self, value):
        key = self.key(value)
        if key in self.counts:
            self.counts[key] += 1
        elif len(self.counts) < DISTINCT_LIMIT:
            self.counts[key] = 1
        else:
            self.sketch = Sketch()
            for known, count in self.counts.items():
                self.measure(known, count)
            self.overflow(value)

    def overflow(self, value):
        key = self.key(value)
        if key in self.counts:
            self.counts[key] += 1
        self.measure(key, 1)

    @staticmethod
    def key(value):
        if len(value) <= LONGEST_KEY:
            return value
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return "{}… [{} characters, {}]".format(value[:40], len(value), digest)

    def measure(self, value, count):
        value = value.strip()
        if value.lower() in MISSING:
            self.missing += count
            return
        if self.sketch is not None:
            self.sketch.add(value)
        kind, parsed = classify(value, self.decimal)
        self.kinds[kind] = self.kinds.get(kind, 0) + count
        if kind in ("integer", "number"):
            self.numbers.extend(array("d", [parsed]) * count)
        elif kind == "date":
            for reading, bounds in enumerate(self.dates):
                self.widen(bounds, reading, parsed[reading], count)

    def widen(self, bounds, reading, key, count):
        if key is None:
            self.unreadable[reading] += count
            return
        if bounds[0] is None or key < bounds[0]:
            bounds[0] = key
        if bounds[1] is None or key > bounds[1]:
            bounds[1] = key

    def kind(self):
        kinds = set(self.kinds)
        if not kinds:
            return "empty"
        if len(kinds) == 1:
            return kinds.pop()
        return "number" if kinds == {"integer", "number"} else "text"

    def present(self, kind):
        """Return how often each present value occurs, without surrounding blanks; booleans in lower case."""
        merged = {}
        for value, count in self.counts.items():
            stripped = value.strip().lower() if kind == "boolean" else value.strip()
            if stripped.lower() not in MISSING:
                merged[stripped] = merged.get(stripped, 0) + count
        return merged

    def summary(self, top):
        exact = self.sketch is None
        if exact:
            for value, count in self.counts.items():
                self.measure(value, count)
        kind = self.kind()
        present = self.present(kind)
        result = {
            "name": self.name,
            "type": kind,
            "count": sum(self.kinds.values()),
            "missing": self.missing,
            "distinct": len(present) if exact else self.sketch.estimate(),
            "distinct_exact": exact,
        }
        if len(self.kinds) > 1 and kind == "text":
            result["mixed"] = dict(sorted(self.kinds.items()))
        if kind in ("integer", "number"):
            result["numbers"] = self.number_summary(kind)
        elif kind == "date":
            result["dates"] = self.date_summary()
        elif kind in ("text", "boolean"):
            ranked = sorted(present.items(), key=lambda item: (-item[1], item[0]))
            result["most_frequent"] = [{"value": value, "count": count} for value, count in ranked[:top]]
        return result

    def number_summary(self, kind):
        ordered = sorted(self.numbers)
        as_value = int if kind == "integer" else float
        return {
            "min": as_value(ordered[0]),
            "q1": quantile(ordered, 1, 4),
            "median": quantile(ordered, 1, 2),
            "q3": quantile(ordered, 3, 4),
            "max": as_value(ordered[-1]),
            "mean": mean(ordered),
        }

    def date_summary(self):
        day_first, month_first = self.dates
        if day_first == month_first and not any(self.unreadable):
            return {"earliest": day_first[0], "latest": day_first[1]}
        readable = [index for index in (0, 1) if not self.unreadable[index]]
        if len(readable) == 1:
            bounds = self.dates[readable[0]]
            return {"earliest": bounds[0], "latest": bounds[1]}
        return {"earliest": None, "latest": None}
