"""One HTML file from a template: no network, no script; whatever came from a board is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from phasewatt import __version__

HERE = Path(__file__).parent


def page(
    template: str, written_unix_s: float, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any
) -> str:
    """The document that `template` makes of `values`, with the version and the moment in which it was written."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters or {}
    return environment.get_template(template).render(
        version=__version__,
        written=datetime.fromtimestamp(written_unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )
