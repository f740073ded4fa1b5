"""The beam profile in rounds, observation by observation: truncated or atomic.

command  python experiments/beam_profile/apt.py --method tsnpe --references DIR
         (DIR holds obs_<k>.npz; without it the task's own observations are taken;
         --method apt and every other flag of flowinv run)
device   CPU, GPU or TPU, unchanged
time     tsnpe, 10 rounds of 1,000, 2 cores: about half a minute for an observation
score    tsnpe, observations 1, 2 and 4, mean forest C2ST 0.53
"""

from config import ROUNDS

from flowinv.cli import experiment

if __name__ == "__main__":
    experiment(ROUNDS)
