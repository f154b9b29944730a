"""From a plan to its tasks, and what becomes of them."""
