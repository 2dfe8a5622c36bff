"""The monstermq command: everything one configuration asks for, in one process."""
