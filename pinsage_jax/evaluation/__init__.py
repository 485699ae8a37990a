"""How good item vectors are, and the baselines that they are compared with."""
