"""The error of the forecasting layer."""

from __future__ import annotations

from fusedrnn.errors import UserError


class SeriesError(UserError, ValueError):
    """A file, series or setting that cannot be forecast as asked; a file's names line and column."""
