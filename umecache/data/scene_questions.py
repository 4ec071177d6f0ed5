"""What can be asked about a drawn scene, in words, and the true answer.

    query = Query("color", Noun(kind="circle"))
    query.answer(scene)          # "red"; None where the scene has no circle, or two
    query.phrasings()            # ("What color is the circle?", "What is the color of the circle?", ...)

Five families: color, shape, count, exist, relation (yes or no: "Is the star above the circle?") and its choice form
("Which is higher, the star or the circle?"). `None` means that the question makes no sense there, so it is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

from umecache.data.scenes import COLORS, KINDS, Scene, Shape

FAMILIES = ("color", "shape", "count", "exist", "relation", "which")
CLEAR_DISTANCE = 24.0  # pixels between two centres along an axis before anyone says "left of" or "above"

# side -> (axis, sign of the first thing's coordinate against the second's, ways to say it)
SIDES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "left": ("x", -1, ("to the left of", "left of")),
    "right": ("x", 1, ("to the right of", "right of")),
    "above": ("y", -1, ("above", "higher than")),
    "below": ("y", 1, ("below", "lower than")),
}
_FURTHER = {"left": "further left", "right": "further right", "above": "higher", "below": "lower"}


@dataclass(frozen=True, slots=True)
class Noun:
    """The shapes that a question speaks of: of one kind, of one colour, both, or any."""

    kind: str | None = None
    color: str | None = None

    def matches(self, scene: Scene) -> list[Shape]:
        """The scene's shapes that the noun names."""
        return [s for s in scene.shapes if self.kind in (None, s.kind) and self.color in (None, s.color)]

    def one(self, scene: Scene) -> Shape | None:
        """The shape that "the ..." means; None unless there is exactly one."""
        found = self.matches(scene)
        return found[0] if len(found) == 1 else None

    @property
    def words(self) -> str:
        """In the singular, without article: "red circle", "red shape", "circle"."""
        return " ".join(filter(None, (self.color, self.kind or "shape")))

    @property
    def article(self) -> str:
        """The indefinite article of `words`."""
        return "an" if self.words[0] in "aeiou" else "a"


@dataclass(frozen=True, slots=True)
class Query:
    """One question, apart from how it is phrased. `other` and `side` belong to relations."""

    family: str
    noun: Noun
    other: Noun = Noun()
    side: str = ""

    def answer(self, scene: Scene) -> str | None:
        """The true answer; None where the question makes no sense."""
        if self.family == "count":
            return str(len(self.noun.matches(scene)))
        if self.family == "exist":
            # Of "red circle" something must be there, or "no" is too easy.
            near = any(self.noun.kind == s.kind or self.noun.color == s.color for s in scene.shapes)
            if self.noun.kind and self.noun.color and not near:
                return None
            return "yes" if self.noun.matches(scene) else "no"
        first = self.noun.one(scene)
        if first is None:
            return None
        if self.family in ("color", "shape"):
            return first.color if self.family == "color" else first.kind
        second = self.other.one(scene)
        if second is None:
            return None
        axis, sign, _ = SIDES[self.side]
        ahead = sign * (getattr(first, axis) - getattr(second, axis))
        if abs(ahead) < CLEAR_DISTANCE:
            return None
        if self.family == "relation":
            return "yes" if ahead > 0 else "no"
        return self.noun.kind if ahead > 0 else self.other.kind

    def phrasings(self) -> tuple[str, ...]:
        """Every way to ask it."""
        noun, words = self.noun, self.noun.words
        if self.family == "color":
            return (
                f"What color is the {words}?",
                f"What is the color of the {words}?",
                f"Which color does the {words} have?",
            )
        if self.family == "shape":
            return (
                f"What shape is {noun.color}?",
                f"What is the shape of the {noun.color} thing?",
                f"Which shape is the {noun.color} one?",
            )
        if self.family == "count":
            return (
                f"How many {words}s are there?",
                f"How many {words}s are in the picture?",
                f"How many {words}s do you see?",
            )
        if self.family == "exist":
            return (
                f"Is there {noun.article} {words}?",
                f"Is there {noun.article} {words} in the picture?",
                f"Are there any {words}s?",
                f"Do you see {noun.article} {words}?",
            )
        if self.family == "relation":
            return tuple(f"Is the {words} {way} the {self.other.words}?" for way in SIDES[self.side][2])
        further = _FURTHER[self.side]
        return tuple(f"{start} is {further}, the {words} or the {self.other.words}?" for start in ("Which", "What"))


def all_queries(family: str) -> list[Query]:
    """Every question of one family, in a fixed order."""
    kinds = [Noun(kind=k) for k in KINDS]
    colors = [Noun(color=c) for c in COLORS]
    if family == "color":
        return [Query(family, noun) for noun in kinds]
    if family == "shape":
        return [Query(family, noun) for noun in colors]
    if family == "count":
        return [Query(family, noun) for noun in (Noun(), *kinds, *colors)]
    if family == "exist":
        return [Query(family, noun) for noun in (*kinds, *colors, *(Noun(k, c) for k, c in product(KINDS, COLORS)))]
    return [Query(family, a, b, side) for (a, b), side in product(permutations(kinds, 2), SIDES)]
