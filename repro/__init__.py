"""The hall: command line, plan, stages, data and records. The only package that knows all the others."""
