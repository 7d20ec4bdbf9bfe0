import os
import signal

print("lost, as it was buffered")
os.kill(os.getpid(), signal.SIGTERM)
