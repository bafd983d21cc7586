"""English captions of scenes: what is there, under the label or a synonym, as people write below their images."""

import re
from collections.abc import Sequence
from typing import Literal

from .draws import Draws

Captions = Literal["salient", "all"]

_LABEL_SHARE = 0.5  # of the names; the rest are synonyms
_TWO_NAMED = 0.2  # share of the salient captions that name the second thing too, where there is one

# Names that go without "a". Uncountable ones can take "some", the last word decides; phrases are whole names.
# fmt: off
_UNCOUNTABLE = {
    "bacon", "beer", "bowling", "bread", "broccoli", "calamari", "cash", "champagne", "cheese", "coffee", "corn",
    "cutlery", "espresso", "garlic", "hockey", "lettuce", "lightning", "mail", "maize", "milk", "money",
    "newsprint", "pasta", "poultry", "popcorn", "ramen", "sakura", "serve", "silverware", "soup", "spaghetti",
    "sunshine", "sushi", "sweetcorn", "tennis", "wine",
}
# fmt: on
_UNCOUNTABLE_PHRASES = {"soft ice cream", "corn on the cob", "candy"}
_BARE = {"lady liberty", "planet earth", "earth"}  # names of single things
_DEFINITE = {"statue of liberty", "liberty statue", "world"}
_PLURALS = {"mice", "geese", "dice", "cattle", "people", "children", "feet", "teeth"}
_SINGULAR_IN_S = re.compile(r"(ss|us|rhinoceros|^(iris|mantis|tennis|ananas|canvas|gas|lens|news|atlas|chess))$")
_VOWEL_SOUND = re.compile(
    r"[aeiou](?<!u)|u(?!ni(?!n)|s[eu]|k|t[ei]|rin)|hour|honest|heir|heirloom|x-ray|mp\d|lcd|led\b"
)
_CONSONANT_SOUND = re.compile(r"eu|ew|one\b|once\b")

_ONE = (
    "a photo of {0}",
    "a picture of {0}",
    "an image of {0}",
    "a close-up of {0}",
    "a view of {0}",
    "a shot showing {0}",
    "{0}",
    "{0}",
    "{0} in the middle of the picture",
    "here {is} {0}",
    "there {is} {0}",
    "look at {this} {name}",
    "the {name}",
    "{name}",
    "my {name}",
)
_TWO = (
    "{0} and {1}",
    "{0} with {1}",
    "{0} next to {1}",
    "{0} beside {1}",
    "{0}, and {1} too",
    "a photo of {0} and {1}",
    "a picture of {0} with {1}",
    "there {is} {0}, and also {1}",
    "here {is} {0} near {1}",
)
_MANY = (
    "{list}",
    "a photo of {list}",
    "a picture of {list}",
    "an image with {list}",
    "there are {list}",
    "here are {list}",
    "a scene with {list}",
    "you can see {list}",
    "several things: {list}",
    "{list} in one picture",
    "{0} surrounded by {rest}",
    "{0} together with {rest}",
    "{0} next to {rest}",
)


def write_caption(names: Sequence[Sequence[str]], draws: Draws, *, mode: Captions = "all") -> str:
    """Write a caption, in lower case but for proper names as the source has them.

    Args:
        names: for each thing in the scene its label and synonyms, the most salient thing first.
        draws: where the random decisions come from.
        mode: "all" names everything in random order; "salient" the first thing alone, in one of five captions the
            second too.

    Raises:
        ValueError: when there is nothing to name, or `mode` is neither.

    Example:
        >>> write_caption([["dog", "hound"], ["apple"]], Draws(np.random.default_rng(0)))
        'a dog beside an apple'
    """
    if not names:
        raise ValueError("A caption needs at least one thing to name.")
    if mode == "salient":
        names = names[: 2 if draws.chance(_TWO_NAMED) else 1]
    elif mode != "all":
        raise ValueError(f"`mode` must be 'salient' or 'all', got {mode!r}.")
    chosen = [own[0] if draws.chance(_LABEL_SHARE) else draws.choice(own) for own in draws.shuffled(names)]
    things = [with_article(name, "some" if draws.chance(0.4) else "") for name in chosen]
    template = draws.choice(_ONE if len(things) == 1 else _TWO if len(things) == 2 else _MANY)
    if template.endswith("{name}") and (chosen[0] in _BARE or chosen[0] in _DEFINITE):
        template = "{0}"
    return template.format(
        *things,
        name=chosen[0],
        list=_enumerate(things, draws),
        rest=_enumerate(things[1:], draws),
        **({"is": "are", "this": "these"} if is_plural(chosen[0]) else {"is": "is", "this": "this"}),
    )


def with_article(name: str, some: str = "some") -> str:
    """The name with "a" or "an", or, when it is plural or cannot be counted, with `some`.

    Example:
        >>> [with_article(name) for name in ("apple", "unicorn", "hourglass", "pair of skis", "skis", "milk")]
        ['an apple', 'a unicorn', 'an hourglass', 'a pair of skis', 'some skis', 'some milk']
    """
    if name in _BARE:
        return name
    if name in _DEFINITE:
        return f"the {name}"
    if is_plural(name) or _is_uncountable(name):
        return f"{some} {name}".lstrip()
    has_vowel = _VOWEL_SOUND.match(name) and not _CONSONANT_SOUND.match(name)
    return f"{'an' if has_vowel else 'a'} {name}"


def is_plural(name: str) -> bool:
    """Whether a noun phrase takes "are": "skis" and "strips of bacon", not "bus" or "pair of skis"."""
    head = _head(name)
    return head in _PLURALS or (head.endswith("s") and not _SINGULAR_IN_S.search(head))


def _is_uncountable(name: str) -> bool:
    return name in _UNCOUNTABLE_PHRASES or (_head(name) in _UNCOUNTABLE and " of " not in name)


def _head(name: str) -> str:
    """The word that decides the number: the last one before "of", "with", "in", and the like."""
    return re.split(r" (?:of|with|in|on|from|without) ", name, maxsplit=1)[0].rpartition(" ")[2]


def _enumerate(things: Sequence[str], draws: Draws) -> str:
    if len(things) < 2:
        return "".join(things)
    last = draws.choice((" and ", ", and ", " and ") if len(things) > 2 else (" and ",))
    return ", ".join(things[:-1]) + last + things[-1]


__all__ = ["Captions", "is_plural", "with_article", "write_caption"]
