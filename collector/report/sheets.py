"""A table of texts under headers, which terminal, Markdown and HTML all show."""

from __future__ import annotations

from typing import NamedTuple


class Sheet(NamedTuple):
    """One table; without rows only its title, with the reason among the notes."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    summary: str = ""
    notes: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """The title with the summary, if there is one."""
        return f"{self.title}: {self.summary}" if self.summary else self.title


class Part(NamedTuple):
    """Several tables on one thing, with what is to be known of all of them."""

    title: str
    remark: str
    sheets: tuple[Sheet, ...]
