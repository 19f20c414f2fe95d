"""Render an analysis as Markdown or JSON."""

import json
import re

DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space"}

# An underscore inside a word is not markup.
MARKUP = re.compile(r"[\\`*<>\[\]|]|(?<!\w)_|_(?!\w)")


def to_json(result):
    return json.dumps(result, ensure_ascii=False, indent=2) + "\n"


def number(value):
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if 0.001 <= abs(value) < 1e15:
        return "{:.4f}".format(value).rstrip("0").rstrip(".")
    return "{:.4g}".format(value)


def cell(text, longest=60):
    """Make a value safe inside a Markdown table."""
    text = " ".join(text.split())
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return MARKUP.sub(r"\\\g<0>", text)


def table(headings, rows, numeric):
    lines = ["| " + " | ".join(headings) + " |"]
    lines.append("| " + " | ".join("---:" if index in numeric else "---" for index in range(len(headings))) + " |")
    lines.extend("| " + " | ".join(row) + " |" for row in rows)
    return lines


def to_markdown(result):
    columns = result["columns"]
    separator = result["delimiter"]
    lines = [
        "## CSV Analysis",
        "",
        "- **Rows:** {}".format(result["rows"]),
        "- **Columns:** {}".format(len(columns)),
        "- **Delimiter:** {}".format(DELIMITER_NAMES.get(separator, "`{}`".format(separator))),
        "- **Header:** {}".format("yes" if result["header"] else "no"),
        "- **Ragged rows:** {}".format(result["ragged"]["count"]),
        "",
        "### Columns",
        "",
    ]
    overview = []
    for item in columns:
        total = item["count"] + item["missing"]
        share = " ({:.1f}%)".format(100 * item["missing"] / total) if item["missing"] else ""
        distinct = ("" if item["distinct_exact"] else "≈ ") + str(item["distinct"])
        overview.append([cell(item["name"]), item["type"], str(item["count"]), str(item["missing"]) + share, distinct])
    lines += table(["Column", "Type", "Values", "Missing", "Distinct"], overview, {2, 3, 4})
    lines += numbers_section(columns)
    lines += dates_section(columns)
    lines += frequent_section(columns)
    lines += notes_section(result)
    return "\n".join(lines) + "\n"


def numbers_section(columns):
    rows = [
        [cell(item["name"])] + [number(item["numbers"][key]) for key in ("min", "q1", "median", "q3", "max", "mean")]
        for item in columns
        if "numbers" in item
    ]
    if not rows:
        return []
    headings = ["Column", "Min", "Q1", "Median", "Q3", "Max", "Mean"]
    return ["", "### Numbers", ""] + table(headings, rows, {1, 2, 3, 4, 5, 6})


def dates_section(columns):
    rows = [
        [cell(item["name"]), item["dates"]["earliest"] or "ambiguous", item["dates"]["latest"] or "ambiguous"]
        for item in columns
        if "dates" in item
    ]
    return ["", "### Dates", ""] + table(["Column", "Earliest", "Latest"], rows, set()) if rows else []


def frequent_section(columns):
    rows = [
        [cell(item["name"]), ", ".join("{} ({})".format(cell(f["value"], 40), f["count"]) for f in item["most_frequent"])]
        for item in columns
        if item.get("most_frequent")
    ]
    return ["", "### Most frequent values", ""] + table(["Column", "Values"], rows, set()) if rows else []


def notes_section(result):
    notes = []
    for row in result["ragged"]["first"]:
        notes.append("Line {line} has {fields} fields, expected {expected}.".format(**row))
    unlisted = result["ragged"]["count"] - len(result["ragged"]["first"])
    if unlisted:
        notes.append("{} more ragged rows are not listed.".format(unlisted))
    for item in result["columns"]:
        if "mixed" in item:
            kinds = ", ".join("{} {}".format(count, kind) for kind, count in item["mixed"].items())
            notes.append("{} mixes types: {}.".format(cell(item["name"]), kinds))
        if item.get("dates") and item["dates"]["earliest"] is None:
            notes.append("{} does not tell day from month, so no range is given.".format(cell(item["name"])))
        if not item["distinct_exact"]:
            notes.append(
                "{} has too many different values to keep: their number is an estimate, and only "
                "the values seen first are ranked.".format(cell(item["name"]))
            )
    return ["", "### Notes", ""] + ["- " + note for note in notes] if notes else []
