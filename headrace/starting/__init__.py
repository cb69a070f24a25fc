"""What options of `headrace up` say beside the settings."""
