import os
import sys

print("once", flush=True)
if os.fork() == 0:
    print("child", sys._getframe().f_back)
    sys.exit(5)
print(os.wait()[1])
