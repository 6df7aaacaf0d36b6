"""What a layout will send and hold, by formula, before anything runs."""
