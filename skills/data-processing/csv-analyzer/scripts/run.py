#!/usr/bin/env python3
"""Profile a CSV file: types, missing values, distributions and ragged rows."""

import sys

sys.dont_write_bytecode = True

import argparse
import csv
import io
import itertools
import os
import re

import column
import report

EXIT_OK = 0
EXIT_INPUT = 1

DELIMITERS = [",", ";", "\t", "|"]
SAMPLE_LINES = 400
SAMPLE_CHARACTERS = 1 << 18
REPORTED_ROWS = 5

# Follows the last line of the input. A private-use character keeps it apart
# from data; when it ends up inside a field, a quote was never closed.
END = "\ue000end-of-input\ue000"


class InputError(Exception):
    """The input cannot be processed; the message is for the user."""


def text_lines(stream, name, encoding):
    """Yield decoded lines with their line ends, or fail with a sentence."""
    number = 0
    try:
        for line in stream:
            number += 1
            if "\0" in line:
                raise InputError(
                    "{} has a NUL byte in line {}, so it is not CSV text; export it as CSV first".format(name, number)
                )
            yield line
    except UnicodeDecodeError as error:
        raise InputError(
            "{} is not valid {} (byte 0x{:02x} in or after line {}); convert it or pass --encoding".format(
                name, "UTF-8" if encoding == "utf-8-sig" else encoding, error.object[error.start], number + 1
            )
        ) from error
    except UnicodeError as error:
        raise InputError(
            "{} is not valid {}: {}; pass another --encoding".format(name, encoding, error)
        ) from error


def field_counts(lines, delimiter):
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        return [len(row) for row in reader if row]
    except csv.Error:
        return []


def detect_delimiter(lines):
    """Choose the delimiter that splits the most rows into the same number of fields."""
    best = (0.0, 0, DELIMITERS[0])
    for delimiter in DELIMITERS:
        counts = field_counts(lines, delimiter)
        if not counts:
            continue
        common = max(sorted(set(counts)), key=counts.count)
        if common < 2:
            continue
        agreement = counts.count(common) / len(counts)
        if (agreement, common) > best[:2]:
            best = (agreement, common, delimiter)
    return best[2]


def detect_header(rows, decimal):
    """Tell whether the first row names the columns.

    A column votes for a header when its values have a type and the first cell
    is text, and against it when the first cell has that same type.
    """
    first, rest = rows[0], rows[1:]
    votes = 0
    for index, cell in enumerate(first):
        kinds = {
            column.classify(row[index].strip(), decimal)[0]
            for row in rest
            if index < len(row) and not column.is_missing(row[index])
        }
        numeric = kinds <= {"integer", "number"}
        if len(kinds) == 1 or (kinds and numeric):
            kind = column.classify(cell.strip(), decimal)[0]
            if "text" not in kinds:
                votes += -1 if kind in kinds or (numeric and kind in ("integer", "number")) else 1
    if votes:
        return votes > 0
    return all(column.classify(cell.strip(), decimal)[0] == "text" and cell.strip() for cell in first)


def column_names(first, has_header):
    if not has_header:
        return ["column_{}".format(index + 1) for index in range(len(first))]
    names = []
    for index, cell in enumerate(first):
        base = " ".join(cell.split()) or "column_{}".format(index + 1)
        name, repeat = base, 2
        while name in names:
            name = "{} ({})".format(base, repeat)
            repeat += 1
        names.append(name)
    return names


def analyse(stream, name, options):
    lines = text_lines(stream, name, options.encoding)
    head, size = [], 0
    for line in lines:
        head.append(line)
        size += len(line)
        if len(head) >= SAMPLE_LINES or size >= SAMPLE_CHARACTERS:
            break
    if not any(line.strip() for line in head):
        raise InputError("{} is empty; pass CSV on standard input or as FILE".format(name))
    delimiter = options.delimiter or detect_delimiter(head)
    sample = [row for row in csv.reader(head, delimiter=delimiter) if row]
    has_header = detect_header(sample, options.decimal) if options.header == "auto" else options.header == "yes"
    names = column_names(sample[0], has_header)
    columns = [column.Column(title, options.decimal) for title in names]
    adders = [item.add for item in columns]
    width = len(columns)
    rows, ragged = 0, {"count": 0, "first": []}

    reader = csv.reader(itertools.chain(head, lines, [END]), delimiter=delimiter)
    skip = has_header
    start = 1
    for row in reader:
        line, start = start, reader.line_num + 1
        if row and END in row[-1]:
            if row != [END]:
                raise InputError(
                    "a quoted field that starts in the row at line {} of {} is never closed; "
                    "add the closing quote, the file may be truncated".format(line, name)
                )
            break
        if not row:
            continue
        if skip:
            skip = False
            continue
        rows += 1
        if len(row) != width:
            ragged["count"] += 1
            if len(ragged["first"]) < REPORTED_ROWS:
                ragged["first"].append({"line": line, "fields": len(row), "expected": width})
            row = row[:width] + [""] * (width - len(row))
        for add, value in zip(adders, row):
            add(value)

    return {
        "delimiter": delimiter,
        "header": has_header,
        "rows": rows,
        "ragged": ragged,
        "columns": [item.summary(options.top) for item in columns],
    }


def delimiter(text):
    value = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}.get(text, text)
    if len(value) != 1 or value in "\r\n\"":
        raise argparse.ArgumentTypeError("expected one character, or tab, comma, semicolon, pipe, got {!r}".format(text))
    return value


def encoding(text):
    try:
        known = "".encode(text)
    except (LookupError, ValueError):
        known = None
    if not isinstance(known, bytes):
        raise argparse.ArgumentTypeError("unknown encoding {!r}; try utf-8, cp1252 or utf-16".format(text))
    return "utf-8-sig" if re.sub(r"[-_ ]", "", text.lower()) in ("utf8", "utf8sig") else text


def top(text):
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError("expected a whole number from 1 to 9999, got {!r}".format(text))
    return int(text)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="run.py", description="Profile a CSV file column by column.")
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="CSV to read, - or nothing for stdin")
    parser.add_argument("--delimiter", type=delimiter, metavar="D", help="field separator (default: detected)")
    parser.add_argument("--header", choices=["auto", "yes", "no"], default="auto", help="is the first row a header?")
    parser.add_argument("--decimal", choices=[".", ","], default=".", help="decimal mark in numbers")
    parser.add_argument("--encoding", type=encoding, default="utf-8-sig", help="text encoding (default utf-8)")
    parser.add_argument("--top", type=top, default=5, metavar="N", help="most frequent values per column (default 5)")
    parser.add_argument("--format", choices=["markdown", "json"], default="markdown")
    return parser.parse_args(argv)


def main(argv):
    options = parse_arguments(argv)
    csv.field_size_limit(2**31 - 1)
    name = "standard input" if options.file == "-" else options.file
    try:
        file = sys.stdin.buffer if options.file == "-" else open(options.file, "rb")
        with io.TextIOWrapper(file, encoding=options.encoding, errors="strict", newline="") as stream:
            result = analyse(stream, name, options)
    except OSError as error:
        raise InputError("cannot read {}: {}; check the path".format(name, error.strerror or error)) from error
    except csv.Error as error:
        raise InputError("{} cannot be read as CSV: {}; check --delimiter".format(name, error)) from error
    render = report.to_json if options.format == "json" else report.to_markdown
    sys.stdout.buffer.write(render(result).encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
    return EXIT_OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.stderr.buffer.write("csv-analyzer: {}\n".format(error).encode("utf-8", "backslashreplace"))
        sys.exit(EXIT_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INPUT)
