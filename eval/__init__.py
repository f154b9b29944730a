"""How it is judged: one module an evaluation, one file of protocols."""
