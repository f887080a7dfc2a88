"""`viewstamp soak`: real processes behind a network that fails, for as long as one likes."""
