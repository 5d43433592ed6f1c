"""Command lines of `foldwork` that can be typed in a shell as they are, whatever their values."""

from __future__ import annotations

import shlex


def command_line(command: str, *arguments: str, **options: str) -> str:
    """Return a command line; `command` is `<command>` or `<group> <command>`."""
    given = [word for name, value in options.items() for word in _option(f"--{name}", value)]
    # What begins with a dash would be taken for an option.
    dashed = any(each.startswith("-") for each in arguments)
    words = [*given, "--", *arguments] if dashed else [*arguments, *given]
    return " ".join(("foldwork", command, *map(_quoted, words)))


def _option(name: str, value: str) -> list[str]:
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # As one line, and without what a terminal would act on.
    plain = "".join(f"\\{mark}" if mark in "\\'" else mark if mark.isprintable() else _octal(mark) for mark in word)
    return f"$'{plain}'"


def _octal(mark: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in mark.encode("utf-8", "replace"))
