"""Which words of a name the small world invented, for the tests of what is built on such names."""

from peft_studio.tasks.small_world import VENUE_COLOURS, VENUE_NOUNS

_KNOWN = {"The", "House", "of", *VENUE_NOUNS, *VENUE_COLOURS}


def invented_words(name: str) -> list[str]:
    """The invented words of a name, in order."""
    return [word for word in name.split() if word not in _KNOWN]
