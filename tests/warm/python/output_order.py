import os
import sys

sys.stdout.write("buffered ")
sys.stderr.write("error at once ")
os.write(1, b"direct ")
print("line")
sys.stdout.flush()
os.write(1, b"last\n")
os.dup2(1, 2)
print("after dup")
raise ValueError("joins the output")
