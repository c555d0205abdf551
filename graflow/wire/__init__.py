"""What travels between processes: values (``codec``), messages, and the names of functions."""
