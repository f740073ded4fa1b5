"""The slides' settings, for the cINN or the spline flow.

command  python experiments/beam_profile/slides.py [cinn | spline]
         (and every other flag of flowinv run)
device   CPU, GPU or TPU, unchanged
time     2 cores: about 20 ms a step; 30 epochs of the cINN half a minute, 100 epochs of
         the spline one and a half, for 10,000 simulations
score    10,000 simulations, spline, RMSE of the mean: 0.28, 0.24, 0.20, 0.20 grid units
         (metrics.json: spline/rmse/mean/...)
"""

from config import slides

from flowinv.cli import experiment

if __name__ == "__main__":
    # The flow decides the number of epochs: it comes first.
    experiment(slides, "spline")
