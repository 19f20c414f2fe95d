#!/usr/bin/env python3
"""Find unused names and unreachable statements in Python sources."""

import sys

sys.dont_write_bytecode = True

import argparse
import json
import os
import re

import findings
import scopes
import source

EXIT_OK = 0
EXIT_INPUT = 1
EXIT_FOUND = 3

KINDS = ["unused-import", "unused-variable", "unused-argument", "unused-function", "unused-class", "unreachable-code"]


def load(path):
    name = "<stdin>" if path == "-" else path
    text = source.read(path)
    try:
        module = scopes.Module(source.parse(text, name), name, text.startswith("#!"))
    except RecursionError as error:
        raise source.InputError("{} is nested too deeply to be analysed; split its expressions".format(name)) from error
    return module, source.silenced_lines(text)


def is_silenced(item, silenced):
    lines = silenced.get(item["file"], ())
    return item["line"] in lines or item.get("statement_line") in lines


def code(text):
    return "`{}`".format(text.replace("`", "'").replace("|", "\\|").replace("\n", " "))


def to_markdown(found, summary):
    lines = ["## Dead code", "", "{} in {}.".format(amount(summary["findings"], "finding"), amount(summary["files"], "file"))]
    if found:
        lines += ["", "| Location | Kind | Finding | Confidence |", "| --- | --- | --- | ---: |"]
    for item in found:
        lines.append("| {} | {} | {} | {}% |".format(code(place(item)), item["kind"], item["message"], item["confidence"]))
    return "\n".join(lines) + "\n"


def amount(count, noun):
    return "{} {}{}".format(count or "No", noun, "" if count == 1 else "s")


def place(item):
    lines = str(item["line"])
    if item["kind"] == "unreachable-code" and item["end_line"] != item["line"]:
        lines += "-{}".format(item["end_line"])
    return "{}:{}".format(item["file"], lines)


def to_text(found, summary):
    return "".join(
        "{}: {}: {} ({}%)\n".format(place(item), item["kind"], item["message"].replace("`", "'"), item["confidence"])
        for item in found
    )


def to_json(found, summary):
    return json.dumps({"summary": summary, "findings": found}, ensure_ascii=False, indent=2) + "\n"


def percentage(text):
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 100:
        raise argparse.ArgumentTypeError("expected a whole number from 0 to 100, got {!r}".format(text))
    return int(text)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="run.py", description="Find unused names and unreachable code in Python.")
    parser.add_argument("files", metavar="FILE", nargs="*", help="Python sources, - or nothing for stdin")
    parser.add_argument(
        "--min-confidence", type=percentage, default=60, metavar="P", help="report from P percent on (default 60)"
    )
    parser.add_argument("--kind", choices=KINDS, action="append", help="report only this kind; may be repeated")
    parser.add_argument("--fail", action="store_true", help="exit with 3 when something was found")
    parser.add_argument("--format", choices=["markdown", "text", "json"], default="markdown")
    return parser.parse_args(argv)


def complain(message):
    sys.stderr.buffer.write("dead-code-detector: {}\n".format(message).encode("utf-8", "backslashreplace"))
    sys.stderr.buffer.flush()


def main(argv):
    options = parse_arguments(argv)
    modules, silenced, failed = [], {}, False
    for path in options.files or ["-"]:
        try:
            module, lines = load(path)
            modules.append(module)
            silenced[module.name] = lines
        except source.InputError as error:
            complain(error)
            failed = True
    if not modules:
        return EXIT_INPUT
    found = [
        item
        for item in findings.analyse(modules)
        if item["confidence"] >= options.min_confidence
        and (not options.kind or item["kind"] in options.kind)
        and not is_silenced(item, silenced)
    ]
    for item in found:
        item.pop("statement_line", None)
    found.sort(key=lambda item: (item["file"], item["line"], KINDS.index(item["kind"]), item["name"]))
    summary = {"files": len(modules), "findings": len(found)}
    render = {"markdown": to_markdown, "text": to_text, "json": to_json}[options.format]
    sys.stdout.buffer.write(render(found, summary).encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
    if failed:
        return EXIT_INPUT
    return EXIT_FOUND if options.fail and found else EXIT_OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INPUT)
