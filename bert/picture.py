"""An empty picture, with fonts for Hangul where they are installed."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo", "UnDotum")
"""Fonts with Hangul, by preference; where none is installed, labels in Hangul are drawn as boxes."""


def blank(width: float, height: float) -> "Figure":
    """A figure of this size in inches, to be drawn on and saved; no display is needed."""
    from matplotlib import font_manager, rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    installed = set(font_manager.get_font_names())
    rcParams["font.family"] = ["DejaVu Sans", *(font for font in _FONTS if font in installed)]
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: Path, dots_per_inch: float = 110) -> None:
    """Write the picture; prints a line if some of its characters are in no font on this machine."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph .* missing", UserWarning)
        figure.savefig(path, dpi=dots_per_inch)
    glyphs = [warning for warning in caught if "missing from font" in str(warning.message)]
    for warning in caught:
        if warning not in glyphs:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if glyphs:
        fonts = f"{', '.join(_FONTS[:3])}, ..."
        print(f"{path}: no font here has some of its characters; they are drawn as boxes (Hangul: {fonts})")
