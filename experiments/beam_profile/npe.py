"""Today's defaults: amortised inversion of the beam profile, measured.

command  python experiments/beam_profile/npe.py [fresh | 10000 | 100000 | ...]
         (--references DIR scores on obs_<k>.npz of that folder; every other flag of
         flowinv run)
device   CPU, GPU or TPU, unchanged
time     2 cores, training: fresh 4 to 6 minutes a flow, 10,000 11 and 17 s; all of
         10,000 with held-out simulations, MAP and scores 9.5 minutes
score    mean forest C2ST, cINN / spline: fresh, 20,000 steps 0.51 / 0.51; 10,000
         simulations 0.57 / 0.58; 100,000 0.52 / 0.53
"""

from config import npe

from flowinv.cli import experiment

if __name__ == "__main__":
    # The number of simulations decides network and ensemble: it comes first.
    experiment(npe, "fresh")
