"""The method registry. Adding a method: one file that defines a ``Method``, and one line here."""

from peft_studio.errors import ConfigError, did_you_mean
from peft_studio.methods.base import Method, Paper, Params

# METHODS is filled below; order is the order in the form.
METHODS: dict[str, Method] = {}


def get_method(name: str) -> Method:
    """Looks a method up.

    Raises:
        ConfigError: No method has this name.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise ConfigError(
            f"There is no method {name!r}. {did_you_mean(name, METHODS)}", "method.name"
        ) from None


__all__ = ["METHODS", "Method", "Paper", "Params", "get_method"]
