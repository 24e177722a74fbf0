"""Denoisers of section 5.3: STUnet and DiffWave, their layers, fusions of the condition, classifier-free guidance."""

from .attention import LinearAttention, MultiHeadAttention
from .covariates import CovariateEmbedding
from .diffwave import DILATION_CYCLES, DiffWave
from .fusion import (
    FUSIONS,
    ConcatFusion,
    CrossAttentionFusion,
    DecoupledFusion,
    Fusion,
    GateFusion,
    WeightFusion,
)
from .guidance import EmbeddedCondition, classifier_free_guidance, drop_condition
from .layers import RandomFourierFeatures
from .stffm import STFFM, TimestepEmbedding
from .stunet import ConditionLike, Denoiser, STUnet

__all__ = [
    "DILATION_CYCLES",
    "FUSIONS",
    "ConcatFusion",
    "ConditionLike",
    "CovariateEmbedding",
    "CrossAttentionFusion",
    "DecoupledFusion",
    "Denoiser",
    "DiffWave",
    "EmbeddedCondition",
    "Fusion",
    "GateFusion",
    "LinearAttention",
    "MultiHeadAttention",
    "RandomFourierFeatures",
    "STFFM",
    "STUnet",
    "TimestepEmbedding",
    "WeightFusion",
    "classifier_free_guidance",
    "drop_condition",
]
