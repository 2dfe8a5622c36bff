"""The attributes of an object with slots, in both forms: a compiled class has no ``__slots__``."""


def attributes_of(value: object) -> list[str]:
    """Return the names of what can be set."""
    names = (name for name in dir(value) if not name.startswith("__"))
    return [name for name in names if _is_settable(value, name)]


def _is_settable(value: object, name: str) -> bool:
    try:
        setattr(value, name, getattr(value, name))
    except AttributeError:  # a property, or a method
        return False
    return True
