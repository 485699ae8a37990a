"""Items that came after training, and how answers are shown."""
