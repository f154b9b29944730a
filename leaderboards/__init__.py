"""Claims, published records, and the code that turns records into boards and verdicts."""
