"""The error that the user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Something given (a file, a flag, a setting) that cannot serve.

    The message is one line that says what was expected and what came; the `fusedrnn` command
    prints it and exits with 1. Subclasses also derive from ValueError or RuntimeError.
    """
