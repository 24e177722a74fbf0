"""Baselines: reference methods without a network, VAE, TCN-GAN and engression."""

from .engression import Engression
from .one_step import OneStepGenerator, OneStepNetwork, OneStepTask
from .quantile_boosting import SLOW_BASELINES, QuantileBoosting
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
from .tuned_reference import TUNED_BASELINES, HierarchicalGaussian, SmoothedBootstrap
from .vae import VAE

__all__ = [
    "CALENDAR_BASELINES",
    "EMBEDDING_BASELINES",
    "PLACE_BASELINES",
    "SLOW_BASELINES",
    "TCNGAN",
    "TUNED_BASELINES",
    "VAE",
    "Bootstrap",
    "Engression",
    "ForestPool",
    "Gaussian",
    "HierarchicalGaussian",
    "HistoricalAverage",
    "NearestStations",
    "OneStepGenerator",
    "OneStepNetwork",
    "OneStepTask",
    "QuantileBoosting",
    "SmoothedBootstrap",
]
