import site
import sys

print(site.ENABLE_USER_SITE, site.USER_SITE, site.USER_BASE, site.PREFIXES, sys.prefix, sys.exec_prefix)
print(sys.warnoptions, sys._xoptions, sys.flags, sys.dont_write_bytecode, sys.pycache_prefix)
print(exit, quit, copyright.__class__, sorted(vars(__builtins__)))
