"""The pictures: what data sets there are, where they come from, how they lie on disk, and how they become arrays.

In the order of reading: `types` are the shapes in which data leaves this room, `data_sets` what data sets there are,
`origins` where each comes from (`archives` are the official ones of CIFAR, `embedded` makes those that need no
download), `layouts` how their files lie. On these stand the five ways in: `inventory` (what is there), `standing` (what
is missing and may be downloaded), `preparing` (generate or decode once), `loading` (what stages call), `verifying`.
Below them: `decoding` makes pixels of one picture, `packed` keeps those of many, `cache` builds its folders whole,
`manifest` hashes files, `download` brings one file and is called by nobody in this room. `listing` tells what lies in a
folder, `names` what a name tells, `account` says what is taken of a user's own pictures.

A new data set is an entry; a new layout a module in `layouts` and a row in its table.
"""
