"""Where this should run: four questions, and an answer with its reasons, also when it is not EKS."""
