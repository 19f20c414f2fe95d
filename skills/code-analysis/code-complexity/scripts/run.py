#!/usr/bin/env python3
"""Measure the complexity of Python functions from their syntax tree."""

import argparse
import ast
import io
import json
import os
import re
import sys
import tokenize
import warnings

EXIT_OK = 0
EXIT_INPUT = 1
EXIT_OVER = 3

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
BRANCHES = LOOPS + (ast.If, ast.ExceptHandler, ast.IfExp)
TRIES = tuple(getattr(ast, name) for name in ("Try", "TryStar") if hasattr(ast, name))
MATCH = getattr(ast, "Match", ())
NESTING = LOOPS + TRIES + (ast.If, ast.With, ast.AsyncWith) + ((MATCH,) if MATCH else ())

SORT_KEYS = {
    "complexity": lambda row: (-row["complexity"], -row["nesting"], row["file"], row["line"]),
    "nesting": lambda row: (-row["nesting"], -row["complexity"], row["file"], row["line"]),
    "lines": lambda row: (-row["lines"], -row["complexity"], row["file"], row["line"]),
    "parameters": lambda row: (-row["parameters"], -row["complexity"], row["file"], row["line"]),
    "location": lambda row: (row["file"], row["line"], row["column"]),
}


class InputError(Exception):
    """An input cannot be processed; the message is for the user."""


def read_source(path):
    name = "<stdin>" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as error:
        raise InputError("cannot read {}: {}; check the path".format(name, error.strerror or error)) from error
    if not data.strip():
        raise InputError("{} is empty; pass Python source on standard input or as FILE".format(name))
    if b"\0" in data:
        raise InputError("{} has a NUL byte at offset {}, so it is not Python source".format(name, data.index(b"\0")))
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            "{} is not valid {} (byte 0x{:02x} at offset {}); convert it or declare its encoding".format(
                name, error.encoding, error.object[error.start], error.start
            )
        ) from error
    except (SyntaxError, LookupError) as error:
        raise InputError("{} is not valid UTF-8 or declares an unknown encoding: {}".format(name, error)) from error


def parse(source, name):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        raise InputError(
            "{}:{}:{}: syntax error: {}; fix it, or run a newer Python if the syntax is new".format(
                name, error.lineno or 1, error.offset or 1, error.msg
            )
        ) from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise InputError("{} is nested too deeply to be parsed; split its expressions".format(name)) from error


def always_matches(pattern):
    """Tell whether a case pattern is `_` or a bare name, alone or as the last alternative."""
    if isinstance(pattern, ast.MatchOr):
        return always_matches(pattern.patterns[-1])
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or always_matches(pattern.pattern))


def decisions(node):
    """Return how many branches this node alone adds."""
    if isinstance(node, BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if MATCH and isinstance(node, ast.match_case):
        caught = 0 if always_matches(node.pattern) else 1
        return caught + (1 if node.guard is not None else 0)
    return 0


def parameter_count(node, in_class):
    arguments = node.args
    positional = arguments.posonlyargs + arguments.args
    count = len(positional) + len(arguments.kwonlyargs) + bool(arguments.vararg) + bool(arguments.kwarg)
    if in_class and positional and positional[0].arg in ("self", "cls", "mcs", "metacls"):
        count -= 1
    return count


def outer_parts(node):
    """Return the parts of a definition that run where it stands: decorators, defaults, bases."""
    if isinstance(node, FUNCTIONS):
        return node.decorator_list + node.args.defaults + [value for value in node.args.kw_defaults if value]
    return node.decorator_list + node.bases + [keyword.value for keyword in node.keywords]


class Measurement:
    """Walk one file without recursion, so that deep sources cannot exhaust the stack."""

    def __init__(self, name):
        self.name = name
        self.rows = []

    def function(self, node, path, in_class):
        qualified = ".".join(path + [node.name])
        row = self.row(qualified, node.lineno, node.col_offset + 1)
        row["lines"] = node.end_lineno - node.lineno + 1
        row["parameters"] = parameter_count(node, in_class)
        row["async"] = isinstance(node, ast.AsyncFunctionDef)
        self.rows.append(row)
        return row

    def row(self, qualified, line, column):
        return {
            "function": qualified,
            "file": self.name,
            "line": line,
            "column": column,
            "complexity": 1,
            "nesting": 0,
            "lines": 0,
            "parameters": 0,
            "async": False,
        }

    def measure(self, tree, lines):
        module = self.row("<module>", 1, 1)
        module["lines"] = lines
        pending = [(child, module, [], False, 0) for child in tree.body]
        while pending:
            node, row, path, in_class, depth = pending.pop()
            if isinstance(node, FUNCTIONS):
                inner = self.function(node, path, in_class)
                pending.extend((child, inner, path + [node.name], False, 0) for child in node.body)
                pending.extend((part, row, path, in_class, depth) for part in outer_parts(node))
                continue
            if isinstance(node, ast.ClassDef):
                pending.extend((child, row, path + [node.name], True, depth) for child in node.body)
                pending.extend((part, row, path, in_class, depth) for part in outer_parts(node))
                continue
            row["complexity"] += decisions(node)
            inside = depth + isinstance(node, NESTING)
            row["nesting"] = max(row["nesting"], inside)
            for field, value in ast.iter_fields(node):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST) and field != "annotation":
                        level = depth if is_elif(node, field, value) else inside
                        pending.append((child, row, path, in_class, level))
        if module["complexity"] > 1:
            self.rows.append(module)
        return self.rows


