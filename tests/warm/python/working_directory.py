import os
import sys

print(os.getcwd(), sorted(os.listdir()), sorted(os.listdir("/tmp")))
os.chdir("/tmp")
import beside

print(beside.__file__)
