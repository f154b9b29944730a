"""The pictures: what data sets there are, where they are looked for, and how they become arrays and folders.

`catalogue` is the way in (what exists, load, prepare, verify). Behind it: `embedded` makes the data sets that need no
download, `layouts` reads the others as their authors lay them out, `packed` keeps decoded pictures, `manifest` hashes.
"""
