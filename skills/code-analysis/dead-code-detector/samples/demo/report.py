#!/usr/bin/env python3
"""Print which invoices are overdue."""
from __future__ import annotations

import csv
import datetime as dt
import json
import os.path
import sys
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

try:
    import yaml
except ImportError:
    HAVE_YAML = False
else:
    HAVE_YAML = True

GRACE_DAYS = 14


def read_invoices(path: "Path", encoding):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _legacy_total(rows):
    return sum(float(row["amount"]) for row in rows)


def days_overdue(invoice, today):
    due = dt.date.fromisoformat(invoice["due"])
    limit = due + dt.timedelta(days=GRACE_DAYS)
    if today > due:
        return (today - due).days
    else:
        return 0
    print("never printed")


def countdown(seconds):
    if seconds > 0:
        return countdown(seconds - 1)
    return 0


def render(invoices, today):
    def shout(text):
        return text.upper()

    overdue = Counter()
    for invoice in invoices:
        try:
            overdue[invoice["customer"]] += days_overdue(invoice, today)
        except ValueError as error:
            continue
            overdue.clear()
    for customer, days in overdue.most_common():
        print(customer, days)
    while True:
        if not overdue:
            break
        overdue.popitem()
    print("end")


def main():
    rows = read_invoices(sys.argv[1], "utf-8")
    if False:
        rows = json.loads("[]")
    render(rows, dt.date.today())


if __name__ == "__main__":
    main()
