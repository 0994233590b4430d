"""Text of strangers for a terminal, a message or a table: whatever could steer or disguise is spelled out."""

import unicodedata

ELLIPSIS = "..."                                       # plain ASCII: any terminal can show it
STEERS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}    # control, format, surrogate, private, none, lines


def printable(text: str, limit: int = 80) -> str:
    r"""The text in one line of at most `limit` signs: what no eye sees is written as Python would (`\x1b`, `\u202e`), and what
    is too long ends with an ellipsis. `limit` 0 keeps all of it.

    Format characters hide, join or turn others round; so a joiner inside an emoji is spelled out too.
    """
    shown = "".join(map(_seen, text[:limit + 1] if limit else text))
    if not limit or len(shown) <= limit:
        return shown
    return shown[:max(0, limit - len(ELLIPSIS))] + ELLIPSIS[:limit]


def _seen(sign: str) -> str:
    if sign.isascii() and sign.isprintable() or unicodedata.category(sign) not in STEERS:
        return sign
    return sign.encode("unicode_escape").decode("ascii")
