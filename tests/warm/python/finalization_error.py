import sys

sys.unraisablehook = lambda unraisable: print(unraisable.exc_value, unraisable.exc_traceback.tb_frame.f_back)


class Loud:
    def __del__(self):
        raise ValueError("in a finalizer")


kept = Loud()
print("body")
