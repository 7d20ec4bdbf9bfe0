import sys

sys.stderr.write("\udcff ü\n")
raise ValueError("\udcff")
