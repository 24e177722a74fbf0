"Metrics of generated traffic, their goals, score cards over seeds, and the forecasting case study."

from .calibration import interval_coverage, interval_width, max_coverage, pit_error, pit_histogram
from .forecasting import (
    Forecaster,
    WindowDataset,
    case_study,
    forecast_errors,
    seasonal_naive,
    train_forecaster,
)
from .marginals import jsd_pooled, quantile_error, wasserstein
from .memorization import memorization_metrics
from .metrics import (
    COVERAGE_LEVELS,
    METRIC_GOALS,
    METRICS,
    PAIRED_METRICS,
    jsd_paper,
    mae,
    metric_goals,
    rmse,
    score,
)
from .proper_scores import crps, energy_score, hour_weights, variogram_score, weighted_crps
from .real_baselines import REAL_OTHER_DAY, REAL_SAME_DAY, real_baseline_rows, sample_replacement_days
from .realism import REALISM_GOALS, RealismEvaluator, n_complete_days, realism_metrics
from .score_card import Difference, ScoreCard, difference, tidy_scores, to_markdown, to_tidy
from .spatial import spatial_metrics
from .sums import dependence, midnight_jump_ratio, sum_scores
from .temporal import temporal_metrics
from .two_sample_tests import two_sample_metrics

__all__ = [
    "COVERAGE_LEVELS",
    "METRICS",
    "METRIC_GOALS",
    "PAIRED_METRICS",
    "REALISM_GOALS",
    "REAL_OTHER_DAY",
    "REAL_SAME_DAY",
    "Difference",
    "Forecaster",
    "RealismEvaluator",
    "ScoreCard",
    "WindowDataset",
    "case_study",
    "crps",
    "dependence",
    "difference",
    "energy_score",
    "forecast_errors",
    "hour_weights",
    "interval_coverage",
    "interval_width",
    "jsd_paper",
    "jsd_pooled",
    "mae",
    "max_coverage",
    "memorization_metrics",
    "metric_goals",
    "midnight_jump_ratio",
    "n_complete_days",
    "pit_error",
    "pit_histogram",
    "quantile_error",
    "real_baseline_rows",
    "realism_metrics",
    "rmse",
    "sample_replacement_days",
    "score",
    "seasonal_naive",
    "spatial_metrics",
    "sum_scores",
    "temporal_metrics",
    "tidy_scores",
    "to_markdown",
    "to_tidy",
    "train_forecaster",
    "two_sample_metrics",
    "variogram_score",
    "wasserstein",
    "weighted_crps",
]
