"""Any text as LaTeX that prints it, whatever it holds, with the fonts that every installation has."""

import functools
import re
import unicodedata

from micl_bench.runtime.log import printable

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    # No ligature.
    "`": "{}`{}",
    # No argument of the line break before it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{character: f"\\{character}" for character in "{}$&#%_"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "†": r"$\dagger$",
    "°": r"$^\circ$",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "ø": r"\o{}",
    "ł": r"\l{}",
}
_BETWEEN = {"-": "-{}", "/": r"\slash{}"}
_ACCENTS = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0327": r"\c",
}
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)


# Most cells of a large table say what another one says.
@functools.lru_cache(maxsize=1 << 14)
def escaped(text: str) -> str:
    """Plain text, without its control characters; a sign that has no LaTeX is its code point."""
    text = unicodedata.normalize("NFC", printable(text))
    # Two hyphens are no dash, and a line may break within an address.
    parts = re.split(r"(-(?=-)|(?<=[A-Za-z])/(?=[A-Za-z]))", text)
    return "".join(_BETWEEN.get(part) or part.translate(_SIGNS) for part in parts)


class _Signs(dict[int, str]):
    """LaTeX of each code point, found when it is first met: a large table has millions of signs."""

    def __missing__(self, code: int) -> str:
        self[code] = _sign(chr(code))
        return self[code]


_SIGNS = _Signs()


def _sign(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isascii():
        return character
    greek = unicodedata.name(character, "").removeprefix("GREEK SMALL LETTER ").lower()
    if greek in _GREEK:
        return f"$\\{greek}$"
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS:
        return f"{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"\\texttt{{U+{ord(character):04X}}}"
