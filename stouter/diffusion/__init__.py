"""Diffusion of section 5: schedules, forward and reverse process, samplers, prediction targets and losses."""

from .dpm_solver import FINAL_NOISE_VARIANCE, integrate_dpmpp_2m, sample_dpmpp_2m
from .forward import (
    SCHEDULES,
    Generators,
    NoisePredictor,
    NoiseSchedule,
    cosine_schedule,
    linear_schedule,
    q_sample,
    randn_tensor,
    rescaled_linear_schedule,
    respace,
)
from .objective import LOSSES, OBJECTIVES, EpsilonPrediction, Objective, PaperPrediction, VPrediction
from .reverse import SAMPLERS, ddim_step, ddpm_step, q_posterior, sample_ddim, sample_ddpm

__all__ = [
    "FINAL_NOISE_VARIANCE",
    "LOSSES",
    "OBJECTIVES",
    "SAMPLERS",
    "SCHEDULES",
    "EpsilonPrediction",
    "Generators",
    "NoisePredictor",
    "NoiseSchedule",
    "Objective",
    "PaperPrediction",
    "VPrediction",
    "cosine_schedule",
    "ddim_step",
    "ddpm_step",
    "integrate_dpmpp_2m",
    "linear_schedule",
    "q_posterior",
    "q_sample",
    "randn_tensor",
    "rescaled_linear_schedule",
    "respace",
    "sample_ddim",
    "sample_ddpm",
    "sample_dpmpp_2m",
]
