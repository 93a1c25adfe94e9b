"""Models that fork and join by themselves, in the published formats, and their serial twin."""
