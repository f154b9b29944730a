"""Data sets composed of the pictures of a classification data set: scenes to detect, cameras to recognise by."""
