"""The prompts that every setting is asked: the same in each run, no two of which start the same.

Half of them are questions, a quarter has a text to sum up, a quarter one to copy: a long prompt stops the other slots
while it is read, and speculation guesses from what was written before, so an answer that quotes is where it can win.
"""

from random import Random

SEED = 12
WHO = ("The miller", "A young doctor", "My neighbour", "The captain", "An old teacher", "The gardener", "Her brother")
DID = ("carried", "repaired", "painted", "sold", "described", "forgot", "counted", "found", "wrapped", "drew")
WHAT = ("a wooden boat", "three lamps", "the red door", "two letters", "a basket of pears", "the clock", "a map")
WHERE = ("by the river", "behind the station", "in the market", "near the old bridge", "on the hill", "at the harbour")
WHEN = ("before the storm", "on Monday", "in early spring", "after the concert", "at noon", "while it snowed")
TOPICS = ("rivers", "bread", "the moon", "trains", "music", "bees", "glass", "winter", "chess", "salt", "maps", "rain")
SENTENCES = (4, 12)  # of a text: 50 to 150 words


def prompt(number: int) -> str:
    """Return the prompt with this number."""
    chance = Random(f"{SEED} {number}")  # noqa: S311 - to be the same each time is what it is for
    kind = number % 4
    if kind in (0, 2):
        return f"{number}. Tell me about {chance.choice(TOPICS)}."
    wish = "Sum up this text in three sentences" if kind == 1 else "Copy this text word for word"
    return f"{number}. {wish}: {_text(chance)}"


def _text(chance: Random) -> str:
    parts = (WHO, DID, WHAT, WHERE, WHEN)
    return " ".join(" ".join(chance.choice(words) for words in parts) + "." for _ in range(chance.randint(*SENTENCES)))
