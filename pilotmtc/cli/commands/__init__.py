"""The commands, one file each, in the order of `pilotmtc --help`; imported when the command is used."""
