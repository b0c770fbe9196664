"""The error of the study of gradients."""

from __future__ import annotations

from fusedrnn.errors import UserError


class GradientError(UserError, ValueError):
    """A run, text or series whose gradients cannot be shown as asked."""
