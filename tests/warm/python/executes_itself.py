import os
import sys

if len(sys.argv) < 3:
    os.execv(sys.executable, [sys.executable, *sys.argv, "more"])
print(sys.argv, sys._getframe().f_back)
