"""What gradients do on their way back in time: fade, grow, or are cut."""

from fusedrnn.tasks.gradients.errors import GradientError
from fusedrnn.tasks.gradients.spectrum import Spectrum, spectra
from fusedrnn.tasks.gradients.states import StateGradients, state_gradients

__all__ = ["GradientError", "Spectrum", "StateGradients", "spectra", "state_gradients"]
