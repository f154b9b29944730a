"""The pictures: what data sets there are, where they are looked for, and how they become arrays and folders.

`catalogue` is the way in (list, load, prepare, verify). Behind it: `entries` says what exists, `embedded` makes those
that need no download, `layouts` reads the others as their authors lay them out, `packed` keeps decoded pictures,
`manifest` hashes.
"""
