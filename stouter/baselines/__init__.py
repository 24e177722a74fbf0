"""Baselines: historical average, bootstrap, Gaussian, nearest stations, forest pool, VAE and TCN-GAN."""

from .one_step import OneStepGenerator, OneStepNetwork, OneStepTask
from .reference import (
    CALENDAR_BASELINES,
    EMBEDDING_BASELINES,
    PLACE_BASELINES,
    Bootstrap,
    ForestPool,
    Gaussian,
    HistoricalAverage,
    NearestStations,
)
from .tcn_gan import TCNGAN
from .vae import VAE

__all__ = [
    "CALENDAR_BASELINES",
    "EMBEDDING_BASELINES",
    "PLACE_BASELINES",
    "TCNGAN",
    "VAE",
    "Bootstrap",
    "ForestPool",
    "Gaussian",
    "HistoricalAverage",
    "NearestStations",
    "OneStepGenerator",
    "OneStepNetwork",
    "OneStepTask",
]
