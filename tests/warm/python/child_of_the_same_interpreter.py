import subprocess
import sys

code = "import sys, os; print(sys.path, sorted(sys.modules), sorted(os.environ), os.listdir('/proc/self/fd'))"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True))
