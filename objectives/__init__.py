"""What trains and reports: the training side, which knows neither Optuna nor Ray nor MLflow."""
