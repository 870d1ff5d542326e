"""Pictures of every HTML page that phasewatt makes, in every look: `python -m tools.screenshots FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fixtures.browser import launched, program
from tests.fixtures.pages import LOOKS, PAGES


def main(folder: Path) -> int:
    """Write PAGE.LOOK.png for each, and the pages themselves."""
    chromium = program()
    if chromium is None:
        print("screenshots: Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, launched(chromium, Path(profile)) as browser:
        for name, made in PAGES.items():
            page_path = folder / f"{name}.html"
            page_path.write_text(made(), encoding="utf-8")
            for look in LOOKS:
                with browser.opened(page_path, look) as page:
                    (folder / f"{name}.{look.name}.png").write_bytes(page.picture())
    print(f"{folder}: {len(PAGES) * len(LOOKS)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")))
