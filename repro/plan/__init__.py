"""From a request to a graph of jobs, without torch and without reading a picture."""
