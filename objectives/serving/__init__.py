"""What registered models are served by; each file is copied into models as it stands."""
