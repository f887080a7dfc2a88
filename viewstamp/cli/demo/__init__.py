"""`viewstamp demo`: real replica processes, a counter, and two failures of the primary while clients count."""
