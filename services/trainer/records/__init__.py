"""What MLflow holds: runs, and the versions of policies."""
