"""An experiment: simulate, train, measure and report, resumable at every stage."""