def is_elif(node, field, value):
    """Tell whether this field holds `elif`, which continues the `if` at the same depth."""
    return (
        isinstance(node, ast.If)
        and field == "orelse"
        and len(value) == 1
        and isinstance(value[0], ast.If)
        and value[0].col_offset == node.col_offset
    )


def statistics(rows, files):
    total = sum(row["complexity"] for row in rows)
    return {
        "files": files,
        "functions": len(rows),
        "total_complexity": total,
        "average_complexity": round(total / len(rows), 2) if rows else 0.0,
        "highest_complexity": max((row["complexity"] for row in rows), default=0),
        "flagged": sum(row["flagged"] for row in rows),
    }


def code(text):
    return "`{}`".format(text.replace("`", "'").replace("|", "\\|").replace("\n", " "))


def to_markdown(rows, summary, limit):
    lines = [
        "## Code complexity",
        "",
        "- **Functions:** {functions} in {files} file{plural}".format(
            plural="" if summary["files"] == 1 else "s", **summary
        ),
        "- **Complexity:** average {average_complexity}, highest {highest_complexity}".format(**summary),
        "- **Above {}:** {}".format(limit, summary["flagged"]),
    ]
    if rows:
        lines += [
            "",
            "| Function | Location | Complexity | Nesting | Lines | Parameters |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
        ]
    for row in rows:
        lines.append(
            "| {} | {} | {} | {} | {} | {} |".format(
                ("async " if row["async"] else "") + code(row["function"]),
                code("{}:{}".format(row["file"], row["line"])),
                "**{}** ⚠".format(row["complexity"]) if row["flagged"] else row["complexity"],
                row["nesting"],
                row["lines"],
                row["parameters"],
            )
        )
    return "\n".join(lines) + "\n"


def whole_number(text):
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError("expected a whole number, got {!r}".format(text))
    return int(text)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="run.py", description="Measure the complexity of Python functions.")
    parser.add_argument("files", metavar="FILE", nargs="*", help="Python sources, - or nothing for stdin")
    parser.add_argument(
        "--max-complexity", type=whole_number, default=10, metavar="N", help="flag functions above N (default 10)"
    )
    parser.add_argument("--fail-over", type=whole_number, metavar="N", help="exit with 3 when a function is above N")
    parser.add_argument("--sort", choices=sorted(SORT_KEYS), default="complexity")
    parser.add_argument("--top", type=whole_number, metavar="N", help="list only the first N functions")
    parser.add_argument("--format", choices=["markdown", "json"], default="markdown")
    return parser.parse_args(argv)


def complain(message):
    sys.stderr.buffer.write("code-complexity: {}\n".format(message).encode("utf-8", "backslashreplace"))
    sys.stderr.buffer.flush()


def main(argv):
    options = parse_arguments(argv)
    rows, measured, failed = [], 0, False
    for path in options.files or ["-"]:
        name = "<stdin>" if path == "-" else path
        try:
            source = read_source(path)
            rows += Measurement(name).measure(parse(source, name), len(source.splitlines()))
            measured += 1
        except InputError as error:
            complain(error)
            failed = True
    if not measured:
        return EXIT_INPUT
    for row in rows:
        row["flagged"] = row["complexity"] > options.max_complexity
    rows.sort(key=SORT_KEYS["location"])
    rows.sort(key=SORT_KEYS[options.sort])
    summary = statistics(rows, measured)
    listed = rows if options.top is None else rows[: options.top]
    if options.format == "json":
        output = json.dumps({"summary": summary, "functions": listed}, ensure_ascii=False, indent=2) + "\n"
    else:
        output = to_markdown(listed, summary, options.max_complexity)
    sys.stdout.buffer.write(output.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()
    if failed:
        return EXIT_INPUT
    if options.fail_over is not None and summary["highest_complexity"] > options.fail_over:
        complain(
            "the highest complexity is {}, above the {} allowed by --fail-over; "
            "split the functions at the top of the table".format(summary["highest_complexity"], options.fail_over)
        )
        return EXIT_OVER
    return EXIT_OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INPUT)
