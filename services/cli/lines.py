"""Text for a terminal: what tenants and messages say must not move the cursor, colour, hide or add lines."""

from __future__ import annotations

import re

# Control characters (ESC, CSI and line breaks among them), separators of lines and paragraphs, what turns the direction
# of text, and surrogates, which no terminal can be sent.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """Return a text as one line, with what is unsafe as `\\uXXXX`: in JSON that is the same value."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
