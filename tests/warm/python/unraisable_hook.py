import sys

print(sys.unraisablehook is sys.__unraisablehook__)


class Loud:
    def __del__(self):
        1 / 0


sys.unraisablehook = lambda unraisable: print(type(unraisable.exc_value), unraisable.exc_traceback.tb_lineno)
Loud()
