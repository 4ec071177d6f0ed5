"""What a method costs, as sums of products that can be printed and computed: no torch is loaded.

    cost = COSTS["evc"]                                     # costs.py
    str(cost.macs)                                          # "X D + 6 N D^2 + 2 N^2 D + 2 P D"
    figures("evc", {"text": 384, "image": 1280}, {"text": 20, "image": 577}, width=256).macs

The same expression is what `umecache methods` shows and what the conformance suite holds against the measured figure,
so the two can't part. Symbols, all per question:

    D  width                  M  modalities                  I  sum of the modalities' feature widths
    N  tokens of all          X  sum of tokens x width       S  sum of squared token counts
    P  pairs of the set `pairs`                              G  tokens of the guide (text, else the first modality)

and the method's own numeric options by name (true counts as 1); `outer` is (inner + 1)^M, `gates` M, or 1 for two
modalities. Options that are words stand at their defaults, but for `pairs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

Monomial = tuple[tuple[str, int], ...]  # (symbol, power), sorted by symbol


class Expr:
    """A sum of products of symbols with whole powers, negative ones too. Immutable.

    Args:
        terms: product of symbols -> its factor.
    """

    def __init__(self, terms: Mapping[Monomial, Fraction]) -> None:
        self.terms = {monomial: factor for monomial, factor in terms.items() if factor}

    def __add__(self, other: Expr | int) -> Expr:
        terms = dict(self.terms)
        for monomial, factor in as_expr(other).terms.items():
            terms[monomial] = terms.get(monomial, Fraction(0)) + factor
        return Expr(terms)

    def __mul__(self, other: Expr | int) -> Expr:
        terms: dict[Monomial, Fraction] = {}
        for left, factor in self.terms.items():
            for right, by in as_expr(other).terms.items():
                powers = dict(left)
                for symbol, power in right:
                    powers[symbol] = powers.get(symbol, 0) + power
                monomial = tuple(sorted((symbol, power) for symbol, power in powers.items() if power))
                terms[monomial] = terms.get(monomial, Fraction(0)) + factor * by
        return Expr(terms)

    def __sub__(self, other: Expr | int) -> Expr:
        return self + as_expr(other) * -1

    def __pow__(self, power: int) -> Expr:
        return prod((self,) * power, start=as_expr(1))

    def __truediv__(self, other: Expr | int) -> Expr:
        """By a number or by one product."""
        [(monomial, factor)] = as_expr(other).terms.items()
        return self * Expr({tuple((symbol, -power) for symbol, power in monomial): 1 / factor})

    __radd__, __rmul__ = __add__, __mul__

    def __call__(self, values: Mapping[str, int]) -> int:
        """The number, rounded where a division leaves a rest."""
        total = Fraction(0)
        for monomial, factor in self.terms.items():
            total += factor * prod((Fraction(values[symbol]) ** power for symbol, power in monomial), start=Fraction(1))
        return round(total)

    def __str__(self) -> str:
        said = ""
        for monomial, factor in self.terms.items():
            size = str(abs(factor)) if abs(factor) != 1 or not monomial else ""
            # Options first, then the one-letter symbols with D last: "2 layers N D^2".
            ordered = sorted(monomial, key=lambda item: (len(item[0]) == 1, item[0] == "D", item[0]))
            words = [symbol if power == 1 else f"{symbol}^{power}" for symbol, power in ordered if power > 0]
            under = [symbol if power == -1 else f"{symbol}^{-power}" for symbol, power in ordered if power < 0]
            term = " ".join(filter(None, (size, *words))) + "".join(f" / {word}" for word in under)
            sign = "-" if factor < 0 else "+"
            said = f"{said} {sign} {term}" if said else term if factor > 0 else f"-{term}"
        return said or "0"


def as_expr(value: Expr | int) -> Expr:
    """A number as an expression."""
    return value if isinstance(value, Expr) else Expr({(): Fraction(value)})


def symbol(name: str) -> Expr:
    """One symbol as an expression."""
    return Expr({((name, 1),): Fraction(1)})


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fusion costs without its classifier, dropout off.

    Attributes:
        parameters: trained numbers.
        macs: multiply-adds of the forward pass for one question: matrix products, and C_i * C_j of the pair stage.
            Sums, activations, norms and Fourier transforms are not in it.
        memory: floats kept for the backward pass for one question, beside weights and features (float32, no padding);
            within a twentieth.
    """

    parameters: Expr
    macs: Expr
    memory: Expr


@dataclass(frozen=True, slots=True)
class Figures:
    """A `Cost` as numbers."""

    parameters: int
    macs: int
    memory: int


def symbols(
    dims: Mapping[str, int], tokens: Mapping[str, int], width: int, options: Mapping[str, object]
) -> dict[str, int]:
    """The value of every symbol for features of widths `dims` with so many `tokens`, modality -> T."""
    counts = [tokens[name] for name in dims]
    n, s = sum(counts), sum(count * count for count in counts)
    pairs = {"upper": n * (n + 1) // 2, "all": n * n, "cross": (n * n - s) // 2}
    own = {name: int(value) for name, value in options.items() if isinstance(value, int)}
    return own | {
        "D": width,
        "M": len(dims),
        "I": sum(dims.values()),
        "N": n,
        "X": sum(dims[name] * tokens[name] for name in dims),
        "S": s,
        "P": pairs[str(options.get("pairs", "upper"))],
        "G": tokens["text"] if "text" in dims else counts[0],
        "gates": 1 if len(dims) == 2 else len(dims),
        "outer": (own.get("inner", 0) + 1) ** len(dims),
    }


def figures(
    method: str, dims: Mapping[str, int], tokens: Mapping[str, int], *, width: int | None = None, **options: object
) -> Figures:
    """The cost of a registered method as numbers.

    Args:
        method: its name.
        dims: modality -> width of its features.
        tokens: modality -> tokens of one question, padding included.
        width: D; by default the method's own.
        options: of the method, where they differ from its defaults.
    """
    from umecache.fusion.costs import COSTS
    from umecache.fusion.registry import METHODS

    entry, cost = METHODS[method], COSTS[method]
    used = {name: dim for name, dim in dims.items() if entry.uses is None or name in entry.uses}
    said = {option.name: option.default for option in entry.options} | options
    if width is not None:
        said["width"] = width
    values = symbols(used, tokens, said["width"], said)
    return Figures(cost.parameters(values), cost.macs(values), cost.memory(values))
