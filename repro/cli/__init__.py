"""The command line. `grammar` says what may be typed, `commands` what each command does, `dispatch` leads from one to
the other, `tables` prints what there is."""
