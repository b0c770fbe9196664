"""Training: one loop, its checkpoints and its progress, for every task."""

from fusedrnn.train.checkpoint import CheckpointError
from fusedrnn.train.folder import RunExistsError, RunFolder
from fusedrnn.train.loop import train
from fusedrnn.train.progress import Progress
from fusedrnn.train.saver import ResumeError, SaveError
from fusedrnn.train.settings import Settings, SettingsError
from fusedrnn.train.task import Step, Task
from fusedrnn.train.trainer import Result, Trainer
from fusedrnn.train.watch import DivergedError, Update

__all__ = [
    "CheckpointError",
    "DivergedError",
    "Progress",
    "Result",
    "ResumeError",
    "RunExistsError",
    "RunFolder",
    "SaveError",
    "Settings",
    "SettingsError",
    "Step",
    "Task",
    "Trainer",
    "Update",
    "train",
]
