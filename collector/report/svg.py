"""A matplotlib figure as inline SVG that follows the page's theme and scales with it.

Figures are drawn in stand-in colours; here each becomes a CSS variable, so that one drawing serves light, dark and
print. Ids are made unique, for several drawings share one page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # None leaves them out: the same input, the same bytes

SERIES = 7
COLOURS: Mapping[str, str] = {
    "--ink": "#010101",
    "--muted": "#010102",
    "--line": "#010103",
    "--card": "#010104",
    "--load": "#010201",
    "--idle": "#010202",
    "--prefill": "#010203",
    "--decode": "#010204",
    "--request": "#010205",
    **{f"--series{index}": f"#0103{index:02x}" for index in range(SERIES)},
}
_VARIABLES = {stand_in: f"var({name})" for name, stand_in in COLOURS.items()}
_STAND_IN = re.compile("|".join(_VARIABLES))


def inline(figure: Figure, name: str, description: str) -> str:
    """`figure` as an `<svg>` element; `name` makes its ids unique, `description` is read to who cannot see it."""
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the reader's fonts draw it, not these
        figure.savefig(drawn, format="svg", metadata=_METADATA, transparent=True)
    root = ElementTree.fromstring(drawn.getvalue())
    _strip(root)
    for element in root.iter():
        _renamed(element, name)
        _themed(element)
    root.set("role", "img")
    root.set("aria-label", description)
    return _serialised(root)


def _strip(root: ElementTree.Element) -> None:
    """Take away the fixed size, and the style sheet that would reach the whole page."""
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    for parent in list(root.iter()):
        for style in parent.findall(f"{{{_SVG}}}style"):
            parent.remove(style)


def _renamed(element: ElementTree.Element, name: str) -> None:
    for attribute, value in element.attrib.items():
        if attribute == "id":
            element.set(attribute, f"{name}-{value}")
        elif attribute == f"{{{_XLINK}}}href" and value.startswith("#"):
            element.set(attribute, f"#{name}-{value[1:]}")
        else:
            element.set(attribute, re.sub(r"url\(#", f"url(#{name}-", value))


def _themed(element: ElementTree.Element) -> None:
    for attribute in ("style", "fill", "stroke"):
        if attribute in element.attrib:
            themed = _STAND_IN.sub(lambda found: _VARIABLES[found[0]], element.attrib[attribute])
            element.set(attribute, themed)


def _serialised(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")
