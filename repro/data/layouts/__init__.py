"""How data sets lie on disk: `layout` says what a layout is, `table` names all, one module holds each family."""
