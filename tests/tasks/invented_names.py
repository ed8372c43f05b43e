"""Tells apart the words of invented names."""

from peft_studio.tasks.small_world import VENUE_COLOURS, VENUE_NOUNS


def invented_words(name: str) -> list[str]:
    """The words of a name of the small world that were invented, in order."""
    known = {"The", "House", "of", *VENUE_NOUNS, *VENUE_COLOURS}
    return [word for word in name.split() if word not in known]
