"""Where items come from: files, data sets, and a generated world of pins."""
