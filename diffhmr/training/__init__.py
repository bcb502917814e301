"""Training: the one loop, its data order, its log, several processes, and fits as supervision."""
