"""What a run is told: settings, and functions that a config names."""
