#!/usr/bin/env python3
"""Summarise a text by selecting its most representative sentences.

Every sentence is scored by how often its content words occur in the whole
text. The best sentences are printed in their original order; nothing is
rewritten.
"""

import argparse
import json
import math
import os
import re
import sys
from collections import Counter
from fractions import Fraction

EXIT_OK = 0
EXIT_INPUT = 1

# A sentence is never scored as if it had fewer content words than this:
# otherwise a two-word sentence about the main topic would always win.
SHORTEST_SENTENCE = 6

STOP_WORDS = frozenset(
    """
    a about above after again against all also although always am among an and
    another any are as at be became because become been before being below
    between both but by came can cannot could did do does doing done down
    during each either else even ever every few first for from further get
    gets getting give given go goes going gone got had has have having he her
    here hers herself him himself his how however i if in into is it its
    itself just last least less let like made make many may me might more most
    much must my myself neither never no nor not now of off often on once one
    only onto or other others our ours ourselves out over own perhaps put
    quite rather really said same say says second see seen shall she should
    since so some still such take than that the their theirs them themselves
    then there therefore these they this those though three through thus to
    together too toward towards two under until up upon us use used using very
    was we well were what when where whether which while who whom whose why
    will with within without would yes yet you your yours yourself yourselves
    aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't
    it's let's shouldn't that's there's wasn't we're weren't won't wouldn't
    you're i'm i've they're
    """.split()
)

