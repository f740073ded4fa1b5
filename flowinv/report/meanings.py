"""One sentence of meaning for every number that a report shows."""

from typing import NamedTuple

__all__ = ["METRICS", "Meaning"]


class Meaning(NamedTuple):
    """How a number is called in a table, and what it says.

    Attributes:
        label: column heading.
        sentence: its meaning, with the value that would be perfect.
    """

    label: str
    sentence: str


METRICS: dict[str, Meaning] = {
    "round_simulations": Meaning(
        "simulations",
        "Simulations of this and all earlier rounds, failed ones included.",
    ),
    "round_used": Meaning(
        "rows used",
        "Simulations that the round's network learned from: those that lie where its "
        "proposal looked.",
    ),
    "mass_outside": Meaning(
        "outside",
        "Share of the posterior outside the region that the round drew from (for a "
        "box: pressed against its faces); above 0.1 % the next region is larger.",
    ),
    "unsimulated": Meaning(
        "unseen",
        "Share of the posterior beyond all parameters that were simulated.",
    ),
    "sample_efficiency": Meaning(
        "efficiency",
        "Effective share of the round's simulations when weighted to the posterior "
        "after it; grows as proposals close in.",
    ),
    "waste": Meaning(
        "waste",
        "By how many nats the posterior is smaller than the Gaussian around it: the "
        "room that a box around it wastes; above 0.7 (two modes, a crescent) the "
        "default region of the next round is the highest-density one.",
    ),
    "round_distance": Meaning(
        "moved",
        "Largest distance (Wasserstein-1) of any parameter's marginal from the last "
        "round's, in standard deviations; small and steady means converged.",
    ),
    "train_loss": Meaning(
        "training loss",
        "Mean of -log q(theta | x) over the simulations trained on; lower is better, "
        "and only differences count.",
    ),
    "validation_loss": Meaning(
        "validation loss",
        "The same loss on simulations held out of training; a gap to the training "
        "loss is overfitting.",
    ),
    "gradient_norm": Meaning(
        "gradient norm",
        "Length of the loss gradient before clipping; spikes mark unsteady training.",
    ),
    "out_of_range": Meaning(
        "out of range",
        "Share of values beyond the interval on which the spline bends, where the "
        "flow is linear; near 0 is good.",
    ),
    "rmse": Meaning(
        "RMSE",
        "Root mean squared difference of estimate and truth, in the parameter's "
        "unit; 0 is perfect, noise in the scan sets the floor.",
    ),
    "r2": Meaning(
        "R²",
        "Share of the parameter's variance that the estimate explains; 1 is "
        "perfect, 0 no better than a constant.",
    ),
    "bias": Meaning(
        "bias",
        "Mean of estimate minus truth, in the parameter's unit; 0 is unbiased.",
    ),
    "c2st_mlp": Meaning(
        "C2ST (MLP)",
        "Held-out accuracy of a neural classifier that tells the model's draws from "
        "exact ones; 0.5 is indistinguishable, 1.0 disjoint.",
    ),
    "c2st_forest": Meaning(
        "C2ST (forest)",
        "Held-out accuracy of a random forest that tells the model's draws from exact "
        "ones; 0.5 is indistinguishable, 1.0 disjoint.",
    ),
    "prdc_precision": Meaning(
        "PRDC precision",
        "Share of the model's draws that lie where exact draws lie; near 1 means "
        "nothing invented.",
    ),
    "prdc_recall": Meaning(
        "PRDC recall",
        "Share of exact draws that lie where the model's draws lie; near 1 means "
        "nothing forgotten.",
    ),
    "prdc_density": Meaning(
        "PRDC density",
        "How densely exact draws surround the model's draws; 1 is equal, below 1 too "
        "spread out, above 1 too concentrated.",
    ),
    "prdc_coverage": Meaning(
        "PRDC coverage",
        "Share of the exact draws' neighbourhoods that hold a draw of the model; "
        "1 - 2⁻ᵏ (0.97 at k = 5) is the value for equal posteriors.",
    ),
    "mmd_squared": Meaning(
        "MMD²",
        "Unbiased kernel distance between the model's and the exact draws; 0 on "
        "average for equal posteriors.",
    ),
    "largest_mean_shift": Meaning(
        "largest |mean shift|",
        "Largest distance, over parameters, of the posterior mean from the exact "
        "mean, in exact standard deviations; 0 is right.",
    ),
    "smallest_sd_ratio": Meaning(
        "smallest sd ratio",
        "Smallest ratio, over parameters, of posterior to exact standard deviation; 1 "
        "is right, below 1 overconfident.",
    ),
    "largest_sd_ratio": Meaning(
        "largest sd ratio",
        "Largest ratio, over parameters, of posterior to exact standard deviation; 1 "
        "is right, above 1 cautious.",
    ),
    "chi2_p": Meaning(
        "SBC χ² p",
        "Chance of rank histograms at least this uneven if the posterior is right; "
        "tiny values disprove it.",
    ),
    "chi2_p_holm": Meaning(
        "χ² p (Holm)",
        "The same after correcting for testing every parameter; below 0.01 the "
        "posterior is called miscalibrated.",
    ),
    "ks_p": Meaning(
        "SBC KS p",
        "Chance of a rank distribution at least this far from uniform "
        "(Kolmogorov-Smirnov) if the posterior is right.",
    ),
    "interval_coverage": Meaning(
        "50, 90, 95 % interval",
        "Share of held-out simulations whose true value lies in the central "
        "interval of that level, ± one binomial standard deviation; it should equal "
        "the level.",
    ),
    "z_score": Meaning(
        "z",
        "Observed minus promised coverage in binomial standard deviations; beyond "
        "±3 is no accident, negative is overconfident.",
    ),
    "truth": Meaning("truth", "The value that the scan was simulated with."),
    "posterior": Meaning(
        "median",
        "Half of the posterior's draws lie below it: the answer if one number must do.",
    ),
    "interval_68": Meaning(
        "68 % interval",
        "Central interval that holds the parameter with 68 % probability, given this "
        "scan (the counterpart of ± one standard error).",
    ),
    "interval_95": Meaning(
        "95 % interval",
        "The same with 95 % probability.",
    ),
    "exact": Meaning(
        "exact posterior",
        "What a model without any error would answer, from the likelihood itself.",
    ),
    "fit": Meaning(
        "classical fit",
        "Least-squares value and its reported error, as scans are read today.",
    ),
}
