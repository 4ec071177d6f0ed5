"""Text as LaTeX sets it, with pdfTeX and its own fonts; needs T1 and textcomp.

    latex_escape("5 % of a_b")                  # r"5 \\% of a\\_b"
    latex_prose("`umecache report` says why")   # r"\texttt{umecache report} says why"
    latex_items(sentences), latex_command("umecache compare --seeds 3")

Text comes from data and from settings, so nothing in it may be markup or stop the run: what pdfTeX has no glyph for is
set as `?`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho varsigma sigma tau "
    "upsilon phi chi psi omega"
)
_SET = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "±": r"$\pm$", "−": r"$-$",
    "×": r"$\times$", "÷": r"$\div$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$",
    "≈": r"$\approx$", "∞": r"$\infty$", "→": r"$\to$", "←": r"$\gets$", "–": "--", "—": "---", "…": r"\dots{}",
    "‘": "`", "’": "'", "“": "``", "”": "''", "„": r"\quotedblbase{}", "«": r"\guillemotleft{}",
    "»": r"\guillemotright{}", "•": r"\textbullet{}", "°": r"\textdegree{}", "µ": r"$\mu$", "€": r"\texteuro{}",
    "£": r"\pounds{}", "©": r"\copyright{}", "¿": "?`", "¡": "!`", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}",
    "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "đ": r"\dj{}",
    "ð": r"\dh{}", "þ": r"\th{}", "²": "$^2$", "³": "$^3$", "Ω": r"$\Omega$", "Δ": r"$\Delta$", "Σ": r"$\Sigma$",
    **{chr(0x3B1 + at): "o" if name == "omicron" else rf"$\{name}$" for at, name in enumerate(_GREEK.split())},
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text as it stands in LaTeX, in one line and in ASCII; `?` for what pdfTeX has no glyph for."""
    plain = unicodedata.normalize("NFC", re.sub(r"\s+", " ", text))
    parts = re.split("(?<=-)(?=-)", plain)  # two hyphens of a flag are no dash
    return "{}".join("".join(map(_latex, part)) for part in parts)


def latex_prose(text: str) -> str:
    """A sentence as it stands in LaTeX: `commands` in backticks become typewriter."""
    parts = re.split("`([^`]+)`", text)
    return "".join(
        rf"\texttt{{{latex_escape(part)}}}" if place % 2 else latex_escape(part) for place, part in enumerate(parts)
    )


def latex_items(lines: Sequence[str]) -> list[str]:
    """Sentences as a list; nothing where there are none."""
    items = [rf"\item {{}}{latex_prose(line)}" for line in lines]
    return [r"\begin{itemize}", *items, r"\end{itemize}"] if items else []


def latex_command(text: str) -> str:
    """A command line in typewriter that may break at its spaces, and behind the marks inside long words."""
    said = latex_escape(text).replace("'", r"\textquotesingle{}")
    said = re.sub("([/,=])", r"\1\\allowbreak{}", said)
    return rf"{{\raggedright\ttfamily\small {said}\par}}"


def _latex(each: str) -> str:
    """One character."""
    if each in _SET:
        return _SET[each]
    if " " <= each <= "~":
        return each
    parts = unicodedata.normalize("NFD", each)
    if len(parts) == 2 and parts[1] in _ACCENTS and parts[0].isascii():
        return f"\\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    simple = unicodedata.normalize("NFKC", each)  # such as the ligature of f and i
    return "".join(map(_latex, simple)) if simple != each else "?"
