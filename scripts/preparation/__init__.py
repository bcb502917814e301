"""From official releases of data sets to label files, crops and shards; each set has its ``scripts/prepare_*.py``."""
