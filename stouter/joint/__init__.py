"""Joint samples: noise that depends on the place and the day before, so that sums over a city have the right bands."""

from .calibration import calibrate_field, generate_joint
from .field import LatentField, draw_noise
from .inversion import integrate_noise, invert_days
from .references import bootstrap_stretches, gaussian_copula, schaake_shuffle

__all__ = [
    "LatentField",
    "bootstrap_stretches",
    "calibrate_field",
    "draw_noise",
    "gaussian_copula",
    "generate_joint",
    "integrate_noise",
    "invert_days",
    "schaake_shuffle",
]
