"""The error of this task; its message names the file, line and column where there is one."""

from __future__ import annotations

from fusedrnn.errors import UserError


class LabelError(UserError, ValueError):
    """A file, text or label that cannot be used as asked."""
