# Run by cpack: a package has a maintainer to whom one can write (Debian Policy, 5.6.2).
if(NOT CPACK_PACKAGE_CONTACT MATCHES "^[^<>]+ <[^<>@ ]+@[^<>@ ]+[.][^<>@ ]+>$")
  message(FATAL_ERROR
    "The packages' maintainer '${CPACK_PACKAGE_CONTACT}' is no name with an address to write to, which a Debian "
    "package must have. Configure with -DSYNCBN_CONTACT='NAME <ADDRESS>', or set DEBFULLNAME and DEBEMAIL.")
endif()
