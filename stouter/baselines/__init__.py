"""Baselines: historical average, bootstrap, Gaussian, nearest stations, VAE and TCN-GAN."""

from .one_step import OneStepGenerator, OneStepNetwork, OneStepTask
from .reference import (
    CALENDAR_BASELINES,
    EMBEDDING_BASELINES,
    Bootstrap,
    Gaussian,
    HistoricalAverage,
    NearestStations,
)
from .tcn_gan import TCNGAN
from .vae import VAE

__all__ = [
    "CALENDAR_BASELINES",
    "EMBEDDING_BASELINES",
    "TCNGAN",
    "VAE",
    "Bootstrap",
    "Gaussian",
    "HistoricalAverage",
    "NearestStations",
    "OneStepGenerator",
    "OneStepNetwork",
    "OneStepTask",
]
