"""How to train: a frozen config, its checks, its optimizer."""

import math
from dataclasses import dataclass

import optax
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_known, check_positive, fail

__all__ = ["SCHEDULES", "TrainConfig", "learning_rate", "make_optimizer"]

SCHEDULES = ("constant", "cosine")
DRIVERS = ("auto", "scan", "step")
# Passes over a fixed set at least, and steps that few rows are given.
LEAST_EPOCHS, LEAST_STEPS = 20, 1_500
# Steps of an epoch of a thousand rows. Of more rows steps grow with their number to
# the power GROWTH: with 10,000 simulations 60 passes were better than 20 on sir (C2ST
# .56, .59), two_moons (.52, .54), lotka_volterra (.84, .88), .014 off at most on five.
FEW_STEPS, GROWTH = 14, 0.75
# With the running mean of the parameters, small batches and a rate of 2e-3 a few
# thousand rows are learned better, and faster, than with 256, 1e-3 and no mean.
FIXED_ROWS, FRESH_ROWS = 64, 256


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run.

    Attributes:
        batch_size: rows per step; 0 takes 64 of a fixed set and 256 where every step
            simulates anew.
        max_epochs: passes over a fixed set; 0 takes as many as make 1,500 steps of a
            thousand rows (108 passes) or fewer, and with more rows n as many as
            n^(-1/4) says: 61 of 10,000, 34 of 100,000, never below 20. The schedule
            runs over all of them: a rate that falls to its end within few epochs
            overfits less than a high one that is stopped early. Not used with fresh
            simulations.
        num_steps: steps with fresh simulations; not used with a fixed set.
        learning_rate: peak rate of AdamW.
        schedule: "cosine" to 1 % of the peak over the whole run, or "constant".
        warmup_steps: linear ramp at the start.
        weight_decay: AdamW's.
        clip_norm: largest global gradient norm.
        patience: epochs of a fixed set without a better validation loss before
            stopping; 0 never stops. Fresh simulations cannot be overfitted: there the
            schedule runs to its end.
        validation_share: share of a fixed set held out.
        num_validation: fresh simulations held out in fresh mode.
        steps_per_epoch: steps between validations in fresh mode.
        ema_decay: decay of the running mean of the parameters that is validated and
            returned; 0 turns it off. Of more than 400,000 weights it takes every
            fourth step, with the decay of four.
        num_members: networks of the ensemble, trained as one vmapped program.
        driver: "scan" runs an epoch as one program, "step" one step at a time, with
            the same numbers; "auto" takes "step" for wide networks on a CPU.
        checkpoint_seconds: least time between two checkpoints.
    """

    batch_size: int = 0
    max_epochs: int = 0
    num_steps: int = 6_000
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup_steps: int = 100
    weight_decay: float = 1e-5
    clip_norm: float = 5.0
    patience: int = 20
    validation_share: float = 0.1
    num_validation: int = 4_096
    steps_per_epoch: int = 200
    ema_decay: float = 0.99
    num_members: int = 1
    driver: str = "auto"
    checkpoint_seconds: float = 5.0

    def rows(self, fresh: bool = False) -> int:
        """Rows of a step, of a fixed set or of fresh simulations."""
        return self.batch_size or (FRESH_ROWS if fresh else FIXED_ROWS)

    def epochs(self, steps: int) -> int:
        """Epochs of `steps` steps that a fixed set is trained for at most."""
        total = LEAST_STEPS * max(1.0, steps / FEW_STEPS) ** GROWTH
        return self.max_epochs or max(LEAST_EPOCHS, math.ceil(total / steps))

    def check(self) -> None:
        """Raise one line for the first field out of its range.

        Raises:
            ValueError: what, expected, got.
        """
        for name in ("learning_rate", "clip_norm"):
            check_positive(name, getattr(self, name))
        for name in ("num_steps", "steps_per_epoch"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("batch_size", self.batch_size, 0)
        check_at_least("max_epochs", self.max_epochs, 0)
        for name in ("warmup_steps", "weight_decay", "patience", "checkpoint_seconds"):
            check_at_least(name, getattr(self, name), 0)
        check_at_least("num_members", self.num_members, 1)
        check_at_least("num_validation", self.num_validation, 2)
        check_known("schedule", self.schedule, SCHEDULES)
        check_known("driver", self.driver, DRIVERS)
        if not 0 < self.validation_share < 1:
            fail("validation_share", "between 0 and 1", self.validation_share)
        if not 0 <= self.ema_decay < 1:
            fail("ema_decay", "at least 0 and below 1", self.ema_decay)


def learning_rate(config: TrainConfig, total_steps: int) -> optax.Schedule:
    """Rate by step: a linear ramp, then the schedule over what is left."""
    peak, ramp = config.learning_rate, min(config.warmup_steps, total_steps // 2)
    if config.schedule == "constant":
        tail = optax.constant_schedule(peak)
    else:
        tail = optax.cosine_decay_schedule(peak, max(total_steps - ramp, 1), alpha=0.01)
    if not ramp:
        return tail
    warm = optax.linear_schedule(peak / ramp, peak, ramp)
    return optax.join_schedules([warm, tail], [ramp])


def make_optimizer(
    config: TrainConfig, total_steps: int, longer: ArrayLike = 1
) -> optax.GradientTransformation:
    """AdamW behind clipping by the global norm.

    Args:
        config: settings.
        total_steps: steps that the rate's schedule is laid out for.
        longer: how many times as many are taken; may be traced.
    """
    rate = learning_rate(config, total_steps)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(lambda step: rate(step / longer), weight_decay=config.weight_decay),
    )
