"""The loops: pre-training, supervised training, feature extraction, nearest neighbours, resume."""
