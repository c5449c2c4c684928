"""The frame of a page that needs nothing but itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import cv2

QUALITY = 85
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --bad: #c62828; --odd: #b26a00; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 74rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 0 0 .4rem; }
p { margin: .3rem 0; } .dim { color: var(--dim); } .bad { color: var(--bad); }
.odd { color: var(--odd); } table { border-collapse: collapse; margin: .6rem 0; }
th, td { text-align: left; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
article { border-top: 1px solid var(--line); padding: 1rem 0; }
img { max-width: 100%; height: auto; image-rendering: pixelated; border-radius: 3px; }
@media print { article { break-inside: avoid; } }
"""


def sheet(title: str, body: Iterable[str]) -> str:
    """A whole page; `body` is HTML, `title` is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def tag(name: str, text: object, kind: str = "") -> str:
    """One element around plain text."""
    return (
        f"<{name}{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escape(str(text))}</{name}>"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Plain values in rows; numbers stand to the right."""
    head = "".join(tag("th", heading) for heading in headings)
    lines = [
        "".join(
            tag("td", value, "number" if isinstance(value, (int, float)) else "") for value in row
        )
        for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"


def picture(path: Path, alt: str) -> str:
    """A picture within the page, as JPEG since there are many; a line of text where it is gone."""
    pixels = cv2.imread(str(path)) if path.is_file() else None
    if pixels is None:
        return tag("p", f"{path.name} is gone or cannot be read", "dim")
    jpeg = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1]
    content = b64encode(jpeg.tobytes()).decode()
    return f'<img src="data:image/jpeg;base64,{content}" alt="{escape(alt)}">'
