import sys

print("sitecustomize" in sys.modules, "usercustomize" in sys.modules)
import usercustomize

print(usercustomize.__file__)
