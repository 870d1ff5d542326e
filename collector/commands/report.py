"""`report`: a comparison as one file to keep or to send: HTML with pictures, or Markdown."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from collector.by_condition import ByCondition
from collector.commands.selection import Selection, price_of, selected, selected_by
from collector.commands.selection import add_arguments as add_selection
from collector.whole_file import draft_of
from phasewatt.errors import ConfigInvalid

_MARKDOWN = frozenset({".md", ".markdown"})
_HTML = frozenset({".html", ".htm"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and which trials."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".html or .md")
    add_selection(parser)


def run(args: argparse.Namespace) -> int:
    """Write the report, whole or not at all."""
    if args.out.suffix.lower() not in _MARKDOWN | _HTML:
        raise ConfigInvalid(f"--out: expected a name that ends in .html or .md, got {str(args.out)!r}")
    if args.by:
        by = selected_by(args)
        _write(args.out, _by_markdown(by) if args.out.suffix.lower() in _MARKDOWN else _by_html(by))
        print(f"{args.out}: {by.heading}")
        return 0
    price_of(args)
    with selected(args) as selection:
        text = _markdown(selection) if args.out.suffix.lower() in _MARKDOWN else _html(selection)
        _write(args.out, text)
        print(f"{args.out}: {selection.comparison.heading}")
    return 0


def _markdown(selection: Selection) -> str:
    from collector.report import chapters, markdown

    return markdown.render(selection.comparison, chapters.gather(selection.comparison, selection.known))


def _html(selection: Selection) -> str:
    from collector.report import chapters, evidence, html

    evidences = list(evidence.gather(selection.comparison, selection.trials, selection.traces))
    told = chapters.gather(selection.comparison, selection.known)
    return html.render(selection.comparison, evidences, time.time(), told)


def _by_markdown(by: ByCondition) -> str:
    from collector.report import by_markdown

    return by_markdown.render(by)


def _by_html(by: ByCondition) -> str:
    from collector.report import by_html

    return by_html.render(by, time.time())


def _write(path: Path, text: str) -> None:
    """Put `text` in the place of `path` in one step, so that no reader meets half of it."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")
