"""Weights under the keys of other libraries, in both directions: `repro export` writes them, `repro eval` reads them.

In the order of reading: `layouts` says what another library calls each weight of our networks (a new one is an entry
there), `architectures` what networks there are by name, `files` reads a file, `strangers` says what a file is that
holds no plain tensors, `matching` finds the network's weights. `fitting` hands them out: what is missing, of another
shape, or left over inside the encoder is an error, since a network that is not wholly the author's gives a number that
nobody has earned; heads and other networks are left out by name. `wording` says so. `export` is the way back, to the
libraries that `libraries` names.
"""