# Never the end of a sentence: a name, a number or a noun follows.
LEADING_ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof rev fr sr mt gen col maj capt cmdr lt sgt gov sen rep
    hon pres messrs mme mlle vs cf viz e.g i.e eg ie ca approx est
    """.split()
)

# Only before a number: "No. 5", "Fig. 3", "Jan. 12".
NUMBERED_ABBREVIATIONS = frozenset(
    """
    no nos fig figs p pp vol vols ch chap sec art eq nr jan feb mar apr jun
    jul aug sep sept oct nov dec
    """.split()
)

# May end a sentence: they do when a word follows that usually opens one.
TRAILING_ABBREVIATIONS = frozenset(
    """
    etc al inc ltd co corp llc jr st dept univ ave blvd rd a.m p.m u.s u.k u.n
    e.u ph.d m.d b.a m.a b.sc m.sc d.c a.d b.c
    """.split()
)

# Characters around a full stop that decide whether it ends a sentence.
CONTEXT = 80

CLOSERS = "\"'”’»)]}*_"
OPENERS = "\"'“‘«([{*_"
TERMINATOR = re.compile(r"(?<![.!?…])[.!?…]+[" + re.escape(CLOSERS) + r"]*(?=\s|$)|[。！？]+[」』”’]*")
LAST_TOKEN = re.compile(r"\S+$")
NEXT_TOKEN = re.compile(r"\S+")
INITIALS = re.compile(r"^(?:[^\W\d_]\.)*[^\W\d_]$")
WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
TOKEN = re.compile(r"\w+(?:[.,:'’\-]\w+)*")
FENCE = re.compile(r"^\s*(```|~~~)")
HEADING = re.compile(r"^\s{0,3}#{1,6}(\s|$)")
RULE = re.compile(r"^\s{0,3}([-=*_])(\s*\1){2,}\s*$")
LIST_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+")


class InputError(Exception):
    """The input cannot be processed; the message is for the user."""


def read_text(path):
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as error:
        raise InputError(
            "cannot read {}: {}; check the path".format(name, error.strerror or error)
        ) from error
    if b"\0" in data:
        raise InputError(
            "{} contains a NUL byte at offset {}, so it is not plain text; "
            "extract the text first".format(name, data.index(b"\0"))
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "{} is not valid UTF-8 (byte 0x{:02x} at offset {}); convert it to UTF-8 first".format(
                name, error.object[error.start], error.start
            )
        ) from error
    if not text.strip():
        raise InputError("{} is empty; pass the text on standard input or as FILE".format(name))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def blocks_of(text):
    """Yield the paragraphs and list items, without headings, rules and fenced code."""
    lines = []
    fence = None
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if fence is not None:
            if mark and mark.group(1) == fence:
                fence = None
            continue
        starts_item = LIST_ITEM.match(line)
        boundary = mark or not line.strip() or HEADING.match(line) or RULE.match(line)
        if (boundary or starts_item) and lines:
            yield " ".join(lines)
            lines = []
        if mark:
            fence = mark.group(1)
        elif starts_item:
            lines.append(line[starts_item.end():].strip())
        elif not boundary:
            lines.append(line.strip().lstrip("> "))
    if lines:
        yield " ".join(lines)


def ends_sentence(before, mark, after):
    """Tell whether `mark`, found between `before` and `after`, ends a sentence."""
    if mark[0] in "。！？":
        return True
    following = NEXT_TOKEN.search(after)
    if following is None:
        return True
    raw = following.group()
    opened = raw.lstrip(OPENERS)
    if opened and opened[0].islower():
        return False
    stops = mark.rstrip(CLOSERS)
    if stops != "." or len(mark) > len(stops):
        return True
    preceding = LAST_TOKEN.search(before)
    if preceding is None:
        return True
    word = preceding.group().lstrip(OPENERS)
    key = word.lower()
    next_word = WORD.match(opened)
    opens_sentence = next_word is not None and next_word.group().lower() in STOP_WORDS
    if key in LEADING_ABBREVIATIONS:
        return False
    if key in NUMBERED_ABBREVIATIONS:
        return not opened[:1].isdigit()
    if key in TRAILING_ABBREVIATIONS or INITIALS.match(word):
        return opens_sentence
    return True


def split_sentences(text):
    sentences = []
    for block in blocks_of(text):
        block = " ".join(block.split())
        start = 0
        for match in TERMINATOR.finditer(block):
            before = block[max(start, match.start() - CONTEXT):match.start()]
            if ends_sentence(before, match.group(), block[match.end():match.end() + CONTEXT]):
                sentences.append(block[start:match.end()].strip())
                start = match.end()
        sentences.append(block[start:].strip())
    return [sentence for sentence in sentences if TOKEN.search(sentence)]


def content_words(sentence):
    words = []
    for match in WORD.finditer(sentence):
        word = match.group().lower().replace("’", "'")
        if word in STOP_WORDS:
            continue
        if word.endswith("'s"):
            word = word[:-2]
        if len(word) > 1 and word not in STOP_WORDS:
            words.append(word)
    return words


def score_sentences(sentences):
    """Return the score of each sentence and the frequency of each term."""
    words = [content_words(sentence) for sentence in sentences]
    frequency = Counter(word for line in words for word in line)
    highest = max(frequency.values(), default=1)
    scores = []
    for line in words:
        # One division of integers: equal scores compare equal everywhere.
        total = sum(frequency[word] for word in line)
        scores.append(total / (highest * max(len(line), SHORTEST_SENTENCE)))
    return scores, frequency


def select(sentences, scores, wanted):
    """Return the positions of the best sentences, in their original order."""
    chosen = []
    seen = set()
    for position in sorted(range(len(sentences)), key=lambda index: (-scores[index], index)):
        key = tuple(word.lower() for word in TOKEN.findall(sentences[position]))
        if key in seen:
            continue
        seen.add(key)
        chosen.append(position)
        if len(chosen) == wanted:
            break
    return sorted(chosen)


def count_words(sentences):
    return sum(len(TOKEN.findall(sentence)) for sentence in sentences)


def render(sentences, scores, frequency, chosen, output_format):
    summary = [sentences[position] for position in chosen]
    if output_format == "text":
        return "\n".join(summary) + "\n"
    words = count_words(sentences)
    summary_words = count_words(summary)
    if output_format == "markdown":
        return "## Summary\n\n{}\n\n_{} of {} sentences, {} of {} words._\n".format(
            " ".join(summary), len(summary), len(sentences), summary_words, words
        )
    terms = sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:10]
    report = {
        "summary": " ".join(summary),
        "sentences": [
            {
                "position": position + 1,
                "score": round(scores[position], 4),
                "selected": position in chosen,
                "text": sentences[position],
            }
            for position in range(len(sentences))
        ],
        "statistics": {
            "sentences": len(sentences),
            "words": words,
            "distinct_terms": len(frequency),
            "summary_sentences": len(summary),
            "summary_words": summary_words,
        },
        "top_terms": [{"term": term, "count": count} for term, count in terms],
    }
    return json.dumps(report, ensure_ascii=False, indent=2) + "\n"


def positive_integer(text):
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError("expected a whole number of at least 1, got {!r}".format(text))
    return int(text)


def ratio(text):
    if not re.fullmatch(r"[0-9]{0,9}(\.[0-9]{1,9})?", text) or not text:
        raise argparse.ArgumentTypeError("expected a number such as 0.2, got {!r}".format(text))
    value = Fraction(text if text[0] != "." else "0" + text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("expected a number above 0 and up to 1, got {!r}".format(text))
    return value


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="run.py", description="Summarise a text by selecting its most representative sentences."
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="text to read, - or nothing for stdin")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--sentences", type=positive_integer, metavar="N", help="sentences to keep (default 3)")
    length.add_argument("--ratio", type=ratio, metavar="R", help="share of sentences to keep, above 0 and up to 1")
    parser.add_argument("--format", choices=["markdown", "text", "json"], default="markdown")
    return parser.parse_args(argv)


def main(argv):
    options = parse_arguments(argv)
    sentences = split_sentences(read_text(options.file))
    if not sentences:
        raise InputError("no sentence found outside headings and code; pass running text")
    wanted = options.sentences or 3
    if options.ratio is not None:
        wanted = math.ceil(options.ratio * len(sentences))
    scores, frequency = score_sentences(sentences)
    chosen = select(sentences, scores, wanted)
    sys.stdout.buffer.write(render(sentences, scores, frequency, chosen, options.format).encode("utf-8"))
    sys.stdout.buffer.flush()
    return EXIT_OK


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.stderr.buffer.write("text-summarizer: {}\n".format(error).encode("utf-8", "backslashreplace"))
        sys.exit(EXIT_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INPUT)
