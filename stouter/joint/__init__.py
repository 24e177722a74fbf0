"""Joint samples: noise that depends on the place and the day before, so that sums over a city have the right bands."""

from .calibration import calibrate_field, generate_joint
from .field import LatentField, draw_noise
from .inversion import integrate_noise, invert_days

__all__ = [
    "LatentField",
    "calibrate_field",
    "draw_noise",
    "generate_joint",
    "integrate_noise",
    "invert_days",
]
