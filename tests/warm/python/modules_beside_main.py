import json
import random
import socket
import this_one

print(socket.here, random.here, json.here, this_one.here)
