import inspect
import sys

frame = sys._getframe()
print(frame.f_back, frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno)
print(frame.f_globals is globals(), frame.f_locals is globals(), frame.f_builtins is vars(__builtins__))
print(len(inspect.stack()), inspect.stack()[0].code_context)
print(hex(frame.f_code.co_flags), frame.f_code.co_consts, frame.f_code.co_names, frame.f_code.co_firstlineno)
