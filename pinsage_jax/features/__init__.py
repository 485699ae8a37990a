"""Feature columns, their statistics, and the tables that an encoder reads."""
