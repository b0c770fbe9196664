"""What the tests of `fusedrnn forecast` share: two files of a series, and a short training."""

from __future__ import annotations

import numpy as np
from command_line import call

SMALL = ["--lags", "6", "--horizon", "4", "--hidden", "6", "--epochs", "2", "--season", "12"]


def write_files(folder):
    """sales.csv: a series of which the last six values are not known, with two covariates. plain.csv: what is known
    of it."""
    draw = np.random.default_rng(0)
    with (folder / "sales.csv").open("w") as file:
        file.write("month,sales,rain,price\n")
        for step in range(150):
            month = np.datetime64("2010-01") + step
            sales = "" if step >= 144 else f"{10 * np.sin(step * np.pi / 6) + draw.normal():.4f}"
            file.write(f"{month},{sales},{draw.normal():.4f},{step % 7}\n")
    lines = (folder / "sales.csv").read_text().splitlines()[:145]
    (folder / "plain.csv").write_text("\n".join(line.rsplit(",", 2)[0] for line in lines) + "\n")


def train(capsys, *flags, file="plain.csv", out="run"):
    """What the command returns and prints."""
    named = ["--target", "sales", "--time", "month", *SMALL, "--out", out]
    return call(capsys, "forecast", file, *named, *flags)
