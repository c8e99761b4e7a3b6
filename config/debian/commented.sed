# Comments every key of danelaw.toml, and every list of tables, for the configuration file of a package: such a file changes
# nothing, and a default that a later version changes holds. A comment has a blank behind "#", and a key has none.
#
#   sed -E -f config/debian/commented.sed config/danelaw.toml
/^(#|$|\[[^[])/!s/^/#/
