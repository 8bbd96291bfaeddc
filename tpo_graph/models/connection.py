"""How a server is reached: keys as people paste them."""

import unicodedata

from tpo_graph.errors import ConfigurationError

_AROUND = " \t\r\n\v\f\0\ufeff\u200b\u00a0'\"`“”‘’„«»"
"""What comes along when a key is copied or read from a file, and is part of no key."""


def clean_key(key: str, what: str) -> str:
    """An API key without the line ends, blanks and quotes around it.

    Args:
        what: what to call it in the error, such as "OPENAI_API_KEY".

    Raises:
        ConfigurationError: it holds a character that no HTTP header can carry.
    """
    cleaned = key.strip(_AROUND)
    for position, character in enumerate(cleaned, 1):
        if not "\x20" <= character <= "\x7e":
            named = unicodedata.name(character, f"U+{ord(character):04X}")
            raise ConfigurationError(
                f"the API key in {what} holds a character that no key has: {named}, at position "
                f"{position} of {len(cleaned)}. Copy the key anew."
            )
    return cleaned
