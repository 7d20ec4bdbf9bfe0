import sys
import threading

thread = threading.Thread(target=lambda: sys.exit(4))
thread.start()
thread.join()
print("goes on")
