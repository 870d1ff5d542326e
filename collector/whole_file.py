"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from phasewatt.errors import ConfigInvalid


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A path to write to; what is there takes the place of `path`, or of what that links to, after the block.

    Raises:
        ConfigInvalid: `path` is a directory or a device, or the disk does not take it.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise ConfigInvalid(f"{path}: cannot be written: it is no regular file")
    draft = target.with_name(f"{target.name}.part")
    try:
        yield draft
        draft.replace(target)
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
