"""Training: one loop, its checkpoints and its progress, for every task."""

from fusedrnn.train.task import Step, Task

__all__ = ["Step", "Task"]
