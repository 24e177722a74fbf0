"""Training of denoisers: batches, state and checkpoint, the loop, the generator, and distillation."""

from .batches import make_generator
from .distillation import TeacherSamples, distill, energy_loss, sample_teacher, select_conditions
from .generator import DiffusionGenerator
from .state import TrainingArguments, TrainState, ValidationLoss, read_checkpoint
from .trainer import DiffusionTask, TrainingTask, fit, launch, train

__all__ = [
    "DiffusionGenerator",
    "DiffusionTask",
    "TeacherSamples",
    "TrainState",
    "TrainingArguments",
    "TrainingTask",
    "ValidationLoss",
    "distill",
    "energy_loss",
    "fit",
    "launch",
    "make_generator",
    "read_checkpoint",
    "sample_teacher",
    "select_conditions",
    "train",
]
