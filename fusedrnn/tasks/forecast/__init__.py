"""Forecasting of series: from a file of numbers to forecasts with their errors and intervals."""

from fusedrnn.tasks.forecast.errors import SeriesError
from fusedrnn.tasks.forecast.floors import Autoregression, persistence, seasonal
from fusedrnn.tasks.forecast.forecaster import Forecast, Forecaster
from fusedrnn.tasks.forecast.judge import Judged, judge
from fusedrnn.tasks.forecast.series import Columns, Series, from_values, read_csv
from fusedrnn.tasks.forecast.settings import Settings
from fusedrnn.tasks.forecast.split import split
from fusedrnn.tasks.forecast.task import ForecastTask

__all__ = [
    "Autoregression",
    "Columns",
    "Forecast",
    "ForecastTask",
    "Forecaster",
    "Judged",
    "Series",
    "SeriesError",
    "Settings",
    "from_values",
    "judge",
    "persistence",
    "read_csv",
    "seasonal",
    "split",
]
