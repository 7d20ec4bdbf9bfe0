import sys
import traceback

print(sys.exc_info(), hasattr(sys, "last_value"))
try:
    1 / 0
except ZeroDivisionError as error:
    print(error.__context__, error.__traceback__.tb_frame.f_back)
    print(traceback.format_exc())
    print(traceback.format_stack())
