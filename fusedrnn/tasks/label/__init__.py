"""Classification (one label per sequence) and tagging (one label per step)."""

from fusedrnn.tasks.label.errors import LabelError
from fusedrnn.tasks.label.labeller import Labeller
from fusedrnn.tasks.label.metrics import Scores, confusion, majority_floor, word_floor
from fusedrnn.tasks.label.model import SequenceLabeller
from fusedrnn.tasks.label.tasks import ClassifyTask, LabelTask, TagTask, class_weights

__all__ = [
    "ClassifyTask",
    "LabelError",
    "LabelTask",
    "Labeller",
    "Scores",
    "SequenceLabeller",
    "TagTask",
    "class_weights",
    "confusion",
    "majority_floor",
    "word_floor",
]
