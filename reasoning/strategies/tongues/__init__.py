"""What runs the descriptions of `reasoning.language.native`."""
